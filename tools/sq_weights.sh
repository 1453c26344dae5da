#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# SQ-format for weights on one model: every bank, low fraction and pair of widths, by GPTQ and by rounding, beside
# integers of 3 to 8 bits: the table, sq-weights.csv and sq-weights.svg of docs/results-sq.md.
#   tools/sq_weights.sh MODEL CALIBRATION TEXT FOLDER [ROW...]
# One JSON file for each row is kept in FOLDER; rows that have one are not run again, so that hours of runs can be
# interrupted. A row is METHOD-FORMAT, or METHOD-FORMAT@SALIENCY. Where a layer's width is no multiple of the bank, the
# layer gets the largest bank that divides it (the bits are those of the whole). SAMPLES, SEQLEN, TOKENS, THREADS,
# METHODS, BANKS, FRACTIONS and WIDTHS change what is spent; needs python3 to read JSON, and gnuplot for the picture.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: tools/sq_weights.sh MODEL CALIBRATION TEXT FOLDER [ROW...]" >&2; exit 2; }
model=$1 calibration=$2 text=$3 folder=$4
shift 4
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
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
        -q "${arguments[@]}" >"$file.tmp"
    mv "$file.tmp" "$file.json"
    rm -rf "$file.out"
done

# The table and the CSV; points and the fronts of either family for the picture.
python3 - "$folder" "$@" <<'EOF_PYTHON'
import csv, json, sys
folder, rows = sys.argv[1], []
for name in sys.argv[2:]:
    d = json.load(open("%s/%s.json" % (folder, name.replace("/", "_"))))
    e, (method, form) = d["eval"], name.split("-", 1)
    nominal = [layer.get("nominal_bits") for layer in d["layers"]]
    rows.append({
        "method": method, "format": form, "nominal_bits": nominal[0] if nominal[0] else "",
        "stored_bits": round(d["quantized_bits_per_weight"], 4), "whole_model_bits": round(d["bits_per_weight"], 4),
        "perplexity": e["perplexity"], "perplexity_stderr": e["perplexity_stderr"], "kl_mean": e["kl_mean"],
        "kl_stderr": e["kl_stderr"], "top1_agreement": e["top1_agreement"], "seconds": round(d["seconds"], 1)})
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

def front(points):
    best, kept = float("inf"), []
    for bits, kl in sorted(points):
        if kl < best:
            best = kl
            kept.append((bits, kl))
    return kept

for family in ("sq8/4", "sq8/3", "sq8/2", "sq", "int"):
    points = [(r["stored_bits"], r["kl_mean"]) for r in rows
              if r["method"] == "gptq" and r["format"].startswith(family) and "@" not in r["format"]]
    points = front(points) if family in ("sq", "int") else sorted(points)
    with open("%s/plot-%s.dat" % (folder, family.replace("/", "_")), "w") as f:
        f.writelines("%g %g\n" % p for p in points)
EOF_PYTHON
command -v gnuplot >/dev/null 2>&1 || { echo "no picture: gnuplot is missing (Debian: apt install gnuplot-nox)" >&2; exit 0; }
[ -s "$folder/plot-sq.dat" ] && [ -s "$folder/plot-int.dat" ] || exit 0
plots="'$folder/plot-int.dat' with linespoints lw 2 pt 7 lc rgb '#1f5fa8' title 'integers, Pareto front'"
plots+=", '$folder/plot-sq.dat' with lines lw 2 lc rgb '#b0552b' title 'SQ-format, Pareto front'"
points=("8_4 4 #b0552b" "8_3 8 #7a7a2a" "8_2 12 #8a3a8a")
for point in "${points[@]}"; do
    read -r width mark colour <<<"$point"
    [ ! -s "$folder/plot-sq$width.dat" ] ||
        plots+=", '$folder/plot-sq$width.dat' with points pt $mark lc rgb '$colour' title '${width/_/\/}'"
done
gnuplot <<GNUPLOT
set terminal svg size 760,460 font "sans-serif,14" background "#ffffff"
set output "$folder/sq-weights.svg"
set title "SQ-format for weights beside integers, GPTQ"
set xlabel "stored bits per weight in the quantized layers, scales and marks included"
set ylabel "mean KL from the float model, nats"
set logscale y
set format y "10^{%T}"
set grid lc rgb "#dddddd"
set key bottom left
plot $plots
GNUPLOT
