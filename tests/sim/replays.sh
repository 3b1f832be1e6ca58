#!/bin/sh
# SPDX-License-Identifier: MIT
# replays.sh SIM: a seed gives the same run twice, told or not, and another
# seed gives another; wrong words give the usage.
set -eu
sim=$1
for engine in model lsm mixed; do
    for seed in 1 2 3 4 5 6 7 8; do
        run="$sim --engine $engine --seed"
        first=$($run $seed)
        again=$($run $seed --trace | tail -n 1)
        other=$($run $((seed + 100)))
        test "$first" = "$again" ||
            { echo "$engine: $first"; echo "$again"; exit 1; }
        test "${first#* digest}" != "${other#* digest}" ||
            { echo "$engine: $other"; exit 1; }
    done
done
# Of many faults some, or none.
few=$($sim --seed 1 --only 2,5)
test "$few" = "$($sim --seed 1 --only 5,2)" &&
    test "$few" != "$($sim --seed 1)" || { echo "--only: $few"; exit 1; }
for words in "" "--seed" "--seed x" "--seeds 0" "--seed 1 --nodes 4" \
    "--seed 1 --engine lmdb" "--seed 1 --only" "--seed 1 --only 1,x" \
    "--seed 1 --only 0" "--seed 1 --only none,1" "--seed 1 --only 512" \
    "--seeds 2 --only 1" \
    "--seeds 2 --shrink" "--seeds 2 --record x" "--replay" "--what"; do
    code=0
    # shellcheck disable=SC2086
    "$sim" $words 2>/dev/null >&2 || code=$?
    test $code -eq 1 || { echo "sim $words: exit $code"; exit 1; }
done
