#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Training in float32 beside training in low precision, and symmetric beside asymmetric clipping (arXiv:2510.25602):
#   tools/lowbit_training.sh TEXT HELD_OUT FOLDER [FLAGS of lowbit train...]
# One run of each format and seed, in FOLDER; then a table of the losses on the held-out text (of the model as it is
# trained, rounded) and FOLDER/curves.svg. Runs that are there already are not made again, and one that was interrupted
# goes on.
#   FORMATS  default: f32 mxint8 mxfp8 mxint8-ocp mxint8-ocp-asym mxint6 mxfp6      SEEDS  default: 1 2 3
#   LOWBIT   default: build/lowbit beside this folder
set -euo pipefail
export LC_ALL=C
[ $# -ge 3 ] || { sed -n '3,11s/^# *//p' "$0" >&2; exit 2; }
text=$1 valid=$2 folder=$3
shift 3
LOWBIT=${LOWBIT:-$(dirname "$0")/../build/lowbit}
formats=${FORMATS:-f32 mxint8 mxfp8 mxint8-ocp mxint8-ocp-asym mxint6 mxfp6}
seeds=${SEEDS:-1 2 3}
[ $# -gt 0 ] || set -- --hidden 128 --layers 2 --heads 2 --ffn 384 --vocab 512 --ctx 64 --batch 1024 \
    --tokens 614400 --schedule cosine --final 0.1 --lr 0.003 --valid-every 50 --valid-tokens 32768

mkdir -p "$folder"
for seed in $seeds; do
    for format in $formats; do
        run=$folder/$format.$seed
        lowbit=(--lowbit "$format")
        [ "$format" != f32 ] || lowbit=()
        if [ -f "$run/run.json" ]; then
            "$LOWBIT" train --resume -o "$run" >&2
        else
            "$LOWBIT" train --text "$text" --valid "$valid" --data "$folder/data" -o "$run" --seed "$seed" \
                "$@" "${lowbit[@]}" >&2
        fi
    done
done

# FORMAT SEED STEP LOSS of every held-out loss.
for seed in $seeds; do
    for format in $formats; do
        awk -F, -v format="$format" -v seed="$seed" 'NR > 1 && $7 != "" { print format, seed, $1, $7 }' \
            "$folder/$format.$seed/log.csv"
    done
done >"$folder/losses.txt"

# The last ones; differences from f32 of the same seed, their mean and their spread.
awk '
    !($1 in seen) { seen[$1] = 1; order[++n] = $1 }
    !($2 in known) { known[$2] = 1; seeds[++s] = $2 }
    { loss[$1, $2] = $4 }
    END {
        printf "| trained in |"; for (k = 1; k <= s; k++) printf " seed %s |", seeds[k]
        print " mean minus f32 | spread of that over seeds |"
        printf "|---|"; for (k = 0; k <= s + 1; k++) printf "---|"; print ""
        for (i = 1; i <= n; i++) {
            printf "| %s |", order[i]; sum = 0; squares = 0
            for (k = 1; k <= s; k++) {
                printf " %.4f |", loss[order[i], seeds[k]]
                d = loss[order[i], seeds[k]] - loss["f32", seeds[k]]
                sum += d
                squares += d * d
            }
            spread = s > 1 ? (squares - sum * sum / s) / (s - 1) : 0
            printf " %+.4f | %.4f |\n", sum / s, sqrt(spread > 0 ? spread : 0)
        }
    }' "$folder/losses.txt"

command -v gnuplot >/dev/null 2>&1 || {
    echo "no picture: gnuplot is missing (Debian: apt install gnuplot-nox)" >&2
    exit 0
}
plots=
for format in $formats; do
    [ "$format" != f32 ] || continue
    awk -v format="$format" '
        $1 == "f32" { base[$2, $3] = $4 }
        $1 == format {
            value[$2, $3] = $4
            seeds[$2] = 1
            if (!($3 in known)) { known[$3] = 1; steps[++n] = $3 }
        }
        END {
            for (i = 1; i <= n; i++) {
                sum = count = 0
                for (seed in seeds)
                    if ((seed, steps[i]) in value && (seed, steps[i]) in base) {
                        sum += value[seed, steps[i]] - base[seed, steps[i]]
                        count++
                    }
                if (count) print steps[i], sum / count
            }
        }' "$folder/losses.txt" >"$folder/$format.dat"
    plots+="${plots:+, }'$folder/$format.dat' with linespoints lw 2 title '$format'"
done
gnuplot <<GNUPLOT
set terminal svg size 760,460 font "sans-serif,14" background "#ffffff"
set output "$folder/curves.svg"
set title "Training in low precision: held-out loss minus that of float32, mean over seeds"
set xlabel "step"
set ylabel "nats per token"
set grid lc rgb "#dddddd"
set key top right
set xzeroaxis lc rgb "#444444"
plot $plots
GNUPLOT
