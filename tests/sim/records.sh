#!/bin/sh
# SPDX-License-Identifier: MIT
# records.sh SIM: what a host of some seeds did is recorded and does the same
# again, told or not; a file that is cut, damaged or something else is refused.
set -eu
sim=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
file=$work/flight.rec

fail() {
    echo "$*"
    exit 1
}
refused() {
    code=0
    said=$("$sim" --replay "$1" 2>&1) || code=$?
    test $code -eq 1 && test -n "$said" || fail "$2: exit $code: $said"
}

for engine in model lsm; do
    for seed in $(seq 40); do
        "$sim" --engine $engine --seed "$seed" --record "$file" > /dev/null
        said=$("$sim" --replay "$file") || fail "$engine, seed $seed: $said"
        last=$(echo "$said" | tail -n 1)
        case $last in
        "the whole of "*" events: the node did the same") ;;
        *) fail "$engine, seed $seed: $last" ;;
        esac
    done
done
told=$("$sim" --replay "$file" --trace)
test "$(echo "$told" | tail -n 1)" = "$last" || fail "--trace: another end"
events=${last#the whole of }
test "$(echo "$told" | wc -l)" -eq $((${events%% *} + 2)) ||
    fail "--trace: not a line an event"

bytes=$(stat -c %s "$file")
for size in 0 1 63 64 100 $((bytes / 2)) $((bytes - 1)); do
    head -c "$size" "$file" > "$work/cut"
    refused "$work/cut" "cut to $size"
done
cp "$file" "$work/damaged"
printf '\377' | dd of="$work/damaged" bs=1 seek=$((bytes / 3)) conv=notrunc \
    2> /dev/null
cmp -s "$file" "$work/damaged" || refused "$work/damaged" damaged
refused "$sim" "a program"
refused "$work/none" "no file"
refused "$work" "a directory"
