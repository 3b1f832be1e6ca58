#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh [--seeds N] [NAME...]: build the simulator with each bug of the patches
# beside this file (or of these names alone), one after the other, and show
# which invariant caught it, after how many seeds, and how many of the faults
# that struck by then it takes. A patch may name what stores, in a line "Engine:
# lsm"; else it is the model. Exit status 1 if a bug survives all the seeds
# (2000), or a patch no longer applies or builds, 2 for a wrong word. Sources
# are copied; the tree is not touched.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
seeds=2000
if [ "${1:-}" = --seeds ]; then
    case ${2:-} in
    '' | *[!0-9]* | 0*)
        echo "run.sh: --seeds: \"${2:-}\", allowed is a number from 1" >&2
        exit 2
        ;;
    esac
    seeds=$2
    shift 2
fi
for name in "$@"; do
    [ -f "$here/$name.patch" ] || {
        echo "run.sh: $name: there is no $here/$name.patch" >&2
        exit 2
    }
done
[ $# -gt 0 ] || set -- $(cd "$here" && ls -- *.patch | sed 's/\.patch$//')

work=$(mktemp -d "${TMPDIR:-/tmp}/mutations.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
mkdir "$work/tree"
(cd "$root" && tar -cf - --exclude=build --exclude=.git .) |
    tar -xf - -C "$work/tree"
# What a bug leaves unused is no mistake here.
cmake -S "$work/tree" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_C_FLAGS=-Wno-error=unused-function -Wno-error=unused-parameter" \
    >/dev/null

built() {
    cmake --build "$work/build" --target sim >"$work/log" 2>&1
}

# With an engine: what the simulator says of the seed that failed, in three
# words; nothing if none did. Which seed a failed assertion is of it cannot say.
caught() {
    code=0
    sim=$(find "$work/build" -name sim -type f -perm -u+x)
    "$sim" --seeds "$seeds" --engine "$1" >"$work/out" 2>"$work/err" || code=$?
    case $code in
    0) ;;
    2 | 3)
        found=$(sed -n 's/^seed \([0-9]*\): \([a-z-]*\): .*/\2 \1/p' \
            "$work/out" | head -n 1)
        # A failed assertion of fewer faults is no number.
        needed=$("$sim" --seed "${found#* }" --engine "$1" --shrink \
            2>/dev/null |
            sed -n 's/^  of \([0-9]*\) faults \([0-9]*\) are.*/\2_of_\1/p')
        echo "$found ${needed:-?}"
        ;;
    134) echo "an-assertion ? ?" ;;
    136 | 138 | 139) echo "signal-$((code - 128)) ? ?" ;;
    *)
        echo "run.sh: the simulator ended with $code" >&2
        cat "$work/err" >&2
        return 1
        ;;
    esac
}

engine_of() {
    named=$(sed -n 's/^Engine: //p' "$here/$1.patch")
    echo "${named:-model}"
}

# One bug: a line of the table, and false if nothing caught it.
try() {
    if ! patch -d "$work/tree" -p1 -s -F0 <"$here/$1.patch" >"$work/log"; then
        printf '%-32s DOES NOT APPLY\n' "$1"
        cat "$work/log"
        exit 1
    fi
    if ! built; then
        printf '%-32s DOES NOT BUILD\n' "$1"
        cat "$work/log"
    elif ! how=$(caught "$(engine_of "$1")"); then
        how=
    elif [ -n "$how" ]; then
        # shellcheck disable=SC2086
        printf '%-32s %-20s %-12s %s\n' "$1" $how
    else
        printf '%-32s SURVIVES %s seeds\n' "$1" "$seeds"
    fi
    patch -d "$work/tree" -p1 -s -R <"$here/$1.patch"
    [ -n "$how" ]
}

built || { cat "$work/log"; exit 1; }
survived=0
printf '%-32s %-20s %-12s %s\n' "bug" "caught by" "after seeds" "faults"
for name in "$@"; do
    how=
    try "$name" || survived=$((survived + 1))
done
echo "$(($# - survived)) of $# caught"
[ $survived -eq 0 ]
