#!/bin/sh
# SPDX-License-Identifier: MIT
# format.sh FOLDER: every C file is as clang-format would write it.
set -eu
. "$(dirname "$0")/files.sh"
cd "$1"
c_files . | xargs -r clang-format --dry-run -Werror
