#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A model that was really trained, models/tiny: its score, and which method loses how much of it. Bounds are loose: they
# are for what is broken, not for what is a little worse.
# Needs LOWBIT=path of the command.
. tests/cli/lib/expect.bash
model=models/tiny
text=examples/text/evaluation.txt

# field KEY: a number of the JSON in $work/out.
field() { sed -nE "s/^ *\"$1\": (-?[0-9.e+-]+),?\$/\1/p" "$work/out" | tail -n 1; }
# within A B C: A <= B <= C.
within() {
    awk -v low="$1" -v x="${2:-nan}" -v high="$3" 'BEGIN { exit !(x + 0 == x && x >= low && x <= high) }' ||
        bad "$name: $2 is not within $1 and $3"
}
# loss LOW HIGH FLAGS...: the divergence of a quantized model, into $kl.
loss() {
    local low=$1 high=$2
    shift 2
    rm -rf "$work/model"
    expect 0 quantize "$model" -o "$work/model" --calib "$model/generated.txt" --samples 32 --seqlen 256 \
        --eval-text "$text" --eval-tokens 1024 -q --json "$@"
    kl=$(field kl_mean)
    within "$low" "$kl" "$high"
}

expect 0 inspect "$model"
stdout_has '5,180,672'
expect 0 eval "$model" --text "$model/generated.txt" --tokens 4096 -q --json
within 35 "$(field perplexity)" 75
expect 0 run "$model" -p "Alice" -n 40 --temp 0.6 --seed 7 --ignore-end -q
[ "$(wc -w <"$work/out")" -ge 15 ] || bad "$name: hardly a word"

loss 0.15 0.6 --format int2-g64 --method rtn
rounded=$kl
loss 0.1 0.5 --format int2-g64
within 0 "$kl" "$(awk -v r="$rounded" 'BEGIN { print 0.85 * r }')"
gptq=$kl
loss 0.05 0.4 --format bp2-g128 --method bpdq
within 0 "$kl" "$(awk -v g="$gptq" 'BEGIN { print 0.95 * g }')"
loss 0.002 0.03 --format int4-g128
loss 0 0.0005 --format int8-g128 --method rtn

[ "$failures" -eq 0 ] || { echo "$failures checks failed"; exit 1; }
echo "quality: all checks passed"
