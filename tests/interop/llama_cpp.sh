#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# GGUF files that `lowbit export` makes, opened by llama.cpp: its perplexity tool beside `lowbit eval --protocol half`.
#   LOWBIT=build/lowbit LLAMA_PERPLEXITY=.../llama-perplexity tests/interop/llama_cpp.sh MODEL TEXT [CTX [CHUNKS [FORMAT...]]]
# Without FORMAT floats of four types and all formats that GGUF has a type for; a K type is one of down_proj alone, beside
# int8-g32, where the others' rows are no multiples of 256. Prints a table; exits 1 where the two differ by more than 0.5 %, 77 where the tool is not there.
set -euo pipefail
: "${LOWBIT:?set LOWBIT to the path of the command}"
tool=${LLAMA_PERPLEXITY:-$(command -v llama-perplexity || true)}
if [ -z "$tool" ]; then
    echo "skipped: no llama-perplexity (set LLAMA_PERPLEXITY)"
    exit 77
fi
model=${1:?a model} text=${2:?a text} ctx=${3:-512} chunks=${4:-8}
shift $(($# < 4 ? $# : 4))
threads=${THREADS:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# compare NAME FILE: a line of the table.
compare() {
    local theirs ours
    for _ in $(seq 20); do # the tool's last lines get lost when it ends before they are printed
        "$tool" -m "$2" -f "$text" -c "$ctx" -b "$ctx" --chunks "$chunks" -t "$threads" -fa off >"$work/log" 2>&1 || {
            echo "$1: llama.cpp could not open it"
            tail -n 3 "$work/log"
            failures=$((failures + 1))
            return
        }
        theirs=$(sed -n 's/.*Final estimate: PPL = \([0-9.]*\).*/\1/p' "$work/log")
        [ -z "$theirs" ] || break
    done
    ours=$("$LOWBIT" eval "$2" --text "$text" --protocol half --ctx "$ctx" --tokens $((ctx * chunks)) \
        --threads "$threads" -q --json | sed -n 's/.*"perplexity": *\([0-9.]*\).*/\1/p')
    awk -v name="$1" -v a="${theirs:-0}" -v b="$ours" 'BEGIN {
        d = 100 * (a - b) / b
        printf "%-34s %10.4f %10.4f %+8.3f %%\n", name, a, b, d
        exit !(d < 0.5 && d > -0.5)
    }' || failures=$((failures + 1))
}

printf '%-34s %10s %10s %10s\n' "file" llama.cpp lowbit difference
dtypes=(f32 f16 bf16 q8_0)
[ $# -eq 0 ] || dtypes=()
[ $# -gt 0 ] || set -- int4-g32 int4-g128 int4-g32-asym int5-g32 int8-g32 mxint8 mxfp4 nvfp4 q2_k q3_k q4_k q5_k q6_k
for dtype in "${dtypes[@]}"; do
    "$LOWBIT" export "$model" --to gguf --dtype "$dtype" --dequantize -o "$work/m.gguf" -q >/dev/null
    compare "floats as $dtype" "$work/m.gguf"
    rm "$work/m.gguf"
done
for format; do
    what=(--format "$format")
    if ! "$LOWBIT" quantize "$model" -o "$work/q" --method rtn "${what[@]}" -q >/dev/null 2>"$work/log"; then
        [[ $format == q?_k ]] && what=(--format int8-g32 --layer "*.down_proj=$format")
        if ! "$LOWBIT" quantize "$model" -o "$work/q" --method rtn "${what[@]}" -q >/dev/null 2>"$work/log"; then
            echo "$format: $(tail -n 1 "$work/log")" # not its width
            continue
        fi
    fi
    types=$("$LOWBIT" export "$work/q" --to gguf --dequantize -o "$work/m.gguf" -q | sed 's/.*(\(.*\)).*/\1/')
    compare "$format" "$work/m.gguf"
    echo "    $types"
    rm -r "$work/q" "$work/m.gguf"
done
[ "$failures" -eq 0 ] || { echo "$failures files differ"; exit 1; }
