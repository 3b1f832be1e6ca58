#!/bin/sh
# SPDX-License-Identifier: MIT
# apply.sh ROOT: every patch of this folder still applies to the sources.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
code=0
for patch in "$here"/*.patch; do
    patch -p1 -s -f -F0 --dry-run <"$patch" || {
        echo "$patch does not apply: change it with what it is a bug of"
        code=1
    }
done
exit $code
