#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make demo: a model before, its quantization with what that costs, and the model after.
#   MODEL=path   a Hugging Face folder or a GGUF file instead of the small model that is fetched
#   OUT=path     where the quantized model goes, and stays (otherwise it is removed at the end)
#   FORMAT=int3-g64  METHOD=gptq  PROMPT=text
set -euo pipefail
cd "$(dirname "$0")/.."

format=${FORMAT:-int3-g64}
method=${METHOD:-gptq}
prompt=${PROMPT:-The capital of France is}
lowbit=build/lowbit

scratch=
finish() {
    [ -z "$scratch" ] || rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

show() { # the command as a user would type it, then its doing
    printf '\n$ lowbit'
    printf ' %q' "$@"
    printf '\n'
    "$lowbit" "$@"
}

# The model first: a mistyped path is said at once, and the packages to fetch one with are asked for
# together with those to build with.
model=$(tools/model.sh)
tools/build.sh release
if [ -n "${OUT:-}" ]; then
    out=$OUT
else
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/lowbit-demo.XXXXXX")
    out=$scratch/$(basename "$model" .gguf)-$format
fi

show run "$model" -p "$prompt" -n 32 --temp 0
show quantize "$model" -o "$out" --format "$format" --method "$method" \
    --eval-text examples/text/evaluation.txt
show run "$out" -p "$prompt" -n 32 --temp 0

printf '\n'
if [ -n "$scratch" ]; then
    echo "The quantized model was in $out, which is removed now; make demo OUT=folder keeps it."
else
    echo "The quantized model is in $out; try it: $lowbit run $out -p \"$prompt\""
fi
