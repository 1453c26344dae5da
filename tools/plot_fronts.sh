#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Draws divergence against what it is paid with, a panel for each price, and the Pareto front of every family:
#   tools/plot_fronts.sh TITLE PICTURE.svg < TABLE
# TABLE has tabs: "family", "kl", and a column for each price; "-" where there is none. A price whose name begins with
# "+" is a gain: more is better. Needs python3; without gnuplot it says so, and makes no picture.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '3,7s/^# *//p' "$0" >&2; exit 2; }
command -v gnuplot >/dev/null 2>&1 || { echo "no picture: gnuplot is missing (Debian: apt install gnuplot-nox)" >&2; exit 0; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/table"
python3 - "$scratch" "$1" >"$scratch/plot" <<'EOF_PYTHON'
import os, sys
folder, title = sys.argv[1:]
head, *rows = [line.rstrip("\n").split("\t") for line in open(folder + "/table")]
families = list(dict.fromkeys(row[0] for row in rows))
colours = "#1f5fa8 #b0552b #7a7a2a #8a3a8a #2a8a6a #555555 #c0392b #c09020".split()
shown = [i for i in range(2, len(head)) if any(row[i] != "-" for row in rows)]
panels = [head[i] for i in shown]

def front(points, gain):
    best, kept = float("inf"), []
    for x, kl in sorted(points, key=lambda p: (-p[0] if gain else p[0], p[1])):
        if kl < best:
            best = kl
            kept.append((x, kl))
    return kept

print('set terminal svg size %d,460 font "sans-serif,14" background "#ffffff"' % (520 * len(panels) + 20))
print('set multiplot layout 1,%d title "%s"' % (len(panels), title))
print('set ylabel "mean KL from the float model, nats"\nset logscale y\nset format y "10^{%T}"')
print('set grid lc rgb "#dddddd"\nset offsets graph 0.03, graph 0.03\nset key bottom %s samplen 1 font ",11"' % ("left" if not panels[0].startswith("+") else "right"))
for i, panel in enumerate(panels):
    gain, curves = panel.startswith("+"), []
    for number, family in enumerate(families):
        points = [(float(r[shown[i]]), float(r[1])) for r in rows if r[0] == family and r[shown[i]] != "-"]
        if not points:
            continue
        names = [os.path.join(folder, "%s-%d-%d" % (kind, i, number)) for kind in ("points", "front")]
        for name, listed in zip(names, (points, front(points, gain))):
            with open(name, "w") as f:
                f.writelines("%g %g\n" % p for p in listed)
        style = "lc rgb '%s'" % colours[number % len(colours)]
        curves.append("'%s' with points pt %d ps 0.6 %s title '%s'" % (names[0], number % 8 + 4, style, family))
        curves.append("'%s' with lines lw 2 %s notitle" % (names[1], style))
    if i > 0:
        print("unset ylabel\nunset key")
    print('set xlabel "%s"\nplot %s' % (panel.lstrip("+"), ", ".join(curves)))
EOF_PYTHON
gnuplot "$scratch/plot" >"$2"
