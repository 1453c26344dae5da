#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# run, chat and bench from outside, on a tiny random model.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
model=$work/model

keep() { cp "$work/out" "$work/$1"; }
same() { cmp -s "$work/$1" "$work/$2" || bad "$1 and $2 differ"; }

"$LB_BUILD/make_tiny_model" "$model" seed=5 tokenizer=bpe context=4096 || { echo "no tiny model"; exit 1; }
"$LB_BUILD/make_tiny_model" "$work/short" seed=5 context=32
"$LB_BUILD/make_tiny_model" "$work/mute" seed=5 tokenizer=none
"$LB_BUILD/make_tiny_model" "$work/small_embedding" seed=5 vocab=200
"$LB_BUILD/make_tiny_model" "$work/no_chat" seed=5 chat=0

# run: text on stdout, one line of timing on stderr.
expect 0 run "$model" -p "the cat" -n 20 --ignore-end
keep once
[ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
stderr_has 'tokens/s; generated: 20 tokens'
expect 0 run "$model" -p "the cat" -n 20 --ignore-end -q
silent_stderr
keep again
same once again
expect 0 run "$model" -p "the cat" -n 20 --ignore-end -q --seed 43
keep other
cmp -s "$work/once" "$work/other" && bad 'another seed gives the same text'
for threads in 1 2; do
    expect 0 run "$model" -p "the cat" -n 20 --ignore-end -q --threads "$threads"
    keep threads
    same once threads
done
expect 0 run "$model" -p "the cat" -n 20 --ignore-end -q --echo
{ printf 'the cat'; cat "$work/once"; } >"$work/echoed"
keep out_echo
same echoed out_echo
printf 'the cat' >"$work/prompt"
input=$work/prompt
expect 0 run "$model" -p - -n 20 --ignore-end -q
keep from_stdin
same once from_stdin
input=/dev/null

expect 0 run "$model" -p "the cat" -n 20 --ignore-end --json -q
silent_stderr
for key in text prompt_tokens generated_tokens prompt_tokens_per_s decode_tokens_per_s stop; do
    stdout_has "\"$key\":"
done

# Room: what does not fit is said, before or after.
expect 1 run "$work/short" -p "0123456789" -n 24
silent_stdout
stderr_has 'do not fit into the context of 32'
expect 0 run "$work/short" -p "0123456789" -n 23 --ignore-end -q
expect 0 run "$work/short" -p "0123456789" --ignore-end -q
stderr_has 'the context of 32 tokens is full'
expect 1 run "$work/short" -p "0123456789012345678901234567890123456789"
stderr_has '40 tokens'
expect 1 run "$work/short" -p x --ctx 33
stderr_has 'takes 1 to 32'
expect 1 run "$model" -p ""
stderr_has 'no tokens'

# Models that cannot be run.
expect 1 run "$work/mute" -p x
stderr_has 'tokenizer'
expect 1 run "$work/small_embedding" -p x
stderr_has '200 rows'
expect 1 run "$work/absent" -p x
expect 2 run "$model"
expect 2 run "$model" -p x --temp -1
expect 2 run "$model" -p x --top-p 1.5

# A reader that goes away ends it; so does Ctrl-C.
timeout 60 "$LOWBIT" run "$model" -p x -n 4000 --ignore-end -q 2>"$work/err" | head -c 1 >/dev/null
[ "${PIPESTATUS[0]}" -eq 1 ] || bad 'run goes on though nobody reads'
env --default-signal=INT "$LOWBIT" run "$model" -p "x" -n 4000 --ignore-end --threads 1 >"$work/out" 2>"$work/err" &
process=$!
for _ in $(seq 200); do
    [ -s "$work/out" ] && break
    sleep 0.02
done
kill -INT "$process"
wait "$process"
code=$?
[ "$code" -eq 130 ] || bad "Ctrl-C: exit $code, wanted 130"

# chat: a line is a turn.
printf 'hello\n\n/clear\nhello\n/exit\nnever\n' >"$work/turns"
input=$work/turns
expect 0 chat "$model" -n 5 --temp 0 -q --system "be brief"
keep answers
head -n 1 "$work/answers" >"$work/first"
[ -s "$work/answers" ] || bad 'chat says nothing'
silent_stderr
expect 0 chat "$model" -n 5 --temp 0
[ "$(grep -c 'tokens/s; generated:' "$work/err")" -eq 2 ] || bad 'chat: not two answers'
expect 1 chat "$work/no_chat"
stderr_has 'no chat template'
expect 2 chat "$model" --json
printf 'hello\nand more\n' >"$work/turns"
expect 1 chat "$work/short" -n 2
stderr_has 'context holds 32'
input=/dev/null
expect 0 chat "$model"
silent_stdout

# bench: a table, or JSON with the promised keys.
expect 0 bench "$model" --prompt 4 --gen 4 --repeat 2 --formats int4-g32,int2-g64 --threads 1 -q
silent_stderr
stdout_has 'int4-g32'
stdout_has 'f32'
expect 0 bench "$model" --prompt 4 --gen 4 --repeat 1 --formats int4-g32 --head int8-g32 --json
for key in prompt_tokens_per_s decode_tokens_per_s bytes_per_token bandwidth_share threads kernel formats; do
    stdout_has "\"$key\":"
done
expect 0 bench "$model" --prompt 4 --gen 4 --repeat 1 --formats none --json
stdout_has '"formats": []'
expect 2 bench "$model" --formats int9-g64
expect 2 bench "$model" --head f99
expect 1 bench "$model" --formats f32 --prompt 2 --gen 2
expect 1 bench "$work/short" --prompt 30 --gen 30
expect 2 bench "$model" --repeat 0

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "run, chat, bench: all good"
