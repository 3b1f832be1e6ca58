#!/bin/sh
# SPDX-License-Identifier: MIT
# From a fresh clone on Debian 12 to a cluster of three nodes that loses one of
# them and not one record. As root, or with sudo.
set -eu

usage() {
    cat <<'END'
usage: ./examples/quickstart.sh [OPTION]...

Installs what is missing, builds replikv, starts three nodes on 127.0.0.1,
loads this machine's catalogue of Debian packages, kills a node, writes on,
starts it again and compares the replicas. Exit status: 0 if all of it was as
it says at the end, 1 if not, 2 usage.

  --engine NAME     lsm, leveldb, lmdb or memory; or three of them with commas
                    between, one for each node. Default: lsm
  --keep            leave the cluster up, and say how to talk to it
  --records N       load N packages only
  --catalogue FILE  load the packages of FILE, as /var/lib/dpkg/status
  --ports C,P       clients connect to the ports C1, C2 and C3, nodes to P1,
                    P2 and P3. Default: 300,400, which is 3001 and so on
  --programs DIR    use the programs in DIR; install and build nothing
END
}

engines=lsm
keep=no
records=0
catalogue=
clients=300
peers=400
programs=
data= # made by prepare, removed by clean_up

fail() {
    tail -n 5 "$data"/n?.log 2> /dev/null || true
    printf '\nquickstart: %s\n' "$*" >&2
    exit 1
}

misused() {
    printf 'quickstart: %s\n\n' "$*" >&2
    usage >&2
    exit 2
}

title() { printf '\n== %s\n' "$*"; }

# What was shown to be so, for the list at the end.
proved() { printf '%s\n' "$*" >> "$data/proved"; }

# await SECONDS WHAT COMMAND...: run the command until it succeeds.
await() {
    await_end=$(($(date +%s) + $1)) await_what=$2
    shift 2
    until "$@"; do
        [ "$(date +%s)" -lt "$await_end" ] ||
            fail "waited in vain for $await_what"
        sleep 0.2
    done
}

seconds_since() { echo $(($(date +%s) - $1)); }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# ---- the command line of this script ----

check_engines() {
    case $engines in
    *,*,*) ;;
    *,*) misused "--engine: one name or three, not $engines" ;;
    *) engines=$engines,$engines,$engines ;;
    esac
    for engine in $(echo "$engines" | tr ',' ' '); do
        case $engine in
        lsm | leveldb | lmdb | memory) ;;
        *) misused "--engine: no engine is called $engine" ;;
        esac
    done
}

check_number() {
    case $2 in
    '' | *[!0-9]*) misused "$1: that is no number" ;;
    esac
}

read_options() {
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
        --help) usage && exit 0 ;;
        --keep) keep=yes && shift && continue ;;
        --engine | --records | --catalogue | --ports | --programs) ;;
        *) misused "$option is no option" ;;
        esac
        [ $# -ge 2 ] || misused "$option needs a value"
        case $option in
        --engine) engines=$2 ;;
        --records) records=$2 ;;
        --catalogue) catalogue=$(realpath "$2") ;;
        --ports) clients=${2%,*} peers=${2#*,} ;;
        --programs) programs=$(realpath "$2") ;;
        esac
        shift 2
    done
    check_engines
    check_number --records "$records"
    check_number --ports "$clients$peers"
}

# ---- what it takes ----

build() {
    if [ -z "$programs" ]; then
        title "installing what is missing and building, which takes a while"
        ./cmake/install.sh
        cmake --preset release > /dev/null
        cmake --build --preset release --target replikvd replikv
        programs=$PWD/build/release
    fi
    began=$(date +%s)
}

# One JSON line a package: its name, and all that Debian says about it.
read_catalogue() {
    title "reading the catalogue of Debian packages"
    if [ -n "$catalogue" ]; then
        cp "$catalogue" "$data/catalogue"
    else
        apt-cache dumpavail > "$data/catalogue"
        if ! [ -s "$data/catalogue" ]; then
            as_root apt-get update -qq
            apt-cache dumpavail > "$data/catalogue"
        fi
    fi
    examples/catalogue.py records "$records" < "$data/catalogue" \
        > "$data/records"
    count=$(wc -l < "$data/records")
    [ "$count" -gt 0 ] || fail "the catalogue is empty: no package to load"
    echo "$count packages, $(($(wc -c < "$data/records") / 1000)) KB"
}

check_ports() {
    for port in "${clients}1" "${clients}2" "${clients}3" \
        "${peers}1" "${peers}2" "${peers}3"; do
        [ -z "$(ss -Hltn "sport = :$port")" ] || fail "port $port is in use by" \
            "$(ss -Hltnp "sport = :$port" | sed 's/.*users://');" \
            "stop it, or use other ports with --ports"
    done
}

# ---- nodes ----

endpoint() { echo "tcp://127.0.0.1:$clients$1"; }
engine_of() { echo "$engines" | cut -d, -f"$1"; }
pid_of() { cat "$data/n$1.pid" 2> /dev/null; }

# on "NUMBER..." COMMAND...: the command line, talking to these nodes.
on() {
    endpoints=
    for number in $1; do
        endpoints="$endpoints --endpoint $(endpoint "$number")"
    done
    shift
    # shellcheck disable=SC2086
    "$programs/replikv" $endpoints "$@"
}

# The file in examples/cluster, but for what was asked for.
configure() {
    sed -e "s|data_dir: ./data|data_dir: $data|" \
        -e "s|engine: .*|engine: $(engine_of "$1")|" \
        -e "/client:/s|:300|:$clients|" -e "/client:/!s|:400|:$peers|g" \
        "examples/cluster/node$1.yaml" > "$data/n$1.yaml"
}

# launch NUMBER [ARGUMENT]...: in a session of its own, for Ctrl-C is meant for
# this script alone.
launch() {
    number=$1
    shift
    setsid "$programs/replikvd" --config "$data/n$number.yaml" "$@" \
        2>> "$data/n$number.log" < /dev/null > /dev/null &
    echo $! > "$data/n$number.pid"
}

is_up() { kill -0 "$(pid_of "$1")" 2> /dev/null; }
is_down() { ! is_up "$1"; }

# A node that is gone has no pid, which may soon be another process's.
await_end_of() {
    await 30 "n$1 to end" is_down "$1"
    rm "$data/n$1.pid"
}

is_ready() {
    is_up "$1" || fail "n$1 ended: $(tail -n 1 "$data/n$1.log")"
    on "$1" --json status 2> /dev/null | grep -q '"ready": true'
}

# A node is ready once it has met one other, and meets the rest soon after.
knows_all() {
    [ "$(on "$1" --json members | grep -c '"state": "alive"')" -eq 3 ]
}

# ---- every way out of here ----

stop_nodes() {
    for signal in TERM KILL; do
        for number in 1 2 3; do
            ! is_up "$number" || kill -$signal "$(pid_of "$number")"
        done
        for _ in $(seq 50); do
            is_up 1 || is_up 2 || is_up 3 || return 0
            sleep 0.1
        done
    done
}

clean_up() {
    trap '' INT TERM HUP
    [ -n "$data" ] || return 0
    stop_nodes
    if [ $keep = yes ]; then
        echo "data, logs and configuration are left in $data"
    else
        rm -rf "$data"
    fi
}

# ---- the story ----

prepare() {
    mkdir -p data
    data=$PWD/$(mktemp -d data/quickstart.XXXXXX)
    check_ports
    read_catalogue
    for number in 1 2 3; do
        configure "$number"
    done
}

start_cluster() {
    title "starting three nodes, data in $data"
    for number in 1 2 3; do
        launch "$number"
    done
    for number in 1 2 3; do
        await 30 "n$number to be ready" is_ready "$number"
        await 30 "n$number to know the others" knows_all "$number"
    done
    on "1 2 3" status | awk 'NF == 0 { exit } { print }'
}

# The third replica is allowed to be a moment behind the two that a write asks
# for, so this is waited for.
hold_the_same() { on "1 2 3" digest > "$data/digest"; }

# read_back NUMBER FILE...: a dump is what that node itself holds.
read_back() {
    number=$1
    shift
    on "$number" dump > "$data/dump"
    examples/catalogue.py compare "$@" < "$data/dump"
}

load_through_n1() {
    title "loading $count packages through n1"
    on 1 load "$data/records" || fail "not every write was acknowledged"
    proved "$count records written through n1, each on at least 2 of 3 nodes"
}

read_through_n2() {
    title "reading them through n2"
    await 30 "all replicas to have all records" hold_the_same
    read_back 2 "$data/records" || fail "n2 does not hold what was written"
    proved "$count records read through n2, equal byte for byte"
}

count_hints() {
    on "$1" --json hints > "$data/hints" || return 1
    awk '/"records":/ { sum += $2 } END { print sum + 0 }' "$data/hints"
}

# One for n3 is written when the write that it missed has given it up.
are_hinted() { [ "$(count_hints "1 2")" -ge "$1" ]; }

lose_n3() {
    title "killing n3 with SIGKILL and updating every tenth package"
    kill -KILL "$(pid_of 3)"
    await_end_of 3
    examples/catalogue.py updates < "$data/records" > "$data/updates"
    updated=$(wc -l < "$data/updates")
    on "1 2" load --overwrite "$data/updates" ||
        fail "not every update was acknowledged while n3 was down"
    await 10 "a hint for each update" are_hinted "$updated"
    on "1 2" hints
    proved "$updated updated while n3 was down, a hint kept for each"
}

# An engine in memory comes back empty. An empty node that votes would deny
# what was acknowledged, so it is refused until the operator says --replace.
refuse_empty_n3() {
    title "starting n3, whose memory is empty: the others refuse it"
    launch 3
    await_end_of 3
    tail -n 1 "$data/n3.log"
    proved "n3 came back empty and was refused until it said --replace"
    title "starting n3 with --replace: it is filled before it votes"
    launch 3 --replace
}

is_filled() { on "$1" --json status | grep -q '"filling": 0\>'; }

no_hints() {
    left=$(count_hints "1 2 3") || return 1
    [ "$left" = "$shown" ] || echo "$left hints are left"
    shown=$left
    [ "$left" -eq 0 ]
}

bring_n3_back() {
    if [ "$(engine_of 3)" = memory ]; then
        refuse_empty_n3
    else
        title "starting n3 again: its hints are delivered"
        launch 3
    fi
    returned=$(date +%s) shown=''
    await 30 "n3 to be ready" is_ready 3
    await 60 "hints to be delivered" no_hints
    await 60 "n3 to be filled" is_filled 3
    took=$(($(seconds_since "$returned") + 1))
    proved "n3 came back, and within $took s all hints were delivered"
}

compare_replicas() {
    title "comparing the replicas"
    await 30 "the replicas to be the same" hold_the_same
    cat "$data/digest"
    read_back 3 "$data/records" "$data/updates" ||
        fail "n3 does not hold what was written"
    digest=$(awk '$2 == "n3" && $3 == '"$count"' { print $4 }' "$data/digest")
    [ -n "$digest" ] || fail "n3 does not hold $count records"
    proved "n3's own copy read, equal byte for byte, updates included"
    proved "n1, n2 and n3 hold the same $count records: digest $digest"
}

report() {
    title "shown on $engines in $(seconds_since "$began") seconds"
    sed 's/^/  /' "$data/proved"
}

leave_it_up() {
    cat <<END

The cluster is up. Talk to it:

  export REPLIKV_ENDPOINTS=$(endpoint 1),$(endpoint 2),$(endpoint 3)
  $programs/replikv status
  $programs/replikv get $(head -n 1 "$data/records" | cut -d'"' -f4)
  $programs/replikv put greeting hello
  $programs/replikv explain greeting
  $programs/replikv --help

Stop it, and remove its data, logs and configuration:

  kill $(pid_of 1) $(pid_of 2) $(pid_of 3)
  rm -r $data
END
    data=''
}

read_options "$@"
cd "$(dirname "$0")/.."
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
build
prepare
start_cluster
load_through_n1
read_through_n2
lose_n3
bring_n3_back
compare_replicas
report
[ $keep = no ] || leave_it_up
