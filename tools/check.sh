#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make check: the in-process tests under the address and undefined-behaviour sanitizers, then every
# test (tools/house.sh among them) in the everyday build. CTest's own summary comes last.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=$(nproc 2>/dev/null || echo 2)
export CTEST_PARALLEL_LEVEL=$jobs
# Tests run side by side: each with few threads, or they would wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-2}

tools/build.sh dev
tools/build.sh asan-ubsan
echo "tests under the address and undefined-behaviour sanitizers"
# Memory held by libraries until exit (OpenMP's threads, OpenBLAS's buffers) is not a leak of lowbit's.
# The quotes are the sanitizer's own: the path may have a space in it.
LSAN_OPTIONS="suppressions='$PWD/tools/lsan.supp':print_suppressions=0" \
    ctest --preset asan-ubsan --output-on-failure
echo "all tests"
exec ctest --preset dev --output-on-failure
