#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every row of tests/golden/qsnr/qsnr_public.csv against `lowbit formats --json`: the same formats, scale rules,
# distributions and numbers of values. Prints the worst difference; exits 1 where one is over the bound.
#   tools/qsnr_reference.sh [LOWBIT] [BOUND_DB]     (build/lowbit, 0.05) takes about a minute; needs python3
set -euo pipefail
cd "$(dirname "$0")/.."
lowbit=${1:-build/lowbit}
bound=${2:-0.05}
command -v python3 >/dev/null 2>&1 || { echo "python3 is missing (Debian: apt install python3)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seed=20251029
measure() { # measure NAME-IN-CSV FLAGS...
    local name=$1
    shift
    "$lowbit" formats --quiet --json --rule all --seed "$seed" "$@" >"$work/$name.json"
}
measure gauss_sigma1 --dist gaussian --n 16777216 --hadamard
for crest in 2.00 3.00 4.00 5.00; do
    formats=mxfp8-e4m3,mxfp8-e5m2,mxfp6-e2m3,mxfp6-e3m2,mxfp4,mxint8,mxint6,mxint4
    case $crest in 2.00 | 3.00) formats=$formats,nvfp4,nvint4 ;; esac # a block of 16 has no larger one than 4
    measure "gauss_crest_$crest" --dist "gaussian-crest:$crest" --n 10485760 --format "$formats"
done
python3 - "$work" "$bound" tests/golden/qsnr/qsnr_public.csv <<'PYTHON'
import csv, json, os, sys

folder, bound, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
measured = {}
for name in os.listdir(folder):
    with open(os.path.join(folder, name)) as f:
        for row in json.load(f)["rows"]:
            dist = name[: -len(".json")] + ("_rht" if row["hadamard"] else "")
            measured[dist, row["format"]] = row["qsnr_db"], row["n"]


def lowbit_name(form, rule):
    name = form.lower().replace("_", "-").replace("mxfp4-e2m1", "mxfp4")
    return name if rule in ("ceil", "e4m3_fp32") else f"{name}-{rule}"


worst, where, count, bad = 0.0, "", 0, 0
for row in csv.DictReader(open(path)):
    name = lowbit_name(row["format"], row["scale_rule"])
    got, n = measured[row["distribution"], name]
    difference = got - float(row["qsnr_db"])
    if n != int(row["n"]):
        sys.exit(f"{name} on {row['distribution']}: {n} values, want {row['n']}")
    count += 1
    if abs(difference) > bound:
        bad += 1
        print(f"{name} on {row['distribution']}: {got:.4f} dB, want {row['qsnr_db']}")
    if abs(difference) > worst:
        worst, where = abs(difference), f"{name} on {row['distribution']}"
print(f"{count} rows, {bad} over {bound} dB; the worst difference is {worst:.4f} dB ({where})")
sys.exit(1 if bad or count == 0 else 0)
PYTHON
