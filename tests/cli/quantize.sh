#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# quantize, inspect, eval and run one after the other on tiny random models, from outside: what is printed,
# exit statuses, interruptions, disks that are full.
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
same_folder() { diff -r "$1" "$2" >"$work/err" 2>&1 || bad "$1 and $2 differ"; }
json_object() { # the whole of stdout is one JSON object with these keys
    local key
    if command -v jq >/dev/null 2>&1; then
        [ "$(jq -s 'length == 1 and (.[0] | type == "object")' "$work/out")" = true ] || bad "$name: not one object"
        for key; do
            jq -e "has(\"$key\")" "$work/out" >/dev/null || bad "$name: no key $key"
        done
    else
        [ "$(head -c 1 "$work/out")" = '{' ] && [ "$(tail -n 1 "$work/out")" = '}' ] || bad "$name: not one object"
        for key; do stdout_has "\"$key\":"; done
    fi
}

"$LB_BUILD/make_tiny_model" "$model" seed=5 tokenizer=bpe context=256 || { echo "no tiny model"; exit 1; }
"$LB_BUILD/make_tiny_model" "$work/mute" seed=5 tokenizer=none

# The way of a model: quantize, inspect, eval, run.
expect 0 quantize "$model" -o "$work/int4" --format int4-g32 --samples 8 --eval-text "$text" --eval-tokens 512
stdout_has '4.500 in quantized layers'
stdout_has 'calibration   8 windows of 256 tokens from the built-in text'
stdout_has 'KL divergence mean'
stdout_has "written       $work/int4"
stderr_has 'block 2/2'
absent "$work/int4.partial"
expect 0 inspect "$work/int4"
silent_stderr
stdout_has 'LlamaForCausalLM (quantized by lowbit)'
stdout_has '4.500 in quantized layers'
stdout_has 'every scale and value is a number'
grep -qE '^q_proj +int4-g32 +2 +4\.500$' "$work/out" || bad 'inspect: no line for q_proj'
expect 0 inspect "$work/int4" --tensors
stdout_has 'model.layers.1.mlp.down_proj '
stdout_has 'model.layers.1.mlp.down_proj.weight.scales'
expect 0 inspect "$work/int4" --json
json_object architecture parameters bits_per_weight bytes tensors layers quantized_bits_per_weight recipe supported
expect 0 eval "$work/int4" --text "$text" --tokens 512 --against "$model" -q
silent_stderr
stdout_has 'top-1'
expect 0 run "$work/int4" -p "the cat" -n 8 --ignore-end -q
[ -s "$work/out" ] || bad 'run: says nothing'

# JSON: one object with the promised keys.
expect 0 quantize "$model" -o "$work/json" --method rtn --format int3-g64-asym --json -q \
    --eval-text "$text" --eval-tokens 512 --layer lm_head=int8-g32
silent_stderr
json_object model output recipe bits_per_weight quantized_bits_per_weight bytes file_bytes seconds peak_rss_bytes \
    layers eval calibration
for key in name format relative_error nll_mean kl_mean top1_agreement collapsed; do stdout_has "\"$key\":"; done
[ "$(grep -c '"relative_error"' "$work/out")" -eq 14 ] || bad 'json: not 14 layers'

# A dry run writes nothing and predicts the size.
ls -A "$work" | sort >"$work/before"
expect 0 quantize "$model" -o "$work/dry" --method rtn --format int3-g64-asym --layer lm_head=int8-g32 --dry-run --json
json_object recipe bytes bits_per_weight layers eval dry_run
cp "$work/out" "$work/planned"
absent "$work/dry"
absent "$work/dry.partial"
predicted=$(sed -nE 's/^ "bytes": ([0-9]+),?$/\1/p' "$work/planned")
stored=$("$LOWBIT" inspect "$work/json" --json | sed -nE 's/^ "bytes": ([0-9]+),?$/\1/p')
[ -n "$predicted" ] && [ "$predicted" = "$stored" ] || bad "dry run: $predicted bytes predicted, $stored stored"
expect 0 quantize "$model" --dry-run
stdout_has 'Everything checked; no model written.'

# Misuse is 2, what cannot be done is 1: one sentence, and nothing written.
expect 2 quantize "$model"
one_sentence
stderr_has 'where to? give -o OUT'
expect 2 quantize "$model" -o "$work/no" --format int9-g64
stderr_has 'format "int9-g64" is not known'
expect 2 quantize "$model" -o "$work/no" --method best
stderr_has 'there are rtn, gptq'
expect 2 quantize "$model" -o "$work/no" --layer q_proj
expect 2 quantize "$model" -o "$work/no" --damp -1
expect 2 quantize "$model" -o "$work/no" --samples 0
expect 2 quantize "$model" -o "$work/no" --formt int4-g64
stderr_has 'did you mean --format?'
expect 1 quantize "$work/none" -o "$work/no"
one_sentence
stderr_has "$work/none"
expect 1 quantize "$model" -o "$work/no/such/folder"
one_sentence
expect 1 quantize "$model" -o "$model"
one_sentence
stderr_has 'exists already'
expect 1 quantize "$work/int4" -o "$work/no"
one_sentence
stderr_has 'is quantized already'
expect 1 quantize "$work/mute" -o "$work/no"
one_sentence
expect 1 quantize "$model" -o "$work/no" --layer '*.q_porj=f16'
one_sentence
expect 1 quantize "$model" -o "$work/no" --calib "$work/none"
one_sentence
expect 1 quantize "$model" -o "$work/no" --eval-text "$work/none"
one_sentence
absent "$work/no"
absent "$work/no.partial"
expect 0 quantize "$work/mute" -o "$work/from_mute" --method rtn -q
silent_stderr

# Threads: the same bytes.
for threads in 1 2; do
    expect 0 quantize "$model" -o "$work/threads$threads" --format int3-g32 --samples 8 --threads "$threads" -q
done
same_folder "$work/threads1" "$work/threads2"

# Learned rounding: every switch is recorded, and threads do not matter.
learned=(--method signround --format int2-g32 --samples 8 --iters 6 --batch 3)
for threads in 1 2; do
    expect 0 quantize "$model" -o "$work/learned$threads" "${learned[@]}" --threads "$threads" -q
done
same_folder "$work/learned1" "$work/learned2"
stdout_has '"best":"held-aside","filter":true,"fit":"search"'
stdout_has '"iters":6,"lr":"auto","method":"signround","multiplier":true'
expect 0 quantize "$model" --dry-run "${learned[@]}" --signround v1 --best batch --lr 0.01
stdout_has '"best":"batch","filter":false,"fit":"range"'
stdout_has '"lr":0.01,"method":"signround","multiplier":false'
expect 0 quantize "$model" --dry-run --method signround --recipe fast
stdout_has '"iters":50,"lr":0.005'
expect 2 quantize "$model" -o "$work/no" --method signround --best first
expect 2 quantize "$model" -o "$work/no" --method signround --batch 0

# Bits by a budget: a plan, the run that follows it, its report; what cannot be, or contradicts itself.
few=(--target-bits 3.5 --candidates int2-g32,int3-g32,int4-g32 --sensitivity-samples 4 --sensitivity-seqlen 64 --samples 8)
for way in fisher deltaloss head tail; do
    expect 0 quantize "$model" --dry-run "${few[@]}" --allocate $way
    stdout_has "\"by\":\"$way\",\"candidates\":[\"int2-g32\",\"int3-g32\",\"int4-g32\"]"
    stdout_has 'Everything checked; no model written.'
    grep -qE '^model.layers.1.mlp.down_proj +int[234]-g32' "$work/out" || bad "$way: no plan"
done
expect 0 quantize "$model" -o "$work/mixed" "${few[@]}" --report "$work/mixed.html" --json
json_object layers recipe
[ "$(grep -c '"sensitivity"' "$work/out")" -eq 14 ] || bad 'mixed: not 14 sensitivities'
bits=$(sed -nE 's/^ "quantized_bits_per_weight": ([0-9.]+),?$/\1/p' "$work/out")
awk -v b="$bits" 'BEGIN { exit !(b > 3 && b <= 3.5) }' || bad "mixed: $bits bits per weight, wanted up to 3.5"
grep -q 'Sensitivity to int2-g32 by layer' "$work/mixed.html" || command -v gnuplot >/dev/null ||
    stderr_has 'gnuplot is missing'
grep -q '</html>' "$work/mixed.html" || bad 'mixed: the report is not whole'
absent "$work/mixed/lowbit-notes.json"
# A report is never written over anything.
cp "$text" "$work/mine.txt"
mkfifo "$work/pipe"
for place in "$work/mixed.html" "$work/mine.txt" "$work/pipe" "$work/"; do
    expect 1 quantize "$model" --dry-run "${few[@]}" --calib "$work/mine.txt" --report "$place"
    one_sentence
done
cmp -s "$text" "$work/mine.txt" || bad 'the calibration text was replaced by a report'
[ -p "$work/pipe" ] || bad 'a pipe was replaced by a report'
expect 2 quantize "$model" --dry-run "${few[@]}" --report ''
one_sentence
# All of them float: the average counts what "quantized layers" does not.
expect 0 quantize "$model" --dry-run --target-bits 16 --candidates int4-g32,bf16 --sensitivity-samples 4
stdout_has 'allocated     16.000 bits/weight'
expect 0 quantize "$model" --dry-run --method gptq --lr 0.1
stderr_has '--lr has no effect with --method gptq'
expect 2 quantize "$model" --dry-run --method signround --lr 0
expect 0 inspect "$work/mixed"
expect 1 quantize "$model" -o "$work/no" "${few[@]}" --target-bits 2
one_sentence
stderr_has 'a target of 2 bits per weight is out of reach: these candidates can average 2.5000 to 4.5000'
expect 1 quantize "$model" -o "$work/no" "${few[@]}" --layer '*=int8-g32'
one_sentence
expect 1 quantize "$model" -o "$work/no" "${few[@]}" --report "$work/no/such/report.html"
one_sentence
for taken in "$work/no" "$work/no/" "$work/no.partial"; do
    expect 1 quantize "$model" -o "$work/no/" "${few[@]}" --report "${taken%/}"
    one_sentence
    stderr_has "the report ${taken%/} would take the place of the output"
done
[ ! -e "$work/no" ] && [ ! -e "$work/no.partial" ] || bad 'a report that was refused left something'
expect 0 quantize "$model" --dry-run "${few[@]}" --layer '*.down_proj=int8-g32' --method rtn
stdout_has 'calibration   none but for sensitivities, which are from the built-in text'
grep -qE '^model.layers.1.mlp.down_proj +int8-g32 +- +- +-$' "$work/out" || bad 'sensitivities of a layer with a rule'
expect 2 quantize "$model" --dry-run --target-bits 3 --candidates int2-g32,int3-g32,
stderr_has "a format's name is missing"
expect 0 quantize "$model" --dry-run --eval-tokens 5 --method rtn --samples 3
stderr_has '--eval-tokens has no effect without --eval-text'
stderr_has '--samples has no effect with --method rtn and no --calib'
expect 2 quantize "$model" -o "$work/no" --target-bits 3 --format int3-g32
one_sentence
expect 2 quantize "$model" -o "$work/no" --target-bits 3 --candidates int2-g32
stderr_has 'at least 2 candidates'
expect 2 quantize "$model" -o "$work/no" --target-bits 3 --candidates int2-g32,,int3-g32
expect 2 quantize "$model" -o "$work/no" --target-bits 3 --candidates int2-g32,int2-g32
stderr_has 'named twice'
expect 2 quantize "$model" -o "$work/no" --target-bits 0
expect 2 quantize "$model" -o "$work/no" --untie
expect 1 quantize "$model" -o "$work/no" --method bpdq --format mxfp4
one_sentence
stderr_has 'model.layers.0.self_attn.q_proj: method bpdq wants formats with free coefficients: bp and int, not mxfp4'
expect 1 quantize "$model" -o "$work/no" --method bpdq --target-bits 3 --candidates int2-g32,mxfp4,int4-g32
one_sentence

# Bit planes, and integers with fitted scales; threads do not matter.
for threads in 1 2; do
    expect 0 quantize "$model" -o "$work/planes$threads" --method bpdq --format bp2-g64 --samples 8 --threads "$threads" \
        --layer '*.o_proj=int3-g32' -q
done
same_folder "$work/planes1" "$work/planes2"
stdout_has '"faithful":false,"fit":"search","format":"bp2-g64","init":"search","iters":10'
expect 0 inspect "$work/planes1"
grep -qE '^q_proj +bp2-g64 +2 +2\.750$' "$work/out" || bad 'inspect: no line for q_proj of planes'
expect 0 run "$work/planes1" -p "the cat" -n 8 --ignore-end -q
expect 0 quantize "$model" --dry-run --method bpdq --format bp3-row --faithful
stdout_has '"compensate":0.0,"damp":0.05,"faithful":true'

# SQ-format: two widths in a bank, by either method; names with a slash; widths and names that do not fit.
for threads in 1 2; do
    expect 0 quantize "$model" -o "$work/sq$threads" --format sq8/4-b32-s0.875 --samples 8 --threads "$threads" \
        --layer '*.o_proj=sq8/3-b16-s0.5' -q
done
same_folder "$work/sq1" "$work/sq2"
stdout_has 'sq8/4-b32-s0.875: 4.500 bits nominally, 6.000 stored: of 32 weights 4 have 8 bits, marked by a low code'
stdout_has 'sq8/3-b16-s0.5: 5.500 bits nominally, 8.500 stored: of 16 weights 8 have 8 bits, marked by a bit each'
stdout_has '"layer_rules":["*.o_proj=sq8/3-b16-s0.5"]'
stdout_has '"saliency":"obs"'
expect 0 inspect "$work/sq1"
grep -qE '^q_proj +sq8/4-b32-s0.875 +2 +6\.000$' "$work/out" || bad 'inspect: no line for q_proj in SQ-format'
stdout_has '4.500 bits nominally'
expect 0 run "$work/sq1" -p "the cat" -n 8 --ignore-end -q
expect 0 eval "$work/sq1" --text examples/text/evaluation.txt --tokens 600 --against "$model" -q
expect 0 quantize "$model" -o "$work/sqrtn" --format sq8/2-b16-s0.75 --method rtn --calib examples/text/calibration.txt \
    --samples 8 --saliency paper -q
stdout_has '"saliency":"paper"'
expect 0 quantize "$model" --dry-run --target-bits 5 --candidates sq8/4-b32-s0.875,int4-g32 --sensitivity-samples 2 -q
expect 1 quantize "$model" -o "$work/no" --format sq8/4-b128-s0.875
one_sentence
stderr_has 'sq8/4-b128-s0.875 has banks of 128, which do not divide its width of'
expect 2 quantize "$model" -o "$work/no" --format sq8/4-b32-s0.9
stderr_has 'would have 3.2 high elements'
expect 1 quantize "$model" -o "$work/no" --format sq8/4-b32-s0.875 --method signround
stderr_has 'method signround wants'
expect 0 quantize "$model" --dry-run --format int4-g32 --saliency chol
stderr_has '--saliency has no effect without a format sqH/L and calibration'
absent "$work/no"
absent "$work/no.partial"

# Polishing: what it says and records, and threads do not matter.
polished=(--format int3-g32 --method rtn --samples 8 --polish 6 --polish-batch 3)
for threads in 1 2; do
    expect 0 quantize "$model" -o "$work/polished$threads" "${polished[@]}" --threads "$threads" --json -q
    silent_stderr
done
same_folder "$work/polished1" "$work/polished2"
json_object polish recipe seconds_by_stage
[ "$(grep -c '"polish":' "$work/out")" -eq 3 ] || bad "$name: not the result, the recipe and the seconds of polishing"
number() { tr -d '\n' <"$work/out" | sed -nE "s/.*\"$1\": *([0-9.e-]+).*/\1/p"; }
awk -v a="$(number kl_before)" -v b="$(number kl_after)" 'BEGIN { exit !(a > 0 && b > 0 && b < a) }' ||
    bad "$name: divergences $(number kl_before) and $(number kl_after)"
awk -v s="$(number polish)" 'BEGIN { exit !(s > 0) }' || bad "$name: no seconds of polishing"
for key in steps batch lr; do grep -q "\"$key\":" "$work/out" || bad "$name: no $key of polishing"; done
[ -z "$(find "$work/polished1" -name 'lowbit-*')" ] || bad "$name: scaffolding was left"
expect 0 quantize "$model" -o "$work/plain" --format int3-g32 --method rtn --calib "$text" --samples 8 --json -q
grep -q '"kl_before"' "$work/out" && bad 'divergences of polishing that there was none of'
cmp -s "$work/plain/model-00001-of-00003.safetensors" "$work/polished1/model-00001-of-00003.safetensors" &&
    bad 'polishing changed nothing'
expect 0 inspect "$work/polished1"
stdout_has 'every scale and value is a number'
expect 0 quantize "$model" -o "$work/polished3" --method bpdq --format bp2-g64 --samples 8 --polish 2 \
    --layer '*.0.*=bf16' --layer '*.q_proj=mxfp4' --layer '*.q_proj=int4-g32'
stdout_has 'polished      divergence from the original on windows held aside'
expect 0 quantize "$model" --dry-run "${polished[@]}"
stdout_has '"polish":{"batch":3,"lr":0.005,"steps":6}'
expect 0 quantize "$model" --dry-run --polish-lr 0.1 --polish-batch 3
stderr_has '--polish-lr has no effect without --polish'
stderr_has '--polish-batch has no effect without --polish'
for wrong in '--polish-lr 0' '--polish-lr -1' '--polish-lr 2' '--polish-lr nan' '--polish-batch 0' '--polish -1' '--polish x'; do
    # shellcheck disable=SC2086 # an option and its value
    expect 2 quantize "$model" -o "$work/no" --polish 4 $wrong
    one_sentence
done
expect 1 quantize "$model" -o "$work/no" --method rtn --format mxfp4 --polish 4
one_sentence
stderr_has 'polishing learns scales and coefficients of int, bp and sq formats, and mxfp4 has none'
expect 1 quantize "$model" -o "$work/no" --format int4-g32 --polish 4 --samples 1
one_sentence
stderr_has 'polishing wants at least 2 calibration samples, got 1'
absent "$work/no.partial"

# A kill in the middle, at three moments, and on from there: the same bytes as in one go.
"$LB_BUILD/make_tiny_model" "$work/deep" seed=6 layers=8 hidden=64 ffn=160 context=256
flags=(--format int4-g32 --samples 16 --threads 1)
expect 0 quantize "$work/deep" -o "$work/whole" "${flags[@]}" -q
for block in 00001 00004 00006; do
    "$LOWBIT" quantize "$work/deep" -o "$work/killed" "${flags[@]}" >"$work/out" 2>"$work/err" &
    process=$!
    wait_until test -e "$work/killed.partial/model-$block-of-00009.safetensors" || bad "no block $block"
    kill -KILL "$process" 2>/dev/null
    wait "$process" 2>/dev/null
    [ -d "$work/killed" ] && { rm -rf "$work/killed"; continue; } # it was faster than we
    expect 1 quantize "$work/deep" -o "$work/killed" "${flags[@]}"
    one_sentence
    stderr_has 'add --resume'
    expect 1 quantize "$work/deep" -o "$work/killed" "${flags[@]}" --format int4-g64 --resume
    one_sentence
    stderr_has 'it was made with another recipe (format)'
    expect 0 quantize "$work/deep" -o "$work/killed" "${flags[@]}" --resume
    stdout_has 'blocks were finished before'
    same_folder "$work/whole" "$work/killed"
    rm -rf "$work/killed"
done

# The same while scales are learned: before any are, when some lie there, when all do.
learning=(--format int3-g32 --method rtn --samples 16 --seqlen 64 --polish 6 --threads 1)
expect 0 quantize "$work/deep" -o "$work/whole_learned" "${learning[@]}" -q
for file in model-00008-of-00009 lowbit-learned-00001 lowbit-learned-00008; do
    "$LOWBIT" quantize "$work/deep" -o "$work/killed" "${learning[@]}" >"$work/out" 2>"$work/err" &
    process=$!
    wait_until test -e "$work/killed.partial/$file.safetensors" || bad "no $file"
    kill -KILL "$process" 2>/dev/null
    wait "$process" 2>/dev/null
    [ -d "$work/killed" ] && { rm -rf "$work/killed"; continue; } # it was faster than we
    # Some of them: the last is taken away, unless the blocks' own files are being made anew with them already.
    last=$work/killed.partial/lowbit-learned-00008.safetensors
    if [ $file = lowbit-learned-00001 ] && [ -e "$last" ] && [ "$work/killed.partial/model-00001-of-00009.safetensors" -ot "$last" ]; then
        rm -f "$last"
    fi
    expect 1 quantize "$work/deep" -o "$work/killed" "${learning[@]}" --polish 7 --resume
    one_sentence
    stderr_has 'it was made with another recipe (polish)'
    expect 0 quantize "$work/deep" -o "$work/killed" "${learning[@]}" --resume
    stdout_has 'blocks were finished before'
    same_folder "$work/whole_learned" "$work/killed"
    rm -rf "$work/killed"
done

# Ctrl-C and a polite kill: 130, and a word on how to go on.
for signal in INT TERM; do
    env --default-signal=INT "$LOWBIT" quantize "$work/deep" -o "$work/stopped" "${flags[@]}" \
        >"$work/out" 2>"$work/err" &
    process=$!
    name="quantize and SIG$signal"
    wait_until test -e "$work/stopped.partial/model-00002-of-00009.safetensors" || bad "$name: no block"
    kill "-$signal" "$process"
    wait "$process"
    code=$?
    [ "$code" -eq 130 ] || bad "$name: exit $code, wanted 130"
    stderr_has 'the same command with --resume goes on from there'
    absent "$work/stopped"
    expect 0 quantize "$work/deep" -o "$work/stopped" "${flags[@]}" --resume -q
    same_folder "$work/whole" "$work/stopped"
    rm -rf "$work/stopped"
done

# No room: a limit on the size of files stands for a full disk (1024-byte blocks in bash).
for limit in 0 1 4 40; do
    name="quantize under ulimit -f $limit"
    (
        ulimit -f "$limit"
        exec "$LOWBIT" quantize "$model" -o "$work/full" --samples 8 -q
    ) >/dev/null 2>&1
    code=$?
    [ "$code" -eq 1 ] || bad "$name: exit $code, wanted 1"
    absent "$work/full"
    rm -rf "$work/full.partial"
done
(
    ulimit -f 40
    exec "$LOWBIT" quantize "$model" -o "$work/full" --samples 8 -q
) 2>&1 >/dev/null | cat >"$work/err" # a pipe has no limit
name='quantize without room'
stderr_has 'File too large'
[ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
expect 0 quantize "$model" -o "$work/full" --samples 8 -q --resume
expect 0 quantize "$model" -o "$work/fitting" --samples 8 -q
same_folder "$work/fitting" "$work/full"

# A folder of the user's own is not touched, whatever it is called.
mkdir "$work/mine.partial"
echo precious >"$work/mine.partial/thesis"
expect 1 quantize "$model" -o "$work/mine" --resume -q
one_sentence
[ -f "$work/mine.partial/thesis" ] || bad 'somebody else'"'"'s folder was removed'

# A result that is not worth using is called so.
expect 0 quantize "$model" -o "$work/int2" --method rtn --format int2-row --eval-text "$text" --eval-tokens 512 -q
stdout_has 'COLLAPSED'
stdout_has 'Try --method gptq'
expect 0 quantize "$model" -o "$work/int8" --method rtn --format int8-g32 --eval-text "$text" --eval-tokens 512 -q
grep -q COLLAPSED "$work/out" && bad 'int8 is called collapsed'

# A damaged result is found by inspect, with the place.
cp -r "$work/int4" "$work/damaged"
truncate -s -1 "$work/damaged/model-00001-of-00003.safetensors"
expect 1 inspect "$work/damaged"
one_sentence
stderr_has 'model-00001-of-00003.safetensors'
shard=$work/damaged/model-00002-of-00003.safetensors
cp "$work/int4/model-00001-of-00003.safetensors" "$work/damaged/"
offset=$(tr ']' '\n' <"$shard" | head -n 100 | grep -a 'down_proj.weight.scales' -A 1 |
    sed -nE 's/.*data_offsets":\[([0-9]+),.*/\1/p' | head -n 1)
header=$(od -An -tu8 -N8 "$shard" | tr -d ' ')
[ -n "$offset" ] || bad 'no offset of the scales'
printf '\377\377' | dd of="$shard" bs=1 seek=$((8 + header + offset)) conv=notrunc 2>/dev/null
expect 1 inspect "$work/damaged"
one_sentence
stderr_has 'model.layers.1.mlp.down_proj.weight, row 0: the scale of group 0 is'

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "quantize: all good"
