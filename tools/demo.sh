#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make demo: the small model in models/tiny, quantized by every method, with what each costs, and what it writes
# before and after. With a model of your own, or the one that is fetched where models/tiny is not there, one quantization:
#   MODEL=path   a Hugging Face folder or a GGUF file
#   OUT=path     where the quantized model goes, and stays (otherwise it is removed at the end)
#   FORMAT=int3-g64  METHOD=gptq  PROMPT=text
set -euo pipefail
cd "$(dirname "$0")/.."

lowbit=build/lowbit
scratch=
finish() {
    [ -z "$scratch" ] || rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

show() { # the command as a user would type it, then its doing
    printf '\n$ lowbit'
    printf ' %q' "$@"
    printf '\n'
    "$lowbit" "$@"
}

# ---- A model of the user's, or the one that is fetched ---------------------------------------------------

own_model() {
    local format=${FORMAT:-int3-g64} prompt=${PROMPT:-The capital of France is} out=${OUT:-}
    if [ -z "$out" ]; then
        scratch=$(mktemp -d "${TMPDIR:-/tmp}/lowbit-demo.XXXXXX")
        out=$scratch/$(basename "$MODEL" .gguf)-$format
    fi
    show run "$MODEL" -p "$prompt" -n 32 --temp 0
    show quantize "$MODEL" -o "$out" --format "$format" --method "${METHOD:-gptq}" \
        --eval-text examples/text/evaluation.txt
    show run "$out" -p "$prompt" -n 32 --temp 0
    printf '\n'
    if [ -n "$scratch" ]; then
        echo "The quantized model was in $out, which is removed now; make demo OUT=folder keeps it."
    else
        echo "The quantized model is in $out; try it: $lowbit run $out -p \"$prompt\""
    fi
}

# ---- The bundled model ------------------------------------------------------------------------------------

model=models/tiny
calibration=$model/generated.txt
folder=build/demo

# The books of Ruth, Esther and Jonah, which no model here was trained on, from the Debian package bible-kjv-text.
write_text() {
    text=$folder/text.txt
    if command -v bible >/dev/null 2>&1; then
        bible -f Ruth1:1-Ruth4:22 Esther1:1-Esther10:3 Jonah1:1-Jonah4:11 </dev/null |
            sed -E '/^$/d; s/^[A-Za-z]+[0-9]+:[0-9]+ //' >"$text"
        scored='Ruth, Esther and Jonah in the King James Version (Debian: bible-kjv-text)'
    else
        cp examples/text/evaluation.txt "$text"
        scored='examples/text/evaluation.txt, for want of the Debian package bible-kjv'
    fi
}

# field KEY INDENT: of the JSON that `lowbit --json` printed to $folder/last.json
field() { sed -nE "s/^ {$2}\"$1\": (-?[0-9.e+-]+),?$/\1/p" "$folder/last.json" | head -n 1; }

# row LABEL FLAGS...: one way to quantize, and its line of the table
row() {
    local label=$1
    shift
    rm -rf "$folder/model"
    "$lowbit" quantize "$model" -o "$folder/model" --calib "$calibration" --samples 32 --seqlen 256 \
        --eval-text "$text" --eval-tokens 4096 -q --json "$@" >"$folder/last.json"
    awk -v label="$label" -v bits="$(field quantized_bits_per_weight 1)" -v kl="$(field kl_mean 2)" \
        -v perplexity="$(field perplexity 2)" -v same="$(field top1_agreement 2)" -v seconds="$(field seconds 1)" \
        'BEGIN { printf "| %-44s | %6.3f | %10.2f | %8.4f | %6.1f %% | %5.1f |\n", label, bits, perplexity, kl, same, seconds }' |
        tee -a "$folder/table.md"
}

# say WHAT MODEL: what a model writes
say() {
    printf '\n%s:\n' "$1"
    "$lowbit" run "$2" -p "$prompt" -n 90 --temp 0.6 --top-p 0.9 --repeat-penalty 1.1 --seed 7 --ignore-end --echo -q
    printf '\n'
}

bundled_model() {
    prompt=${PROMPT:-Alice}
    rm -rf "$folder"
    mkdir -p "$folder"
    write_text
    printf '\nmodels/tiny: a story model of 5 million weights, made with `lowbit train` from books that are in the public domain.\n'
    printf 'Calibration: %s, which the model wrote itself when it was made.\nScored on: %s.\n' "$calibration" "$scored"
    say 'What it writes' "$model"

    printf '\nWhat quantization costs: KL is the mean divergence from the float model, nats per token.\n\n'
    printf '| %-44s | %6s | %10s | %8s | %8s | %5s |\n|---|---|---|---|---|---|\n' \
        'method, format' 'bits' 'perplexity' 'KL' 'same top' 's' | tee "$folder/table.md"
    row 'round to nearest, int2-g64' --format int2-g64 --method rtn
    row 'AWQ, int2-g64' --format int2-g64 --method rtn --transform awq
    row 'GPTQ, int2-g64' --format int2-g64
    row 'GPTQ after a rotation, int2-g64' --format int2-g64 --transform hadamard
    row 'SignRoundV2, int2-g64' --format int2-g64 --method signround --iters 24
    row 'BPDQ, two bit planes, bp2-g128' --format bp2-g128 --method bpdq
    row 'BPDQ, trained at the end, bp2-g128' --format bp2-g128 --method bpdq --polish 32
    mv "$folder/model" "$folder/two-bits"
    row 'SQ-format, 4 and 2 bits in a bank' --format sq4/2-b64-s0.875
    row 'GPTQ, 2, 3 and 4 bits where they matter' --target-bits 2.5 --candidates int2-g64,int3-g64,int4-g64 \
        --report "$folder/report.html"
    row 'GPTQ, int3-g128' --format int3-g128
    row 'round to nearest, nvfp4' --format nvfp4 --method rtn
    row 'GPTQ, int4-g128, inputs in 8 bits' --format int4-g128 --act int8-row --transform smooth
    row 'round to nearest, int8-g128' --format int8-g128 --method rtn
    rm -rf "$folder/model" "$folder/last.json"

    say 'What it writes with two bits a weight (BPDQ, trained at the end)' "$folder/two-bits"
    printf '\nThe table is %s/table.md, the mixed model'\''s page %s/report.html, the two-bit model %s/two-bits; all are\n' \
        "$folder" "$folder" "$folder"
    printf 'made anew each time. Your own: make demo MODEL=path, or %s help.\n' "$lowbit"
}

if [ -z "${MODEL:-}" ] && [ -e "$model/config.json" ]; then
    # The text's package is asked for together with those to build with; the demo can do without it.
    command -v bible >/dev/null 2>&1 || tools/setup.sh bible-kjv || true
    tools/build.sh release
    bundled_model
else
    # The model first: a mistyped path is said at once, and the packages to fetch one with are asked for
    # together with those to build with.
    MODEL=$(tools/model.sh)
    tools/build.sh release
    own_model
fi
