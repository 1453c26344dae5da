#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# examples/, built as a user's project by find_package(lowbit), shared and static, and run on a tiny model.
# Needs LB_BUILD=build folder.
. tests/library/lib.bash
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
says() { # says PATTERN PROGRAM ARGUMENT...
    local pattern=$1
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null || bad "$*: exit $?: $(tail -n 1 "$work/err")"
    grep -qE "$pattern" "$work/out" || bad "$*: $(head -n 3 "$work/out"), wanted $pattern"
}
refuses() { # refuses STATUS PATTERN PROGRAM ARGUMENT...
    local status=$1 pattern=$2 got=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    [ "$got" -eq "$status" ] || bad "$*: exit $got, wanted $status"
    grep -qE "$pattern" "$work/err" || bad "$*: $(head -n 3 "$work/err"), wanted $pattern"
}

"$LB_BUILD/make_tiny_model" "$work/model" seed=5 tokenizer=bpe
for i in $(seq 400); do printf 'the cat and the hat number %d in the thin tin. ' "$i"; done >"$work/text"
for static in OFF ON; do
    programs=$work/examples-$static
    run "configuring examples, STATIC=$static" cmake -S examples -B "$programs" -DCMAKE_PREFIX_PATH="$work/prefix" \
        -DSTATIC=$static -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS='-Wall -Wextra -Werror'
    run "building examples, STATIC=$static" cmake --build "$programs"
    uses=$(readelf -d "$programs/quantize" | grep -cF 'liblowbit.so.0' || true)
    [ "$uses" -eq "$([ $static = ON ] && echo 0 || echo 1)" ] || bad "STATIC=$static links the other library"

    says '^.*: 4\.500 bits per weight in 14 layers' "$programs/quantize" "$work/model" "$work/small-$static" int4-g32
    refuses 1 'exists' "$programs/quantize" "$work/model" "$work/small-$static" int4-g32
    refuses 1 'int9' "$programs/quantize" "$work/model" "$work/other" int9-g32
    refuses 2 usage "$programs/quantize"
    says . "$programs/generate" "$work/small-$static" 'the cat' 12
    grep -qE '^[2-9] tokens read, ([1-9]|1[0-2]) written' "$work/err" || bad "generate: $(cat "$work/err")"
    refuses 1 'nowhere' "$programs/generate" "$work/nowhere" x
    says '^perplexity [0-9.]+ \+- [0-9.]+ over [0-9]+ tokens' "$programs/perplexity" "$work/model" "$work/text"
    says 'divergence from it 0\.[0-9]+' "$programs/perplexity" "$work/small-$static" "$work/text" "$work/model"
    says '^ *[0-9.]+ % +[0-9]+ +".*"$' "$programs/next_tokens" "$work/model" 'the cat' 4
    [ "$(wc -l <"$work/out")" -ge 4 ] || bad 'next_tokens: fewer than four'
    says '^int4-g128 +4\.125 bits +(19|2[0-2])\.[0-9]+ dB' "$programs/formats"
    says '^mxfp8-e4m3 +8\.250 bits' "$programs/formats" mxfp8
    refuses 1 'int9' "$programs/formats" int9-g32
done
[ "$failures" -eq 0 ] || exit 1
echo "examples: built by CMake, shared and static, and run"
