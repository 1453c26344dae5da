#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# export from outside, on a tiny random model: every kind made, opened again and scored.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
text=examples/text/evaluation.txt

"$LB_BUILD/make_tiny_model" "$work/model" seed=7 tokenizer=bpe ffn=128 dtype=BF16 || { echo "no tiny model"; exit 1; }
"$LOWBIT" quantize "$work/model" -o "$work/int4" --format int4-g32 --method rtn -q >/dev/null 2>&1 || bad "quantize"
"$LOWBIT" quantize "$work/model" -o "$work/planes" --format bp2-g32 --method rtn -q >/dev/null 2>&1 || bad "quantize"

# Every kind opens again and says what the checkpoint said.
for kind in gguf gptq awq auto-round compressed-tensors; do
    expect 0 export "$work/int4" --to "$kind" -o "$work/$kind" -q
    stdout_has "tensors ("
    expect 0 eval "$work/$kind" --text "$text" --tokens 256 --against "$work/int4" -q --json
    stdout_has '"kl_mean": 0.0'
    expect 0 run "$work/$kind" -p "the cat" -n 4 --ignore-end -q
    expect 0 inspect "$work/$kind"
done
expect 0 formats --tensor "$work/gptq:model.layers.0.self_attn.q_proj" --format mxint8 -q
stdout_has "mxint8"
expect 0 inspect "$work/awq"
stdout_has "int4-g32"
expect 0 export "$work/awq" --to gptq -o "$work/again" --json -q
stdout_has '"packed_layers": 14'
stdout_has '"dequantized_layers": 0'
expect 1 quantize "$work/awq" -o "$work/never" --format int4-g32 --method rtn -q
stderr_has "is quantized already"

# K types: rounded by GPTQ, and the same model again out of GGUF's blocks, as MODEL and exported once more.
"$LB_BUILD/make_tiny_model" "$work/wide" seed=8 tokenizer=bpe hidden=256 ffn=256 layers=1 || bad "no wide model"
for type in q2_k q3_k q4_k q5_k q6_k; do
    expect 0 quantize "$work/wide" -o "$work/$type" --format "$type" --calib "$text" --samples 4 --seqlen 32 -q
    expect 0 export "$work/$type" --to gguf -o "$work/$type.gguf" -q
    stdout_has "7 x ${type^^}"
    expect 0 eval "$work/$type.gguf" --text "$text" --tokens 256 --against "$work/$type" -q --json
    stdout_has '"kl_mean": 0.0,'
    expect 0 export "$work/$type.gguf" --to gguf -o "$work/$type-again.gguf" -q
    stdout_has "7 x ${type^^}"
    expect 0 eval "$work/$type-again.gguf" --text "$text" --tokens 256 --against "$work/$type" -q --json
    stdout_has '"kl_mean": 0.0,'
    "$LOWBIT" run "$work/$type" -p "the cat" -n 8 --temp 0 -q >"$work/said" 2>/dev/null
    expect 0 run "$work/$type.gguf" -p "the cat" -n 8 --temp 0 -q
    cmp -s "$work/said" "$work/out" || bad "$name: says something else"
done
expect 1 quantize "$work/model" -o "$work/never" --format q4_k --method rtn -q
stderr_has "q4_k has blocks of 256, which do not divide its width of"

# Floats.
expect 0 export "$work/planes" --to safetensors --dtype f32 -o "$work/floats" -q
stdout_has "14 layers that had codes are floats now"
expect 0 eval "$work/floats" --text "$text" --tokens 256 --against "$work/planes" -q --json
awk -F'[:,]' '/"kl_mean"/ { found = $2 < 1e-9 } END { exit !found }' "$work/out" || bad "$name: not the same model"
expect 0 export "$work/model" --to gguf --dtype q8_0 -o "$work/q8.gguf" -q
stdout_has "x Q8_0"

# What a target cannot hold is refused in one sentence, and leaves nothing.
expect 1 export "$work/planes" --to gguf -o "$work/none.gguf" -q
stderr_has "of which GGUF has no type; --dequantize writes such layers as floats"
[ ! -e "$work/none.gguf" ] || bad "a refused export left a file"
expect 1 export "$work/int4" --to awq -o "$work/awq" -q
stderr_has "exists already"
expect 2 export "$work/int4" --to onnx -o "$work/none"
stderr_has "--to wants one of gguf"
expect 2 export "$work/int4" --to awq --zeros v2 -o "$work/none"
stderr_has "--zeros belongs to --to gptq"
expect 2 export "$work/int4" --to gptq --naive -o "$work/none"
expect 2 export "$work/int4" --to gptq --dtype q8_0 -o "$work/none"

# The same bytes every time, at any number of threads.
for kind in gguf gptq compressed-tensors; do
    expect 0 export "$work/int4" --to "$kind" -o "$work/twice-$kind" -q --threads 2
done
cmp -s "$work/gguf" "$work/twice-gguf" || bad "two GGUF files differ"
for kind in gptq compressed-tensors; do
    for file in model.safetensors config.json; do
        cmp -s "$work/$kind/$file" "$work/twice-$kind/$file" || bad "$kind/$file differs the second time"
    done
done

[ "$failures" -eq 0 ] || { echo "$failures checks failed"; exit 1; }
echo "export: all checks passed"
