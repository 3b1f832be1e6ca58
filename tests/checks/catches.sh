#!/bin/sh
# SPDX-License-Identifier: MIT
# catches.sh format|length|purity: that check passes what is right and fails what
# is wrong, each wrong thing alone.
set -eu
checks=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"

passes() {
    "$@" > "$work/said" 2>&1 || {
        echo "failed what is right: $*"
        cat "$work/said"
        exit 1
    }
}
# says WORD COMMAND...: it fails, and its output has the word.
says() {
    word=$1
    shift
    if "$@" > "$work/said" 2>&1; then
        echo "passed what is wrong ($word): $*"
        exit 1
    fi
    grep -q -e "$word" "$work/said" || {
        echo "does not say $word: $*"
        cat "$work/said"
        exit 1
    }
}
# A function of that many lines, from brace to brace.
function_of() {
    printf 'int %s(void)\n{\n' "$1"
    yes '    f();' | head -n $(($2 - 2))
    printf '}\n'
}

check_format() {
    cp "$checks/../../.clang-format" "$work/tree"
    printf 'int x(void)\n{\n    return 1;\n}\n' > "$work/tree/a.c"
    passes sh "$checks/format.sh" "$work/tree"
    printf 'int y(void) {\n  return 1;\n}\n' > "$work/tree/b.h"
    says b.h sh "$checks/format.sh" "$work/tree"
}

check_length() {
    length() {
        sh "$checks/length.sh" "$work/tree" "$work/baseline"
    }
    : > "$work/baseline"
    { function_of fits 70; yes 'int a;' | head -n 528; } > "$work/tree/a.c"
    printf '%080d\n' 0 > "$work/tree/b.h"
    passes length
    function_of tall 71 > "$work/tree/c.c"
    says 'newly too long: c.c function tall 71' length
    echo 'c.c function tall 71' > "$work/baseline"
    passes length
    function_of tall 72 > "$work/tree/c.c"
    says 'longer than before' length
    function_of tall 70 > "$work/tree/c.c"
    says 'drop it from the baseline' length
    : > "$work/baseline"
    passes length
    printf '%081d\n' 0 >> "$work/tree/b.h"
    says 'b.h wide-lines - 1' length
    rm "$work/tree/b.h"
    yes 'int a;' | head -n 601 > "$work/tree/d.c"
    says 'd.c file - 601' length
}

# library NAME CODE
library() {
    echo "$2" > "$work/$1.c"
    ${CC:-cc} -c "$work/$1.c" -o "$work/$1.o"
    ar rcs "$work/$1.a" "$work/$1.o"
}

check_purity() {
    purity() {
        sh "$checks/purity.sh" "$checks/purity.allow" "$@"
    }
    library pure 'void *malloc(unsigned long); int rkv__x(void);
        int __asan_x(void); int one(void);
        int one(void) { return !malloc(1) + rkv__x() + __asan_x(); }'
    library user 'int one(void); int two(void);
        int two(void) { return one(); }'
    library clock 'long time(long *); long now(void);
        long now(void) { return time(0); }'
    passes purity "$work/pure.a"
    passes purity "$work/pure.a" "$work/user.a"
    says 'impure: one ' purity "$work/user.a"
    says 'impure: time ' purity "$work/pure.a" "$work/clock.a"
    says 'nothing is defined' purity "$work/missing.a"
}

case $1 in
format) check_format ;;
length) check_length ;;
purity) check_purity ;;
*) exit 2 ;;
esac
