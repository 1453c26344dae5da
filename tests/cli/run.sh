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
printf 'hello\nand much more than fits\n' >"$work/turns"
expect 1 chat "$work/short" -n 2
stderr_has 'context of 32'
input=/dev/null
expect 0 chat "$model"
silent_stdout

# A conversation that outgrows the context loses its beginning, and goes on as if that had not been.
"$LB_BUILD/make_tiny_model" "$work/middle" seed=5 tokenizer=bpe context=70
printf 'the first question\nthe last of them\n' >"$work/turns"
input=$work/turns
expect 0 chat "$work/middle" -n 12 --temp 0 -q
keep long
stderr_has 'the context of 70 tokens is full; the oldest'
printf 'the last of them\n' >"$work/turns"
expect 0 chat "$work/middle" -n 12 --temp 0 -q
keep fresh
silent_stderr
tail -c "$(wc -c <"$work/fresh")" "$work/long" >"$work/end"
same end fresh
input=/dev/null

# Keys and values of every type; a draft changes nothing at temperature 0, and must have the same tokenizer.
for kv in f32 f16 int8 mxint8; do
    expect 0 run "$model" -p "the cat" -n 20 --ignore-end -q --kv "$kv"
    [ -s "$work/out" ] || bad "$name: no text"
done
expect 2 run "$model" -p x --kv int4
"$LB_BUILD/make_tiny_model" "$work/draft" seed=6 tokenizer=bpe layers=1 context=512
"$LB_BUILD/make_tiny_model" "$work/bytes" seed=6 tokenizer=bytes
expect 0 run "$model" -p "the cat" -n 30 --ignore-end -q --temp 0
keep alone
for draft in "$model" "$work/draft"; do
    expect 0 run "$model" -p "the cat" -n 30 --ignore-end --temp 0 --draft "$draft" --draft-n 3 --draft-min 0
    keep drafted
    same alone drafted
    stderr_has 'tokens taken'
done
expect 0 chat "$model" -n 5 --temp 0 -q --draft "$work/draft"
expect 1 run "$model" -p x --draft "$work/bytes"
stderr_has 'cannot draft: its tokenizer'
expect 2 run "$model" -p x --draft "$work/draft" --draft-n 99
expect 0 bench "$model" --prompt 4 --gen 9 --repeat 2 --formats none --kv int8 --draft "$work/draft" -q
stdout_has 'proposed tokens taken'
stdout_has 'gate up'
stdout_has 'loaded in'

# The generator of random models: the same bytes for the same flags, and one that runs.
shape=(--layers 2 --hidden 64 --heads 4 --kv-heads 2 --ffn 96 --vocab 300)
for out in a b; do "$LB_BUILD/random_model" "$work/$out" "${shape[@]}" || bad 'random_model fails'; done
cmp -s "$work/a/model.safetensors" "$work/b/model.safetensors" || bad 'random_model: other bytes'
"$LB_BUILD/random_model" "$work/c" "${shape[@]}" --seed 7 --tied
cmp -s "$work/a/model.safetensors" "$work/c/model.safetensors" && bad 'random_model: --seed does nothing'
expect 0 run "$work/a" -p hello -n 4 -q
expect 0 run "$work/c" -p hello -n 4 -q
"$LB_BUILD/random_model" "$work/d" --heads 5 2>/dev/null && bad 'random_model takes 2048 / 5'
"$LB_BUILD/random_model" 2>/dev/null && bad 'random_model without a folder'

# bench: a table, or JSON with the promised keys.
expect 0 bench "$model" --prompt 4 --gen 4 --repeat 2 --formats int4-g32,int2-g64 --threads 1 -q
silent_stderr
stdout_has 'int4-g32'
stdout_has 'f32'
expect 0 bench "$model" --prompt 4 --gen 4 --repeat 1 --formats int4-g32 --head int8-g32 --json
for key in prompt_tokens_per_s decode_tokens_per_s bytes_per_token bandwidth_share threads kernel formats \
    ms_per_token load_seconds resident_bytes huge_page_bytes kv; do
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
