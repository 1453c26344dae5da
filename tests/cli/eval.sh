#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# eval from outside, on tiny random models.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
model=$work/model
text=examples/text/evaluation.txt

one_sentence() {
    [ ! -s "$work/out" ] || bad "$name: stdout is not empty"
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}
# value KEY: of the JSON in stdout
value() { sed -nE "s/^ \"$1\": ([^,]*),?\$/\1/p" "$work/out"; }

"$LB_BUILD/make_tiny_model" "$model" seed=5 context=128 || { echo "no tiny model"; exit 1; }
"$LB_BUILD/make_tiny_model" "$work/other" seed=6 context=128 vocab=300
"$LB_BUILD/make_tiny_model" "$work/mute" seed=5 tokenizer=none

# A table, or one JSON object.
expect 0 eval "$model" --text "$text" --tokens 512
stdout_has 'protocol      full, 4 windows of 128 tokens, 508 scored'
stdout_has 'perplexity'
stderr_has 'peak memory'
expect 0 eval "$model" --text "$text" --tokens 512 --json -q
silent_stderr
for key in model text protocol ctx windows tokens nll_mean perplexity perplexity_stderr; do stdout_has "\"$key\":"; done
if command -v jq >/dev/null 2>&1; then
    [ "$(jq -s 'length == 1 and (.[0] | type == "object")' "$work/out")" = true ] || bad "$name: not one object"
fi
[ "$(value windows)" = 4 ] && [ "$(value tokens)" = 508 ] || bad "$name: $(value windows) windows"
plain=$(value nll_mean)

# The same on any number of threads.
for threads in 1 2; do
    expect 0 eval "$model" --text "$text" --tokens 512 --json -q --threads "$threads"
    [ "$(value nll_mean)" = "$plain" ] || bad "$name: another score"
done

# Against itself nothing differs; rounded, something does.
expect 0 eval "$model" --text "$text" --tokens 512 --against "$model" --json -q
for key in reference kl_mean kl_median kl_p99 top1_agreement; do stdout_has "\"$key\":"; done
[ "$(value kl_mean)" = 0.0 ] && [ "$(value top1_agreement)" = 100.0 ] || bad "$name: it differs from itself"
expect 0 eval "$model" --text "$text" --tokens 512 --against "$model" --weights int3-g32 --json -q
[ "$(value kl_mean)" != 0.0 ] || bad "$name: rounding changes nothing"
expect 0 eval "$model" --text "$text" --tokens 512 --act int8-row -q

# The other protocol, other windows.
expect 0 eval "$model" --text "$text" --tokens 512 --protocol half
stdout_has 'protocol      half, 4 windows of 128 tokens, 252 scored'
expect 0 eval "$model" --text "$text" --tokens 512 --ctx 64
stdout_has '8 windows of 64 tokens'

# Misuse is 2, what cannot be done is 1.
expect 2 eval "$model"
one_sentence
stderr_has '--text'
expect 2 eval --text "$text"
expect 2 eval "$model" --text "$text" --ctx 1
expect 2 eval "$model" --text "$text" --protocol most
expect 2 eval "$model" --text "$text" --weights int9-g32
expect 2 eval "$model" --text "$text" --act nothing
expect 1 eval "$work/none" --text "$text"
one_sentence
expect 1 eval "$model" --text "$work/none"
one_sentence
expect 1 eval "$model" --text "$work"
one_sentence
stderr_has 'not a regular file'
expect 1 eval "$model" --text "$text" --ctx 129
one_sentence
stderr_has 'more than the 128 that'
expect 1 eval "$model" --text "$text" --tokens 100
one_sentence
stderr_has 'less than one window of 128'
expect 1 eval "$work/mute" --text "$text"
one_sentence
expect 1 eval "$model" --text "$text" --against "$work/other"
one_sentence
stderr_has 'vocabulary'

# Ctrl-C ends it.
for _ in $(seq 40); do cat examples/text/calibration.txt; done >"$work/long"
env --default-signal=INT "$LOWBIT" eval "$model" --text "$work/long" --threads 1 \
    --against "$model" >"$work/out" 2>"$work/err" &
process=$!
for _ in $(seq 500); do
    [ -s "$work/err" ] && break
    sleep 0.01
done
kill -INT "$process" 2>/dev/null
wait "$process"
code=$?
name='eval and Ctrl-C'
[ "$code" -eq 130 ] || bad "$name: exit $code, wanted 130"
stderr_has 'interrupted'

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "eval: all good"
