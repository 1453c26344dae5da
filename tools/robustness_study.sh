#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What training does to quantization (arXiv:2510.06213), on a small scale: trains the runs, and has `lowbit robustness`
# quantize their checkpoints: FOLDER/report.
#   tools/robustness_study.sh TEXT HELD_OUT FOLDER [train]
# Trunks have a constant learning rate; branches decay it to 0, linearly, over a fixed number of steps. One trunk has
# branches at three places; others differ from it in learning rate, weight decay or schedule; all have every seed. What
# is there already is not made again, and a run that was interrupted goes on.
#   STEPS of a trunk (6000)   TOKENS of a step (1024)   SEEDS (1 2 3)   SCORED tokens (65536)   THREADS (all)
#   LOWBIT (build/lowbit beside this folder)
set -euo pipefail
export LC_ALL=C
[ $# -ge 3 ] || { sed -n '3,10s/^# *//p' "$0" >&2; exit 2; }
text=$1 valid=$2 folder=$3 part=${4:-all}
LOWBIT=${LOWBIT:-$(dirname "$0")/../build/lowbit}
steps=${STEPS:-6000} tokens=${TOKENS:-1024} seeds=${SEEDS:-1 2 3}
threads=(--threads "${THREADS:-$(nproc)}")
[ "$steps" -ge 120 ] || { echo "tools/robustness_study.sh: STEPS is $steps, want 120 or more" >&2; exit 2; }
decay=$((steps / 9))                               # steps of a branch
shape=(--hidden 128 --layers 4 --heads 4 --ffn 384 --vocab 257 --ctx 128 --batch "$tokens" --warmup $((steps / 60))
    --valid-every $((steps / 20)) --valid-tokens 32768 --log-every $((steps / 120)))
every=$((steps / 120))                             # steps between a trunk's checkpoints: averages need them dense

# train NAME FLAGS...: begins the run, or ends what was begun
train() {
    local run=$folder/$1
    shift
    if [ -f "$run/run.json" ]; then
        "$LOWBIT" train --resume -o "$run" "${threads[@]}" >&2
    else
        "$LOWBIT" train -o "$run" --data "$folder/data" "${threads[@]}" "$@" >&2
    fi
}

# trunk NAME LR WEIGHT_DECAY SEED
trunk() {
    train "$1" --text "$text" --valid "$valid" "${shape[@]}" --schedule constant --tokens $((steps * tokens)) \
        --lr "$2" --weight-decay "$3" --seed "$4" --save-every "$every" --keep-states
    names+=("$1")
}

# branch NAME TRUNK STEP FLAGS...: the learning rate falls to 0 from there
branch() {
    local name=$1 trunk=$2 at=$3
    shift 3
    train "$name" --from "$folder/$trunk/step-$(printf %08d "$at")" --schedule wsd --tokens $(((at + decay) * tokens)) \
        --decay "$(awk -v d="$decay" -v n="$((at + decay))" 'BEGIN { printf "%.17g", d / n }')" "$@"
    names+=("$name")
}

mkdir -p "$folder"
names=()
first=${seeds%% *}
quarters=(--save-every $((decay / 4)))
for seed in $seeds; do
    trunk "base-s$seed" 0.003 0.3 "$seed"
    branch "base-s$seed-decay$steps" "base-s$seed" "$steps" "${quarters[@]}"
    [ "$seed" = "$first" ] || continue
    for at in $((steps / 3)) $((steps * 2 / 3)); do  # the same decay earlier: is it the decay, or how much was seen?
        branch "base-s$seed-decay$at" "base-s$seed" "$at" "${quarters[@]}"
    done
done
for seed in $seeds; do
    for lr in 0.001 0.01; do
        trunk "lr$lr-s$seed" "$lr" 0.3 "$seed"
        branch "lr$lr-s$seed-decay$steps" "lr$lr-s$seed" "$steps" "${quarters[@]}"
    done
    trunk "wd0.1-s$seed" 0.003 0.1 "$seed"
    branch "wd0.1-s$seed-decay$steps" "wd0.1-s$seed" "$steps" "${quarters[@]}"
    train "cosine-s$seed" --text "$text" --valid "$valid" "${shape[@]}" --schedule cosine --final 0 --lr 0.003 \
        --weight-decay 0.3 --tokens $(((steps + decay) * tokens)) --seed "$seed" --save-every $((steps / 12))
    names+=("cosine-s$seed")
done

# Soups: branches of one trunk that saw other text on their way down, and their mean.
for seed in $seeds; do
    soup=("$folder/base-s$seed-decay$steps")
    for order in 101 102; do
        branch "order$order-s$seed" "base-s$seed" "$steps" --seed "$order" --save-every "$decay"
        soup+=("$folder/order$order-s$seed")
    done
    [ -d "$folder/soup-s$seed" ] ||
        "$LOWBIT" average "${soup[@]/%//step-$(printf %08d $((steps + decay)))}" -o "$folder/soup-s$seed" >&2
    names+=("soup-s$seed")
done
[ "$part" != train ] || exit 0

# GPTQ as the paper has it. Averages: of ten checkpoints, a twelfth of a trunk.
resume=()
[ ! -f "$folder/report/results.json" ] || resume=(--resume)
"$LOWBIT" robustness "${names[@]/#/$folder/}" -o "$folder/report" "${resume[@]}" "${threads[@]}" \
    --text "$valid" --tokens "${SCORED:-65536}" --calib "$text" --samples 128 --seqlen 128 \
    --format int3-g128,int4-g128 --order act --damp 0.05 --fit range --compensate 0 --refine 0 \
    --every $((steps / 6)) --average "latest:10:$every"
