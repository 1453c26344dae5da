# SPDX-License-Identifier: MIT
# What the tests of the installed library begin with: the build's installation in $work/prefix, and a tiny model in
# $work/model. Needs LB_BUILD=build folder.
set -euo pipefail
: "${LB_BUILD:?set LB_BUILD to the build folder}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { # run WHAT COMMAND...: quiet unless it fails
    local what=$1
    shift
    "$@" >"$work/log" 2>&1 || { echo "FAILED: $what"; tail -n 40 "$work/log"; exit 1; }
}
# With sanitizers the library wants a program that brings them: not what this is about.
if grep -qE '^LB_(SANITIZE|FUZZ):[A-Z]+=(.*[a-z]|ON)' "$LB_BUILD/CMakeCache.txt"; then
    echo "a build with sanitizers: skipped"
    exit 0
fi
run 'cmake --install' cmake --install "$LB_BUILD" --prefix "$work/prefix"
library=$(dirname "$(find "$work/prefix" -name 'liblowbit.so' -o -name 'liblowbit.a' | head -n 1)")
[ ! -x "$LB_BUILD/make_tiny_model" ] || run 'make_tiny_model' "$LB_BUILD/make_tiny_model" "$work/model" seed=5 tokenizer=bpe
