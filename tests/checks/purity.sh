#!/bin/sh
# SPDX-License-Identifier: MIT
# purity.sh ALLOW LIBRARY...: the libraries ask the system for nothing but what
# the file ALLOW lists: no clock, no files, no sockets, no threads, no random
# numbers. What one of them defines the others may use. Symbols of sanitizers
# and coverage are the build's, rkv__ and protobuf_c_ the generated messages'.
set -eu
allow=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for library in "$@"; do
    nm -g --defined-only "$library"
done | awk 'NF == 3 { print $3 }' | sort -u > "$work/defined"
test -s "$work/defined" || { echo "nothing is defined in: $*"; exit 1; }
sed -e 's/#.*//' -e 's/[ \t]*$//' -e '/^$/d' "$allow" | sort -u |
    sort -u - "$work/defined" > "$work/allowed"

failed=0
for library in "$@"; do
    nm -A -u "$library" | awk '{ print $NF, $1 }' |
        grep -Ev '^(__(asan|ubsan|tsan|sanitizer|gcov)_|rkv__|protobuf_c_)' |
        sort > "$work/undefined" || true
    join -v 1 "$work/undefined" "$work/allowed" > "$work/impure"
    if test -s "$work/impure"; then
        sed 's/\([^ ]*\) \(.*\)/impure: \1 in \2/' "$work/impure"
        failed=1
    fi
done
exit $failed
