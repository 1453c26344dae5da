#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The tables of docs/results-training.md from results.csv of tools/robustness_study.sh: each kind of run at its last
# checkpoint, mean and standard deviation over seeds, and as a multiple of the base run's decayed end of the same seed;
# then rank correlations over all checkpoints that are no averages.
#   tools/robustness_table.sh < docs/training-robustness.csv
# Needs python3.
set -euo pipefail
[ $# -eq 0 ] || { sed -n '3,7s/^# *//p' "$0" >&2; exit 2; }
table=$(mktemp)
trap 'rm -f "$table"' EXIT
cat >"$table"
python3 - "$table" <<'EOF_PYTHON'
import csv, re, statistics, sys
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

print("\nRank correlations with the error at %s, %d checkpoints without averages and soups:" % (
    formats[0], sum(not r["average"] and not r["run"].startswith("soup") for r in rows)))
plain = [r for r in rows if not r["average"] and not r["run"].startswith("soup")]
for column in ("loss", "tokens", "learning_rate", "weight_norm", "crest"):
    a, b = (ranks([float(r[c]) for r in plain]) for c in (column, formats[0] + "_error"))
    print("- %s: %+.2f" % (column, statistics.correlation(a, b)))
EOF_PYTHON
