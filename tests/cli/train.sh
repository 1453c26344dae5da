#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# lowbit train and lowbit average from outside: a small run, what other commands make of it, Ctrl-C, misuse.
# Needs LOWBIT=path of the command.
. tests/cli/lib/expect.bash

for i in $(seq 1 400); do echo "The cat number $i saw the moon, and the moon number $((i % 7)) saw a cat."; done >"$work/text"
head -n 40 "$work/text" >"$work/valid"
small=(--hidden 32 --layers 2 --heads 2 --ffn 64 --vocab 300 --ctx 32 --batch 128 --log-every 5 --save-every 10 --warmup 5)

# A run: rows on stderr, the result on stdout, checkpoints that every command opens.
expect 0 train --text "$work/text" --valid "$work/valid" -o "$work/run" --tokens 3840 "${small[@]}" --average latest:2
stdout_has 'step-00000030'
grep -q 'step 30/30  loss .*held-out' "$work/err" || bad 'train: no row of the last step'
[ "$(wc -l <"$work/run/log.csv")" -eq 7 ] || bad 'train: log.csv has not 6 rows'
expect 0 inspect "$work/run/step-00000030"
stdout_has 'LlamaForCausalLM'
expect 0 eval "$work/run/step-00000030" --text "$work/valid" --ctx 32
stdout_has 'perplexity'
expect 0 run "$work/run/averaged" -p 'The cat' -n 5
expect 0 quantize "$work/run/step-00000030" -o "$work/q" --format mxint8 --method rtn
expect 1 train --text "$work/text" -o "$work/run" --tokens 3840 "${small[@]}"
grep -q 'is a run already' "$work/err" || bad 'train: an existing run is not refused'

# One JSON object.
expect 0 train --data "$work/run/data" -o "$work/json" --tokens 1280 "${small[@]}" --lowbit mxint8 --json -q
silent_stderr
python3 - "$work/out" <<'PY' || bad 'train --json is not what it should be'
import json, sys
got = json.load(open(sys.argv[1]))
assert got["step"] == 10 and got["checkpoint"] == "step-00000010" and got["tokens"] == 1280 and got["loss"] > 0, got
PY

# Interrupted: 130, and the run goes on to the bytes of an unbroken one, up to the checkpoint after.
endless=(train --data "$work/run/data" --schedule constant "${small[@]}")
"$LOWBIT" "${endless[@]}" -o "$work/broken" --tokens 1000000000 2>"$work/err" >"$work/out" &
pid=$!
wait_until grep -q '^step 5/' "$work/err"
kill -INT "$pid" # ignored by background jobs of a shell without job control, so:
kill -TERM "$pid"
wait "$pid"
status=$?
[ "$status" -eq 130 ] || bad "train: exit status $status after an interruption"
grep -q -- '--resume' "$work/err" || bad 'train: how to go on is not said'
step=$(od -An -t u8 -j 8 -N 8 "$work/broken/interrupted/training-state.bin" | tr -d ' ')
last=$(((step / 10 + 1) * 10))
expect 0 train --resume -o "$work/broken" --tokens $((last * 128))
expect 0 "${endless[@]}" -o "$work/whole" --tokens $((last * 128))
name=$(printf 'step-%08d/training-state.bin' "$last")
cmp -s "$work/broken/$name" "$work/whole/$name" || bad 'train: a resumed run differs from an unbroken one'
[ ! -e "$work/broken/interrupted" ] || bad 'train: the interrupted state is still there'

# Two runs that want to make the same folder of tokens: one does, and the other says so or comes late enough to use it.
for try in 1 2 3 4 5 6; do
    "$LOWBIT" train --text "$work/text" --data "$work/shared$try" -o "$work/first$try" --tokens 256 "${small[@]}" -q \
        >/dev/null 2>"$work/first_err" &
    pid=$!
    "$LOWBIT" train --text "$work/text" --data "$work/shared$try" -o "$work/second$try" --tokens 256 "${small[@]}" -q \
        >/dev/null 2>"$work/err"
    second=$?
    wait "$pid"
    first=$?
    [ "$first" -eq 0 ] || [ "$second" -eq 0 ] || bad "two runs on one --data: $(cat "$work/first_err" "$work/err")"
    [ "$first" -eq 0 ] || grep -qE 'in use|exists' "$work/first_err" || bad "--data: $(cat "$work/first_err")"
    [ "$second" -eq 0 ] || grep -qE 'in use|exists' "$work/err" || bad "--data: $(cat "$work/err")"
    [ ! -e "$work/shared$try.partial" ] || bad '--data: something half-made is left'
done

# A run.json that says nonsense; a last checkpoint whose state is gone.
cp -r "$work/run" "$work/hurt"
for damage in length:32.0 length:0 length:1e18 log_every:0 log_every:5.5 batch_tokens:-4; do
    sed "s/\"${damage%:*}\": [0-9]*/\"${damage%:*}\": ${damage#*:}/" "$work/run/run.json" >"$work/hurt/run.json"
    ! cmp -s "$work/run/run.json" "$work/hurt/run.json" || bad "$damage: nothing to change in run.json"
    expect 1 train --resume -o "$work/hurt" -q
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$damage: not one sentence"
done
cp "$work/run/run.json" "$work/hurt/run.json"
rm "$work"/hurt/step-*/training-state.bin
expect 1 train --resume -o "$work/hurt" -q
stderr_has 'has no training-state.bin'

# Averages.
expect 0 average "$work/run" --latest 2 -o "$work/mean"
stdout_has 'the mean of 2 checkpoints'
cmp -s "$work/mean/model.safetensors" "$work/run/averaged/model.safetensors" || bad 'average: not that of train --average'
expect 0 average "$work/run/step-00000010" "$work/run/step-00000030" --weights 1,3 -o "$work/soup" --json
stdout_has '"checkpoints": 2'
expect 1 average "$work/run" --latest 9 -o "$work/never"
"$LOWBIT" train --data "$work/run/data" --schedule constant -o "$work/mean_run" --tokens 100000000 "${small[@]}" \
    --average latest:2 >/dev/null 2>"$work/err" & # the average is not forgotten where a run is told to stop
pid=$!
wait_until grep -q '^step 15/' "$work/err"
kill -TERM "$pid"
wait "$pid"
step=$(od -An -t u8 -j 8 -N 8 "$work/mean_run/interrupted/training-state.bin" | tr -d ' ')
expect 0 train --resume -o "$work/mean_run" --tokens $(((step + 3) * 128))
expect 0 average "$work/mean_run" --latest 2 -o "$work/mean2"
cmp -s "$work/mean2/model.safetensors" "$work/mean_run/averaged/model.safetensors" || bad 'train --resume: another average'
expect 0 train --resume -o "$work/mean_run" --tokens $(((step + 30) * 128)) # longer: the average is that of the longer run
expect 0 average "$work/mean_run" --latest 2 -o "$work/mean3"
cmp -s "$work/mean3/model.safetensors" "$work/mean_run/averaged/model.safetensors" || bad 'train --resume: the old average'
expect 1 train --data "$work/run/data" -o "$work/never" --tokens 3840 "${small[@]}" --average latest:4
stderr_has 'an average of 4 checkpoints (latest:4), and the run will have 3'
expect 1 train --data "$work/run/data" -o "$work/never" --tokens 3840 "${small[@]}" --average latest:3:20
expect 0 train --data "$work/run/data" -o "$work/spaced" --tokens 3840 "${small[@]}" --average latest:2:20
expect 2 average "$work/run" --weights 1,x -o "$work/never"

# Misuse.
expect 2 train --text "$work/text" -o "$work/never"
expect 2 train -o "$work/never" --tokens 100
expect 2 train --resume --from "$work/run/step-00000030" -o "$work/never"
expect 2 train --text "$work/text" -o "$work/never" --tokens 5000 --average best
expect 1 train --text "$work/nowhere" -o "$work/never" --tokens 3840 "${small[@]}"
grep -q 'nowhere' "$work/err" || bad 'train: which text is missing is not said'
expect 1 train --text "$work/text" -o "$work/never2" --tokens 3840 "${small[@]}" --lowbit int4-g128

# What is refused leaves no empty folder.
: >"$work/empty"
expect 1 train --text "$work/text" --valid "$work/empty" -o "$work/never3" --tokens 3840 "${small[@]}"
stderr_has 'empty: is empty'
printf 'The cat.' >"$work/short"
expect 1 train --text "$work/text" --valid "$work/short" --data "$work/short_data" -o "$work/never3" --tokens 3840 "${small[@]}"
stderr_has 'tokens of held-out text, want more than a sequence of 32'
head -c 20 "$work/text" >"$work/bit"
expect 1 train --text "$work/bit" -o "$work/again" --tokens 3840 "${small[@]}"
expect 0 train --text "$work/text" -o "$work/again" --tokens 3840 "${small[@]}" -q # and the right text is not refused then
mkdir "$work/mine"
expect 1 train --text "$work/text" -o "$work/mine" --tokens 3840 "${small[@]}" --average latest:99
[ -z "$(ls -A "$work/mine")" ] || bad 'train: a refused run left tokens'
cp -r "$work/run" "$work/same"
printf '\0\1\2' >"$work/same/log.csv"
expect 1 train --resume -o "$work/same" --tokens 5120
cmp -s "$work/run/run.json" "$work/same/run.json" || bad 'train: a refused --resume changed run.json'
expect 1 train --resume -o "$work/run" --tokens 640
stderr_has 'a run cannot be made shorter than it is'
expect 1 train --data "$work/run/data" -o "$work/wild" --tokens 64000 "${small[@]}" --lr 1000 --clip 0 --log-every 1
stderr_has 'try a lower learning rate'
[ "$(wc -l <"$work/wild/log.csv")" -gt 2 ] || bad 'train: no log of how the loss went'
(cd "$work" && "$LOWBIT" train --data run/data -o far --tokens 1280 "${small[@]}" --schedule constant -q >/dev/null)
expect 0 train --resume -o "$work/far" --tokens 2560 -q # from another folder than it began in
cp -r "$work/run/step-00000010" "$work/other"
sed -i 's/"rope_theta": [0-9.]*/"rope_theta": 5000.0/' "$work/other/config.json"
expect 1 average "$work/other" "$work/run/step-00000030" -o "$work/never"
stderr_has '"rope_theta" of its configuration is not that of'
[ ! -e "$work/never" ] && [ ! -e "$work/never2" ] && [ ! -e "$work/never3" ] || bad 'train: a refused run left a folder'

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "train, average: all good"
