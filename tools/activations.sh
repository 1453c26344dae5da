#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Activations in few bits, and the transforms that make room for them, side by side on one model: the table of
# docs/results-sq.md, section "Activations".
#   tools/activations.sh MODEL CALIBRATION TEXT FOLDER [ROW...]
# A row is METHOD/FORMAT/ACT/TRANSFORM[/MASK], such as gptq/int4-g128/int8-row/smooth+hadamard: METHOD rtn (ranges) or
# search (rtn with the scale search) or gptq, ACT a format of --act or none. One JSON file for each row is kept in
# FOLDER; rows that have one are not run again. Without ROW all that the model's widths allow, banks from BANKS. SAMPLES,
# SEQLEN and TOKENS change what is spent; needs python3 to read JSON. A table in Markdown goes to stdout, the same
# numbers to FOLDER/activations.csv.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: tools/activations.sh MODEL CALIBRATION TEXT FOLDER [ROW...]" >&2; exit 2; }
model=$1 calibration=$2 text=$3 folder=$4
shift 4
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
mkdir -p "$folder"
trap 'exit 130' INT TERM

flags() {
    local method format act transform mask
    IFS=/ read -r method format act transform mask <<<"${1//sq8\/4/sq8:4}"
    case $method in
    rtn) printf '%s\n' --method rtn --fit range ;;
    search) printf '%s\n' --method rtn --fit search ;;
    gptq) printf '%s\n' --method gptq ;;
    *) echo "tools/activations.sh: no row begins with $method" >&2; exit 2 ;;
    esac
    printf '%s\n' --format "$format" --transform "${transform:-none}"
    [ "$act" = none ] || printf '%s\n' --act "${act/:/\/}"
    [ -z "${mask:-}" ] || printf '%s\n' --act-mask "$mask"
}

if [ $# -eq 0 ]; then
    for method in rtn gptq; do
        for transform in none smooth awq; do
            set -- "$@" "$method/int4-g128/none/$transform" "$method/int8-row/int8-row/$transform" \
                "$method/int4-g128/int8-row/$transform"
        done
        for transform in none hadamard smooth smooth+hadamard; do
            set -- "$@" "$method/int4-g128/int4-row/$transform" "$method/int4-row/int4-row/$transform"
        done
        for bank in ${BANKS:-16 32 64}; do
            for share in 0.5 0.75 0.875 0.9375; do
                set -- "$@" "$method/int4-g128/sq8/4-b$bank-s$share/none" \
                    "$method/int4-g128/sq8/4-b$bank-s$share-dynamic/none"
            done
            set -- "$@" "$method/int4-g128/sq8/4-b$bank-s0.75/smooth" "$method/int4-g128/sq8/4-b$bank-s0.75/none/signed" \
                "$method/int4-g128/sq8/4-b$bank-s0.75/none/absolute"
        done
    done
fi
for row; do
    name=${row//\//,}
    [ -s "$folder/$name.json" ] && continue
    mapfile -t arguments < <(flags "$row")
    [ ${#arguments[@]} -gt 0 ] || exit 2
    rm -rf "$folder/out" "$folder/out.partial"
    "$lowbit" quantize "$model" -o "$folder/out" --calib "$calibration" --samples "${SAMPLES:-64}" \
        --seqlen "${SEQLEN:-256}" --eval-text "$text" --eval-tokens "${TOKENS:-8192}" --json -q \
        "${arguments[@]}" >"$folder/$name.tmp"
    mv "$folder/$name.tmp" "$folder/$name.json"
done
rm -rf "$folder/out" "$folder/out.partial"

python3 - "$folder" "$@" <<'EOP'
import csv, json, sys
folder = sys.argv[1]
table = csv.writer(open(folder + "/activations.csv", "w"))
table.writerow(["row", "bits_per_weight", "perplexity", "perplexity_stderr", "kl_mean", "kl_stderr", "top1_agreement"])
print("| row | bits/weight in layers | perplexity | KL mean | top-1 % |")
print("|---|---|---|---|---|")
for row in sys.argv[2:]:
    d = json.load(open("%s/%s.json" % (folder, row.replace("/", ","))))
    e = d["eval"]
    table.writerow([row, d["quantized_bits_per_weight"]] + [e[k] for k in (
        "perplexity", "perplexity_stderr", "kl_mean", "kl_stderr", "top1_agreement")])
    print("| %s | %.3f | %.3f ± %.3f | %.4f ± %.4f | %.1f |" % (
        row, d["quantized_bits_per_weight"], e["perplexity"], e["perplexity_stderr"], e["kl_mean"], e["kl_stderr"],
        e["top1_agreement"]))
EOP
