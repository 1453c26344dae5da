#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# tools/build.sh PRESET: configures (once) and builds one preset of CMakePresets.json, saying little.
# `bench` is the release preset with the benches in it.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
extra=()
if [ "$preset" = bench ]; then
    preset=release
    extra=(-DLB_BUILD_TESTS=ON)
fi
case $preset in
release) folder=build ;;
asan-ubsan) folder=build-asan ;;
ref-only) folder=build-ref ;;
*) folder=build-$preset ;;
esac

tools/setup.sh
# Ninja where it is installed, but never another generator than the folder already has.
if [ ! -e "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null 2>&1; then
    export CMAKE_GENERATOR=Ninja
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" "${extra[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
echo "building $folder" >&2
jobs=$(nproc 2>/dev/null || echo 2)
if ! cmake --build "$folder" --parallel "$jobs" >"$log" 2>&1; then
    grep -v '^\[[0-9/ %]*\] \(Building\|Linking\|Built\)' "$log" | tail -n 60 >&2
    exit 1
fi
