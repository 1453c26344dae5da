#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Training in float32 beside training in low precision, and symmetric beside asymmetric clipping (arXiv:2510.25602):
#   tools/lowbit_training.sh TEXT HELD_OUT FOLDER [FLAGS of lowbit train...]
# One run of each format and seed, in FOLDER; then a table of the losses on the held-out text (of the model as it is
# trained, rounded). Runs that are there already are not made again, and one that was interrupted goes on.
#   FORMATS  default: f32 mxint8 mxfp8 mxint8-ocp mxint8-ocp-asym mxint6 mxfp6      SEEDS  default: 1 2
#   LOWBIT   default: build/lowbit beside this folder
set -euo pipefail
export LC_ALL=C
[ $# -ge 3 ] || { sed -n '3,10s/^# *//p' "$0" >&2; exit 2; }
text=$1 valid=$2 folder=$3
shift 3
LOWBIT=${LOWBIT:-$(dirname "$0")/../build/lowbit}
formats=${FORMATS:-f32 mxint8 mxfp8 mxint8-ocp mxint8-ocp-asym mxint6 mxfp6}
seeds=${SEEDS:-1 2}
[ $# -gt 0 ] || set -- --hidden 128 --layers 2 --heads 2 --ffn 384 --vocab 512 --ctx 64 --batch 1024 \
    --tokens 614400 --schedule cosine --final 0.1 --lr 0.003 --valid-every 100 --valid-tokens 32768

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

# The last held-out loss of every run; differences from f32 of the same seed, and their mean.
{
    for seed in $seeds; do
        for format in $formats; do
            awk -F, -v format="$format" -v seed="$seed" 'NR > 1 && $7 != "" { loss = $7 } END { print format, seed, loss }' \
                "$folder/$format.$seed/log.csv"
        done
    done
} | awk '
    !($1 in seen) { seen[$1] = 1; order[++n] = $1 }
    !($2 in known) { known[$2] = 1; seeds[++s] = $2 }
    { loss[$1, $2] = $3 }
    END {
        printf "| trained in |"; for (k = 1; k <= s; k++) printf " seed %s |", seeds[k]; print " mean minus f32 |"
        printf "|---|"; for (k = 0; k <= s; k++) printf "---|"; print ""
        for (i = 1; i <= n; i++) {
            printf "| %s |", order[i]; sum = 0
            for (k = 1; k <= s; k++) {
                printf " %.4f |", loss[order[i], seeds[k]]
                sum += loss[order[i], seeds[k]] - loss["f32", seeds[k]]
            }
            printf " %+.4f |\n", sum / s
        }
    }'
