#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Block formats, rotations and rounded inputs from outside, and the study of integer against floating point.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
model=$work/model
text=examples/text/evaluation.txt

one_sentence() {
    [ ! -s "$work/out" ] || bad "$name: stdout is not empty"
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}
absent() { [ ! -e "$1" ] || bad "$name: $1 is there"; }

"$LB_BUILD/make_tiny_model" "$model" seed=6 tokenizer=bpe context=128 || { echo "no tiny model"; exit 1; }

# Every block format: quantized, listed, run. Bits per weight are those of the format; the float that an NV
# tensor has to itself counts in layers as small as these.
while read -r format bits; do
    expect 0 quantize "$model" -o "$work/$format" --format "$format" --method rtn -q
    grep -qE "$bits in quantized layers" "$work/out" || bad "$format: not $bits bits per weight"
    expect 0 inspect "$work/$format"
    grep -qE "^q_proj +$format +2 +" "$work/out" || bad "inspect: no line for q_proj"
    expect 0 run "$work/$format" -p "the cat" -n 4 --ignore-end -q
    [ -s "$work/out" ] || bad "run $format: says nothing"
done <<'END'
mxfp8-e4m3 8\.250
mxfp8-e5m2 8\.250
mxfp6-e2m3 6\.250
mxfp6-e3m2 6\.250
mxfp4 4\.250
mxint8 8\.250
mxint6 6\.250
mxint4 4\.250
nvfp4 4\.5[01][0-9]
nvint4 4\.5[01][0-9]
END

# Rotated, with rounded inputs: the checkpoint says so, and runs and scores accordingly.
for act in mxint8 nvint4 mxfp8; do
    expect 0 quantize "$model" -o "$work/r-$act" --format nvint4 --act "$act" --transform hadamard --samples 4 -q
    expect 0 inspect "$work/r-$act"
    stdout_has 'hadamard-16'
    expect 0 run "$work/r-$act" -p "the cat" -n 4 --ignore-end -q
    expect 0 eval "$work/r-$act" --text "$text" --tokens 256 --against "$model" -q
    stdout_has 'of top 25'
done

# A direct cast is compared with the model itself.
expect 0 eval "$model" --text "$text" --tokens 256 --weights mxfp4 --act mxfp8 --transform hadamard -q --json
for key in kl_mean kl_top25_mean reference top1_agreement; do stdout_has "\"$key\":"; done
expect 0 eval "$model" --text "$text" --tokens 256 --transform hadamard-32 -q
stdout_has 'KL divergence mean 0.00000'

# Wrong names are misuse; what the model cannot have is one sentence.
expect 2 eval "$model" --text "$text" --weights mxfp5
stderr_has '"mxfp5" is not known'
expect 2 eval "$model" --text "$text" --transform hadamarx
stderr_has '"hadamarx" is not known'
expect 2 quantize "$model" -o "$work/no" --act int9-g32
stderr_has '"int9-g32" is not known'
expect 1 eval "$model" --text "$text" --transform hadamard-7 -q
one_sentence
stderr_has 'does not fit'
expect 1 quantize "$model" -o "$work/no" --transform hadamard-128 --samples 4 -q
one_sentence
stderr_has 'does not divide'
absent "$work/no"
absent "$work/no.partial"
expect 1 eval "$work/nvfp4" --text "$text" --weights nvfp4 -q
stderr_has 'is quantized already'

# The study.
expect 0 study "$model" --text "$text" --tokens 256 --tensor-tokens 128 -o "$work/study" -q
for pair in '8-bit MX' '6-bit MX' '4-bit MX' '4-bit NV' 'unquantized: perplexity'; do stdout_has "$pair"; done
for file in results.md results.csv tensors.csv report.html; do
    [ -s "$work/study/$file" ] || bad "study: no $file"
done
[ "$(wc -l <"$work/study/results.csv")" -eq 17 ] || bad "study: results.csv has not 16 casts"
[ "$(wc -l <"$work/study/tensors.csv")" -eq $((1 + 2 * 11 * 8)) ] || bad "study: tensors.csv is not complete"
absent "$work/study.partial"
if command -v gnuplot >/dev/null 2>&1; then
    [ "$(find "$work/study" -name '*.svg' | wc -l)" -eq 5 ] || bad "study: not 5 plots"
    [ "$(grep -o '<svg' "$work/study/report.html" | wc -l)" -eq 5 ] || bad "study: the page has not 5 plots"
fi
expect 1 study "$model" --text "$text" -o "$work/study" -q
one_sentence
stderr_has 'exists already'
expect 1 study "$work/nvfp4" --text "$text" -q
one_sentence
stderr_has 'is quantized already'
expect 1 study "$model" --text "$work/absent" -o "$work/none" -q
one_sentence
absent "$work/none"
expect 1 study "$model" --text "$text" -o "$work/no/where" -q
stderr_has 'No such file or directory'

mkdir "$work/left.partial"
echo precious >"$work/left.partial/thesis"
expect 1 study "$model" --text "$text" -o "$work/left" -q
one_sentence
stderr_has 'left.partial exists'
expect 2 eval "$model" --text "$text" --fit search
stderr_has '--fit belongs to --weights'

# A cast to bf16 rounds, and is not free.
expect 0 eval "$model" --text "$text" --tokens 256 --weights bf16 --act bf16 -q --json
grep -q '"kl_mean": 0.0,' "$work/out" && bad 'a cast to bf16 changes nothing'

# A path that is no UTF-8 is no reason to say nothing.
odd=$work/$'odd\xff'
cp -r "$model" "$odd"
expect 0 formats --tensor "$odd:model.norm" --format mxint8 --json -q
stdout_has '"qsnr_db"'
expect 0 eval "$odd" --text "$text" --tokens 128 --json -q
stdout_has '"nll_mean"'

# Without gnuplot everything else is there, and one line says what is not.
mkdir "$work/bin"
if PATH=$work/bin "$LOWBIT" study "$model" --text "$text" --tokens 256 --tensor-tokens 128 -o "$work/plain" -q \
    >"$work/out" 2>"$work/err"; then
    [ -s "$work/plain/report.html" ] || bad "study without gnuplot: no report"
    grep -q 'gnuplot is missing' "$work/err" || bad "study without gnuplot: does not say so"
else
    bad "study without gnuplot fails"
fi

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "study: fine"
