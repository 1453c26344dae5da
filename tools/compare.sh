#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Methods and formats side by side on one model: a Markdown table of size, quality and time.
#   tools/compare.sh MODEL TEXT [quantize flags...]
#   FORMATS="int4-g128 int3-g128 int2-g64"  METHODS="rtn gptq"  LOWBIT=build/lowbit
# The table that docs/results.md shows was made by this script; needs python3 to read JSON.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: tools/compare.sh MODEL TEXT [quantize flags...]" >&2; exit 2; }
model=$1 text=$2
shift 2
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lowbit-compare.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

echo "| method | format | bits/weight in layers | whole model | perplexity | KL mean | top-1 % | time s | capture | Hessian | solve | write | peak MB |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
for format in ${FORMATS:-int4-g128 int3-g128 int2-g64}; do
    for method in ${METHODS:-rtn gptq}; do
        rm -rf "$scratch"/out*
        "$lowbit" quantize "$model" -o "$scratch/out" --format "$format" --method "$method" \
            --eval-text "$text" -q --json "$@" |
            METHOD=$method FORMAT=$format python3 -c '
import json, os, sys
d = json.load(sys.stdin)
e, s = d["eval"], d["seconds_by_stage"]
print("| %s | %s | %.3f | %.3f | %.3f ± %.3f (float %.3f) | %.4f ± %.4f | %.2f | %.0f | %.0f | %.0f | %.0f | %.1f | %.0f |" % (
    os.environ["METHOD"], os.environ["FORMAT"], d["quantized_bits_per_weight"], d["bits_per_weight"],
    e["perplexity"], e["perplexity_stderr"], e["reference"]["perplexity"], e["kl_mean"], e["kl_stderr"],
    e["top1_agreement"], d["seconds"], s["capture"], s["hessian"], s["solve"], s["write"],
    d["peak_rss_bytes"] / 1e6))'
    done
done
