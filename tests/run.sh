#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what is missing, build, run every test. The one command of README
# and CI. Ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
./cmake/install.sh

cmake --preset tsan >/dev/null
cmake --build --preset tsan
ctest --preset tsan -L tsan --no-tests=ignore

# Not run here, but a target that no longer builds is noticed.
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzzers

# Instructions are counted of what is shipped; valgrind cannot run sanitizers,
# which would make millions of writes take minutes.
cmake --preset release >/dev/null
cmake --build --preset release --target core_cost lsm_model_test
ctest --preset release -R '^core_cost' --no-tests=error
ctest --preset release -R '^lsm_model_millions' --no-tests=error

cmake --preset dev >/dev/null
cmake --build --preset dev
ctest --preset dev --no-tests=error --parallel "$(nproc)"
