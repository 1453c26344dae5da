#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# formats from outside: random numbers, tensors and layer inputs of a tiny model, plots, misuse.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
model=$work/model
text=examples/text/evaluation.txt

one_line_and_the_table() { # what was measured is told, whatever becomes of the picture
    stdout_has 'mxfp8-e4m3'
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}
one_sentence() {
    [ ! -s "$work/out" ] || bad "$name: stdout is not empty"
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}
# rows: lines of the table that begin with a format's name
rows() { grep -cE "^$1 " "$work/out"; }

"$LB_BUILD/make_tiny_model" "$model" seed=5 context=128 || { echo "no tiny model"; exit 1; }

# The ten formats, and the four crossovers with the paper's numbers.
expect 0 formats --n 65536 -q
silent_stderr
for format in mxfp8-e4m3 mxfp8-e5m2 mxfp6-e2m3 mxfp6-e3m2 mxfp4 mxint8 mxint6 mxint4 nvfp4 nvint4; do
    [ "$(rows "$format")" -ge 1 ] || bad "$name: no row of $format"
done
for crossover in '7.55 (31.86)' '1.96 (31.54)' '2.04 (19.14)' '2.39 (21.14)'; do stdout_has "$crossover"; done
stdout_has 'gaussian, 65536 values'

# Rotated rows stand beside plain ones; a list of formats; other distributions.
expect 0 formats --n 65536 -q --hadamard --format mxint8,int4-g64 --format nvfp4 --dist student-t:4
[ "$(rows mxint8)" -eq 2 ] && [ "$(rows int4-g64)" -eq 2 ] && [ "$(rows nvfp4)" -eq 2 ] || bad "$name: rows"
stdout_has hadamard
for dist in laplace uniform gaussian:3 gaussian-crest:2.5 laplace:0.1; do
    expect 0 formats --n 20000 -q --format mxfp4,nvint4,mxint4-asym --dist "$dist"
    stdout_has "$dist, 20000 values"
done

# Rules.
expect 0 formats --n 8192 -q --rule ocp
[ "$(rows mxint8-ocp)" -ge 1 ] && [ "$(rows nvfp4)" -eq 0 ] || bad "$name: formats without the rule are not left out"
expect 0 formats --n 8192 -q --rule all --format mxfp4,nvint4,mxint6-asym,int4-g32
[ "$(rows 'mxfp4-(ocp|even|round|floor|exact)')" -eq 5 ] && [ "$(rows nvint4-exact)" -eq 1 ] &&
    [ "$(rows 'mxint6-ocp-asym')" -eq 1 ] && [ "$(rows int4-g32)" -eq 1 ] || bad "$name: rules"
expect 2 formats --rule ocp --format mxfp4,nvint4
one_sentence
stderr_has 'format nvint4 has no variant with the rule ocp'

# JSON: one object, null for what is exact, the same on any number of threads.
expect 0 formats --n 65536 -q --json --hadamard --seed 7
for key in rows format dist n qsnr_db qsnr_theory_db qsnr_theory_paper_db hadamard rule bits_per_weight crest median \
    crossovers; do
    stdout_has "\"$key\":"
done
if command -v jq >/dev/null 2>&1; then
    [ "$(jq -s 'length == 1 and (.[0].rows | length == 20)' "$work/out")" = true ] || bad "$name: not 20 rows"
fi
cp "$work/out" "$work/first"
for threads in 1 3; do
    expect 0 formats --n 65536 -q --json --hadamard --seed 7 --threads "$threads"
    cmp -s "$work/out" "$work/first" || bad "$name: other numbers"
done
expect 0 formats --n 65536 -q --json --hadamard --seed 7 --cpu ref
cmp -s "$work/out" "$work/first" || bad "$name: other numbers"
expect 0 formats --n 65536 -q --json --hadamard --seed 8
cmp -s "$work/out" "$work/first" && bad "$name: the same numbers with another seed"
expect 0 formats --n 640 -q --json --format f32
stdout_has '"qsnr_db": null'
expect 0 formats --n 640 -q --format f32
stdout_has exact

# A tensor, with and without its ending; what a layer is fed.
expect 0 formats -q --hadamard --tensor "$model:model.layers.0.mlp.down_proj"
cp "$work/out" "$work/first"
expect 0 formats -q --hadamard --tensor "$model:model.layers.0.mlp.down_proj.weight"
diff <(tail -n +2 "$work/first") <(tail -n +2 "$work/out") >/dev/null || bad "$name: differs without .weight"
expect 0 formats -q --tensor "$model:model.norm.weight" --format mxint8
"$LOWBIT" quantize "$model" -o "$work/small" --format int4-g32 --method rtn -q >/dev/null 2>&1 || bad "quantize failed"
expect 0 formats -q --tensor "$work/small:model.layers.0.mlp.down_proj" --format int4-g32
expect 0 formats -q --inputs "$model:model.layers.1.mlp.down_proj" --text "$text" --tokens 300 --format mxint8,nvfp4
stdout_has 'model.layers.1.mlp.down_proj, '
cp "$work/out" "$work/first"
expect 0 formats -q --inputs "$model:model.layers.1.mlp.down_proj" --text "$text" --tokens 300 \
    --format mxint8,nvfp4 --threads 1
cmp -s "$work/out" "$work/first" || bad "$name: other numbers on one thread"
expect 0 formats -q --inputs "$model:model.layers.0.self_attn.o_proj" --text "$text" --format mxint8 --json

# Names that do not exist.
expect 2 formats --tensor "$model:model.layers.0.mlp.down_prj"
one_sentence
stderr_has 'did you mean model.layers.0.mlp.down_proj'
expect 2 formats --tensor "$model:k_proj"
stderr_has 'did you mean model.layers.0.self_attn.k_proj?'
expect 2 formats --tensor "$model:zzz"
stderr_has 'has no tensor called zzz'
expect 2 formats --inputs "$model:model.layers.9.mlp.up_proj" --text "$text"
stderr_has 'has no linear layer called model.layers.9.mlp.up_proj; did you mean model.layers.'
expect 2 formats --tensor "$model"
one_sentence
expect 1 formats --tensor "$work/none:x"
one_sentence
expect 1 formats --inputs "$model:model.layers.0.mlp.up_proj" --text "$work/none"

# Misuse.
for words in '--format nope' '--format mxint8,' '--dist nope' '--dist gaussian:x' '--dist gaussian-crest' \
    '--dist gaussian-crest:7' '--dist gaussian-crest:1.1' '--n 0' '--rule fast' "--inputs $model:x" \
    "--text $text" '--tokens 5' '--cells x' "--tensor $model:x --dist laplace" "--tensor $model:x --n 5" \
    "--tensor $model:x --inputs $model:y --text $text" 'more'; do
    # shellcheck disable=SC2086
    expect 2 formats $words
    one_sentence
done

# A NaN in a model: the place, and exit status 1.
cp -r "$model" "$work/nan"
size=$(stat -c %s "$work/nan/model.safetensors")
printf '\x00\x00\xc0\x7f' | dd of="$work/nan/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
found=0
while read -r tensor; do
    "$LOWBIT" formats -q --format mxint8 --hadamard --tensor "$work/nan:$tensor" >"$work/out" 2>"$work/err"
    status=$?
    [ "$status" -eq 0 ] && continue
    found=$((found + 1))
    name="formats --tensor nan:$tensor"
    [ "$status" -eq 1 ] || bad "$name: exit $status"
    one_sentence
    stderr_has 'not a finite number'
done < <("$LOWBIT" inspect "$model" --tensors | sed -nE 's/^  (model\.[^ ]*|lm_head[^ ]*) .*/\1/p')
[ "$found" -eq 1 ] || bad "$found tensors have a NaN, wanted 1"

# A plot, or the sentence that says what is missing.
if command -v gnuplot >/dev/null 2>&1; then
    expect 0 formats -q --n 4096 --plot "$work/plot.svg"
    head -c 4 "$work/plot.svg" | grep -qx '<svg' || bad "$name: no SVG"
    for word in mxint8 nvfp4 'QSNR (dB)' 'crest factor' '2.00' '1.78'; do
        grep -qF "$word" "$work/plot.svg" || bad "$name: the plot lacks $word"
    done
    expect 1 formats -q --n 4096 --plot "$work/none/plot.svg"
    one_line_and_the_table
fi
PATH=$work/no-such-folder expect 1 formats -q --n 4096 --plot "$work/other.svg"
one_line_and_the_table
stderr_has 'gnuplot-nox'
[ ! -e "$work/other.svg" ] || bad "$name: left a file"
expect 2 formats -q --n 4096 --plot "$work/other.svg" --format bf16

# What hardware costs comes after the rest.
expect 0 formats -q --n 4096 --hw
stdout_has 'Throughput of two precisions'
stdout_has 'W4A4'
stdout_has 'mxint8'
expect 0 formats -q --n 4096 --hw --json
stdout_has '"hardware":'
expect 1 formats -q --n 4096 --hw --cells "$work/none"
one_sentence

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "formats: fine"
