# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Our C files below a folder, one a line, relative to it: what git tracks, or
# everything where there is no git, as in an unpacked release.
c_files() {
    git -C "$1" ls-files '*.c' '*.h' 2>/dev/null ||
        (cd "$1" && find . -path ./build -prune -o -name '*.[ch]' -print |
            sed 's|^\./||' | sort)
}
