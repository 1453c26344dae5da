#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# SQ-format for weights on one model: every bank, low fraction and pair of widths, by GPTQ and by rounding, beside
# integers of 3 to 8 bits: the table, sq-weights.csv and sq-weights.svg of docs/results-sq.md.
#   tools/sq_weights.sh MODEL CALIBRATION TEXT FOLDER [ROW...]
# One JSON file for each row is kept in FOLDER; rows that have one are not run again, so that hours of runs can be
# interrupted. A row is METHOD-FORMAT, or METHOD-FORMAT@SALIENCY. Where a layer's width is no multiple of the bank, the
# layer gets the largest bank that divides it (the bits are those of the whole). SAMPLES, SEQLEN, TOKENS, THREADS,
# METHODS, BANKS, FRACTIONS and WIDTHS change what is spent, FLAGS what quantize gets besides ("--refine 0"); needs
# python3 to read JSON, gnuplot for the picture, and bench_kernels (beside lowbit, or BENCH) for measured speeds.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: tools/sq_weights.sh MODEL CALIBRATION TEXT FOLDER [ROW...]" >&2; exit 2; }
model=$1 calibration=$2 text=$3 folder=$4
shift 4
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
read -ra more <<<"${FLAGS:-}"
mkdir -p "$folder"
trap 'exit 130' INT TERM

# "--layer" rules for layers whose width the format's bank does not divide, a word a line.
fallback() {
    "$lowbit" inspect "$model" --json -q | python3 -c '
import json, re, sys
from fractions import Fraction
high, bank, low = re.fullmatch(r"(sq\d/\d)-b(\d+)-s(0\.\d+)", sys.argv[1]).groups()
widths = {}
for layer in json.load(sys.stdin)["layers"]:
    if ".layers." in layer["name"]:
        widths[layer["name"].split(".")[-1]] = layer["cols"]
for name, cols in widths.items():
    fits = int(bank)
    while fits > 16 and cols % fits:
        fits //= 2
    if fits != int(bank):
        if (1 - Fraction(low)) * fits % 1 or cols % fits:
            sys.exit("no bank divides the width %d of %s" % (cols, name))
        print("--layer\n*.%s=%s-b%d-s%s" % (name, high, fits, low))' "$1"
}

# The flags of a row, one a line.
flags() {
    local method=${1%%-*} format=${1#*-} saliency=obs
    [[ $format != *@* ]] || { saliency=${format#*@}; format=${format%@*}; }
    case $method in
    rtn | gptq) ;;
    *) echo "tools/sq_weights.sh: no row is named $1" >&2; exit 2 ;;
    esac
    printf '%s\n' --method "$method" --format "$format"
    [[ $format != sq* ]] || { printf '%s\n' --saliency "$saliency"; fallback "$format"; }
}

if [ $# -eq 0 ]; then
    for method in ${METHODS:-gptq rtn}; do
        for bits in 3 4 5 6 7 8; do
            for group in 32 64 128; do
                set -- "$@" "$method-int$bits-g$group"
            done
        done
        for width in ${WIDTHS:-8/4 8/3 8/2}; do
            for bank in ${BANKS:-16 32 64 128}; do
                for fraction in ${FRACTIONS:-0.5 0.75 0.875 0.9375}; do
                    set -- "$@" "$method-sq$width-b$bank-s$fraction"
                done
            done
        done
    done
fi
for row; do
    file=$folder/${row//\//_}
    [ -s "$file.json" ] && continue
    mapfile -t arguments < <(flags "$row")
    [ ${#arguments[@]} -gt 0 ] || exit 2
    rm -rf "$file.out" "$file.out.partial"
    "$lowbit" quantize "$model" -o "$file.out" --calib "$calibration" --samples "${SAMPLES:-64}" \
        --seqlen "${SEQLEN:-256}" --threads "${THREADS:-2}" --eval-text "$text" --eval-tokens "${TOKENS:-8192}" --json \
        -q "${arguments[@]}" "${more[@]}" >"$file.tmp"
    mv "$file.tmp" "$file.json"
    rm -rf "$file.out"
done

# How long a product with a vector takes, of matrices larger than the caches: bytes over the share of the read rate that
# it gets in the same moment, which other programs disturb less than the time.
bench=${BENCH:-$(dirname "$lowbit")/bench_kernels}
if [ -x "$bench" ]; then
    printf '%s\n' int8-g64 "$@" | sed 's/^rtn-//; s/^gptq-//; s/@.*//' | sort -u |
        xargs -n 30 "$bench" "${REPEATS:-9}" avx512vnni 2048x2048 | awk '$6 == "thread" { print $4, $7 * $9 / $15 }' >"$folder/times"
else
    : >"$folder/times"
fi

# The table and the CSV; points for the picture.
python3 - "$folder" "$@" <<'EOF_PYTHON'
import csv, json, re, sys
folder, rows = sys.argv[1], []
times = {name: float(time) for name, time in (line.split() for line in open(folder + "/times"))}

# Products with inputs of 8 bits, over those of W8A8: arXiv:2512.05409's two units side by side; that for L bits is H / L
# times as fast and goes over every place. Integers of more than 4 bits are held in 8.
def predicted(form):
    sq = re.match(r"sq(\d)/(\d)-b\d+-s([0-9.]+)", form)
    if not sq:
        return 2.0 if int(form[3]) <= 4 else 1.0
    ratio, low = int(sq[1]) / int(sq[2]), float(sq[3])
    return min(ratio, 1 / (1 - low))

for name in sys.argv[2:]:
    d = json.load(open("%s/%s.json" % (folder, name.replace("/", "_"))))
    e, (method, form) = d["eval"], name.split("-", 1)
    nominal = [layer.get("nominal_bits") for layer in d["layers"]]
    time = times.get(form.split("@")[0])
    rows.append({
        "method": method, "format": form, "nominal_bits": nominal[0] if nominal[0] else "",
        "stored_bits": round(d["quantized_bits_per_weight"], 4), "whole_model_bits": round(d["bits_per_weight"], 4),
        "perplexity": e["perplexity"], "perplexity_stderr": e["perplexity_stderr"], "kl_mean": e["kl_mean"],
        "kl_stderr": e["kl_stderr"], "top1_agreement": e["top1_agreement"], "seconds": round(d["seconds"], 1),
        "predicted_speedup": round(predicted(form.split("@")[0]), 3),
        "measured_speedup": round(times["int8-g64"] / time, 3) if time else ""})
with open(folder + "/sq-weights.csv", "w", newline="") as f:
    out = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
print("| method | format | nominal bits | stored bits | whole model | perplexity | KL mean | top-1 % |")
print("|---|---|---|---|---|---|---|---|")
for r in rows:
    print("| %s | %s | %s | %.3f | %.3f | %.2f ± %.2f | %.5f ± %.5f | %.1f |" % (
        r["method"], r["format"], "%.3f" % r["nominal_bits"] if r["nominal_bits"] else "", r["stored_bits"],
        r["whole_model_bits"], r["perplexity"], r["perplexity_stderr"], r["kl_mean"], r["kl_stderr"],
        r["top1_agreement"]))
with open(folder + "/fronts", "w") as f:
    f.write("family\tkl\tstored bits per weight, scales and marks included\t+predicted: products over W8A8's\t"
            "+measured: product with a vector, over int8-g64's\n")
    for r in rows:
        if r["method"] == "gptq" and "@" not in r["format"]:
            f.write("%s\t%g\t%g\t%g\t%s\n" % (
                "integers" if r["format"].startswith("int") else r["format"][:5], r["kl_mean"], r["stored_bits"],
                r["predicted_speedup"], r["measured_speedup"] or "-"))
EOF_PYTHON
[ "$(wc -l <"$folder/fronts")" -lt 2 ] ||
    "$(dirname "$0")/plot_fronts.sh" "SQ-format for weights beside integers, GPTQ" "$folder/sq-weights.svg" <"$folder/fronts"
