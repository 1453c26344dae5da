#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tables of docs/results-training.md from results.csv of tools/robustness_study.sh: each kind of run at its last
# checkpoint, mean and standard deviation over seeds, and as a multiple of the base run's decayed end of the same seed;
# then rank correlations over all checkpoints that are no averages.
#   tools/robustness_table.sh [FOLDER] < docs/training-robustness.csv
# FOLDER gets training-error.svg and training-divergence.svg: the same means over tokens. Needs python3, and for pictures
# gnuplot.
set -euo pipefail
[ $# -le 1 ] || { sed -n '3,8s/^# *//p' "$0" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/table"
python3 - "$scratch/table" "${1:-}" <<'EOF_PYTHON'
import csv, re, statistics, subprocess, sys
rows = list(csv.DictReader(open(sys.argv[1])))
formats = [key[:-6] for key in rows[0] if key.endswith("_error")]
measures = ["loss"] + [f + m for f in formats for m in ("_loss", "_error", "_kl_mean")]

# kind -> seed -> the last row; soups stand beside the mean of what they are made of.
kinds = {}
for row in rows:
    kind, seed = re.match(r"(.*?)-s(\d+)", row["run"]).groups()
    kind += row["run"][row["run"].index("-s" + seed) + len(seed) + 2:] + (" " + row["average"] if row["average"] else "")
    last = kinds.setdefault(kind, {}).get(seed)
    if last is None or int(row["step"] or 0) >= int(last["step"] or 0):
        kinds[kind][seed] = row
values = {kind: {s: {m: float(r[m]) for m in measures} for s, r in seeds.items()} for kind, seeds in kinds.items()}
base = next(k for k in values if k.startswith("base-decay") and len(values[k]) == len(values["base"]))
parts = [base] + [k for k in values if k.startswith("order")]
values["mean of a soup's parts"] = {
    s: {m: statistics.mean(values[k][s][m] for k in parts) for m in measures}
    for s in values[base] if all(s in values[k] for k in parts)}

def spread(numbers, form):
    mean = form % statistics.mean(numbers)
    return mean + (" ± " + form % statistics.stdev(numbers) if len(numbers) > 1 else "")

print("| run | seeds | loss | " + " | ".join("%s loss | error %% | KL" % f for f in formats) + " | error × | KL × |")
print("|---" * (5 + 3 * len(formats)) + "|")
for kind in sorted(values):
    seeds = values[kind]
    cells = [spread([v["loss"] for v in seeds.values()], "%.3f")]
    for f in formats:
        cells.append(spread([v[f + "_loss"] for v in seeds.values()], "%.3f"))
        cells.append(spread([100 * v[f + "_error"] for v in seeds.values()], "%.2f"))
        cells.append(spread([v[f + "_kl_mean"] for v in seeds.values()], "%.5f"))
    for m in (formats[0] + "_error", formats[0] + "_kl_mean"):
        cells.append(spread([v[m] / values[base][s][m] for s, v in seeds.items() if s in values[base]], "%.2f"))
    print("| %s | %d | %s |" % (kind, len(seeds), " | ".join(cells)))

def ranks(numbers):
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    out = [0.0] * len(numbers)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and numbers[order[j + 1]] == numbers[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out

plain = [r for r in rows if not r["average"] and not r["run"].startswith("soup")]
print("\nRank correlations with the error at %s, %d checkpoints without averages and soups:" % (formats[0], len(plain)))
for column in ("loss", "tokens", "learning_rate", "weight_norm", "crest"):
    a, b = (ranks([float(r[c]) for r in plain]) for c in (column, formats[0] + "_error"))
    print("- %s: %+.2f" % (column, statistics.correlation(a, b)))

# Means over seeds at each place, spreads as bars: (tokens, mean, deviation).
def course(kind, average, column):
    places = {}
    for row in rows:
        if re.sub(r"-s\d+", "", row["run"]) == kind and row["average"] == average:
            places.setdefault(int(row["tokens"]), []).append(float(row[column]))
    return [(t / 1e6, statistics.mean(v), statistics.stdev(v) if len(v) > 1 else 0.0) for t, v in sorted(places.items())]

average = next((r["average"] for r in rows if r["average"]), None)

def draw(path, column, scale, title, unit):
    ends = [int(r["tokens"]) / 1e6 for r in plain]
    out = ['set terminal svg size 840,520 font "sans-serif,14" background "#ffffff"', 'set output "%s"' % path,
           'set title "%s"' % title, 'set xlabel "million tokens"', 'set ylabel "%s"' % unit, 'set grid lc rgb "#dddddd"',
           'set key outside right top Left reverse samplen 2', 'set yrange [0:*]', 'set xrange [%g:%g]' % (0.7 * min(ends), 1.04 * max(ends))]
    curves, kinds = [], [("base", "η 0.003, λ 0.3"), ("lr0.001", "η 0.001"), ("lr0.01", "η 0.01"), ("wd0.1", "λ 0.1"),
                         ("cosine", "cosine")]
    def curve(name, points, color, style, label):
        out.append("$%s << EOD\n%s\nEOD" % (name, "\n".join("%g %g %g" % (x, scale * y, scale * e) for x, y, e in points)))
        curves.append("$%s with lines %s lc rgb '%s' %s" % (name, style, color, "title '%s'" % label if label else "notitle"))
        curves.append("$%s with yerrorbars pt 7 ps 0.4 lc rgb '%s' notitle" % (name, color))
    colors = "#0072b2 #009e73 #d55e00 #8a3a8a #555555".split()
    for number, ((kind, label), color) in enumerate(zip(kinds, colors)):
        trunk = course(kind, "", column)
        curve("t%d" % number, trunk, color, "lw 2", label)
        end = course(kind + base[len("base"):], "", column)
        mean = course(kind, average, column)
        if end:
            curve("e%d" % number, trunk[-1:] + end, color, "lw 2 dt 2", "…, decayed")
        if mean:
            curve("m%d" % number, mean, color, "lw 1 dt 3", "…, mean of ten")
    out.append("plot " + ", ".join(curves))
    subprocess.run(["gnuplot"], input="\n".join(out), text=True, check=True)

if sys.argv[2]:
    name = formats[0]
    draw(sys.argv[2] + "/training-error.svg", name + "_error", 100, "Quantization error at %s, mean and spread of the seeds" % name,
         "quantized loss / loss - 1, %")
    draw(sys.argv[2] + "/training-divergence.svg", name + "_kl_mean", 1,
         "Divergence of %s from its checkpoint, mean and spread of the seeds" % name, "KL, nats per token")
EOF_PYTHON
