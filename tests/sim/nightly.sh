#!/bin/sh
# SPDX-License-Identifier: MIT
# nightly.sh [--seeds N] [--first N]: build the simulator as it is shipped and
# run N seeds (100000) from the first (1) on all processors, then a hundredth
# as many with LSM trees and mixed. Prints each few thousand as they are done,
# and at the end how often each fault and path occurred. Exit status 1
# if a seed failed, whose replay is printed, 2 for a wrong word.
set -eu
cd "$(dirname "$0")/../.."
seeds=100000
first=1
while [ $# -gt 0 ]; do
    case ${2:-} in
    '' | *[!0-9]* | 0* | ??????????*)
        echo "nightly.sh: $1 \"${2:-}\": a number from 1 to 999999999" >&2
        exit 2
        ;;
    esac
    case $1 in
    --seeds) seeds=$2 ;;
    --first) first=$2 ;;
    *)
        echo "nightly.sh: $1: --seeds N and --first N are known" >&2
        exit 2
        ;;
    esac
    shift 2
done

work=$(mktemp -d "${TMPDIR:-/tmp}/nightly.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
cmake --preset release >/dev/null
cmake --build --preset release --target sim >"$work/log" ||
    { cat "$work/log"; exit 1; }
cp build/release/sim "$work/sim"

# run ENGINE FIRST COUNT: one line, or the failure; false stops all.
cat >"$work/run" <<'END'
out=$WORK/$1-$2
if "$WORK/sim" --engine "$1" --first "$2" --seeds "$3" >"$out" 2>&1; then
    echo "$1: seeds $2 to $(($2 + $3 - 1)) hold"
else
    echo "$1: of seeds $2 to $(($2 + $3 - 1)):"
    grep -B 1 -A 1 -m 1 'replay: \|assertion' "$out"
    exit 255
fi
END
export WORK="$work"

# chunks ENGINE COUNT SIZE: what run is to be called with.
chunks() {
    awk -v engine="$1" -v first="$first" -v left="$2" -v size="$3" 'BEGIN {
        for (; left > 0; left -= size) {
            print engine, first, left < size ? left : size
            first += size
        }
    }'
}

{
    chunks model "$seeds" 2500
    chunks lsm $((seeds / 100)) 100
    chunks mixed $((seeds / 100)) 100
} >"$work/chunks"
if ! xargs -P "$(nproc)" -L 1 sh "$work/run" <"$work/chunks"; then
    echo "a seed failed" >&2
    exit 1
fi
# Counts of all chunks together.
cat "$work"/model-* "$work"/lsm-* "$work"/mixed-* 2>/dev/null | awk '
    /^seeds/ { seeds += $2 }
    /^simulated/ { simulated += $2 }
    /^  / { if (!($1 in sum)) order[count++] = $1; sum[$1] += $2 }
    END {
        printf "%d seeds, %d simulated seconds, no failure\n", seeds, simulated
        for (i = 0; i < count; i++)
            printf "  %-32s %12d\n", order[i], sum[order[i]]
    }'
