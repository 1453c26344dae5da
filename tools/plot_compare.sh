#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Draws a table of tools/compare.sh (Markdown on standard input) as SVG on standard output: divergence
# against bits per weight, a line per method. Needs gnuplot.
#   tools/plot_compare.sh < docs/results.md > docs/quality.svg
set -euo pipefail
command -v gnuplot >/dev/null 2>&1 || { echo "gnuplot is missing (Debian: apt install gnuplot-nox)" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# | method | format | bits | whole | perplexity | KL ± ... : the first table of that shape
awk -F'|' -v dir="$scratch" '
    $2 ~ /^ *(rtn|gptq) *$/ && $4 ~ /^ *[0-9.]+ *$/ {
        method = $2; gsub(/ /, "", method); split($7, kl, " ")
        print $4, kl[1], kl[3], $3 >> (dir "/" method)
        seen = 1
    }
    seen && !/^\|/ { exit }' -
[ -s "$scratch/rtn" ] && [ -s "$scratch/gptq" ] || { echo "no table of rtn and gptq found" >&2; exit 1; }
sort -n -o "$scratch/rtn" "$scratch/rtn"
sort -n -o "$scratch/gptq" "$scratch/gptq"
gnuplot <<GNUPLOT
set terminal svg size 720,420 font "sans-serif,14" background "#ffffff"
set title "SmolLM2-135M-Instruct: what quantizing costs"
set xlabel "bits per weight in the quantized layers, scales included"
set ylabel "mean KL from the float model, nats"
set logscale y
set format y "10^{%T}"
set grid lc rgb "#dddddd"
set key top right
plot "$scratch/rtn" using 1:2 with linespoints lw 2 pt 6 lc rgb "#b0552b" title "round to nearest", \
     "$scratch/gptq" using 1:2 with linespoints lw 2 pt 7 lc rgb "#1f5fa8" title "lowbit gptq", \
     "$scratch/gptq" using 1:2:4 with labels offset 0,-1.1 font ",11" tc rgb "#555555" notitle
GNUPLOT
