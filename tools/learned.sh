#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Methods, learned rounding, bit planes and allocations side by side on one model: the table of docs/results.md.
#   tools/learned.sh MODEL CALIBRATION TEXT FOLDER [ROW...]
# One JSON file for each row is kept in FOLDER; rows that have one are not run again, so that hours of runs can be
# interrupted. Without ROW all of them, most interesting first. SAMPLES, SEQLEN, ITERS, BATCH and TOKENS change what
# is spent; needs python3 to read JSON.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: tools/learned.sh MODEL CALIBRATION TEXT FOLDER [ROW...]" >&2; exit 2; }
model=$1 calibration=$2 text=$3 folder=$4
shift 4
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
mkdir -p "$folder"
trap 'exit 130' INT TERM

calibrated=(--calib "$calibration" --samples "${SAMPLES:-64}" --seqlen "${SEQLEN:-256}")
learned=(--method signround --iters "${ITERS:-64}" --batch "${BATCH:-2}" "${calibrated[@]}")
mixed=(--candidates int2-g128,int3-g128,int4-g128)
formats=(int2-g64 int2-g128 int3-g128 int4-g128 mxfp4 nvfp4)

# The flags of a row: METHOD-FORMAT, v2-WAY-BITS or planes-BITS for an allocation, plain-ROW without refinement,
# polished-ROW.
flags() {
    local way=${1#v2-}
    case $1 in
    polished-*)
        flags "${1#polished-}"
        printf '%s\n' --polish "${POLISH:-64}"
        ;;
    plain-*)
        flags "${1#plain-}"
        printf '%s\n' --refine 0
        ;;
    rtn-*) printf '%s\n' --method rtn --fit range --format "${1#rtn-}" ;;
    search-*) printf '%s\n' --method rtn --format "${1#search-}" "${calibrated[@]}" ;;
    gptq-act-*) printf '%s\n' --method gptq --order act --format "${1#gptq-act-}" "${calibrated[@]}" ;;
    gptq-*) printf '%s\n' --method gptq --format "${1#gptq-}" "${calibrated[@]}" ;;
    bpdq-hadamard-*)
        printf '%s\n' --method bpdq --transform hadamard --format "${1#bpdq-hadamard-}" "${calibrated[@]}"
        ;;
    bpdq-*) printf '%s\n' --method bpdq --format "${1#bpdq-}" "${calibrated[@]}" ;;
    planes-*)
        printf '%s\n' --method bpdq --candidates bp1-g256,bp2-g256,bp3-g256,bp4-g256 --target-bits "${1#planes-}" \
            --sensitivity-samples 64 "${calibrated[@]}"
        ;;
    v1-*) printf '%s\n' "${learned[@]}" --signround v1 --format "${1#v1-}" ;;
    v2-deltaloss-*)
        printf '%s\n' "${learned[@]}" "${mixed[@]}" --target-bits "${way#*-}" --allocate deltaloss \
            --sensitivity-samples 16
        ;;
    v2-fisher-* | v2-head-* | v2-tail-*)
        printf '%s\n' "${learned[@]}" "${mixed[@]}" --target-bits "${way#*-}" --allocate "${way%%-*}"
        ;;
    v2-*) printf '%s\n' "${learned[@]}" --format "$way" ;;
    *) echo "tools/learned.sh: no row is named $1" >&2; exit 2 ;;
    esac
}

if [ $# -eq 0 ]; then
    set -- v2-fisher-2.5 v2-deltaloss-2.5 v2-int2-g32 v2-tail-2.5 v2-head-2.5 v2-fisher-3.0 v2-deltaloss-3.0 \
        v2-int3-row v2-tail-3.0 v2-head-3.0 bpdq-bp2-g256 bpdq-bp2-g128 bpdq-bp2-g64 bpdq-bp3-g128
    for format in "${formats[@]}"; do
        set -- "$@" "v2-$format" "gptq-$format" "v1-$format" "search-$format" "rtn-$format"
    done
fi
for row; do
    [ -s "$folder/$row.json" ] && continue
    mapfile -t arguments < <(flags "$row")
    [ ${#arguments[@]} -gt 0 ] || exit 2
    rm -rf "$folder/out" "$folder/out.partial"
    "$lowbit" quantize "$model" -o "$folder/out" --eval-text "$text" --eval-tokens "${TOKENS:-8192}" --json \
        "${arguments[@]}" >"$folder/$row.tmp"
    mv "$folder/$row.tmp" "$folder/$row.json"
done
rm -rf "$folder/out" "$folder/out.partial"

python3 - "$folder" "$@" <<'EOF'
import json, sys
print("| row | bits/weight in layers | whole model | perplexity | KL mean | top-1 % | time s | peak MB |")
print("|---|---|---|---|---|---|---|---|")
for row in sys.argv[2:]:
    d = json.load(open("%s/%s.json" % (sys.argv[1], row)))
    e = d["eval"]
    print("| %s | %.3f | %.3f | %.1f ± %.1f | %.4f ± %.4f | %.1f | %.0f | %.0f |" % (
        row, d["quantized_bits_per_weight"], d["bits_per_weight"], e["perplexity"], e["perplexity_stderr"],
        e["kl_mean"], e["kl_stderr"], e["top1_agreement"], d["seconds"], d["peak_rss_bytes"] / 1e6))
EOF
