#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The command from outside: help, misuse, exit statuses, closed and full outputs.
# Needs LOWBIT=path of the command.
. tests/cli/lib/expect.bash
stderr_is() { [ "$(cat "$work/err")" = "$1" ] || bad "$name: stderr is not \"$1\""; }
one_sentence() {
    silent_stdout
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}

# Help that was asked for is data; help that was not is an error.
for words in help -h --help; do
    expect 0 "$words"
    silent_stderr
    stdout_has 'usage: lowbit COMMAND [MODEL] [flags]'
    stdout_has '  inspect '
done
expect 2
silent_stdout
expect 0 --version
silent_stderr
grep -qxE 'lowbit [0-9]+\.[0-9]+\.[0-9]+' "$work/out" || bad "--version prints no version"

# Every command in the table has help of one shape.
"$LOWBIT" help | sed -nE 's/^  ([a-z]+) .*/\1/p' >"$work/commands"
[ -s "$work/commands" ] || bad 'help lists no commands'
while read -r command; do
    expect 0 "$command" -h
    silent_stderr
    stdout_has "usage: lowbit $command"
    stdout_has '--threads N'
    stdout_has '--seed N'
    stdout_has 'Example:'
    stdout_has "  lowbit $command "
    cp "$work/out" "$work/direct"
    expect 0 help "$command"
    cmp -s "$work/out" "$work/direct" || bad "help $command differs from $command -h"
    expect 2 "$command" --no-such-flag
    one_sentence
    stderr_is "lowbit $command: unknown flag --no-such-flag (see: lowbit $command -h)"
    expect 2 "$command" --threads
    stderr_is "lowbit $command: --threads needs a value (see: lowbit $command -h)"
    expect 2 "$command" --threads=many
    one_sentence
    expect 2 "$command" --cpu 486
    one_sentence
    expect 2 "$command" --jsno
    stderr_is "lowbit $command: unknown flag --jsno; did you mean --json? (see: lowbit $command -h)"
done <"$work/commands"

# Commands that do not exist.
expect 2 inspcet
stderr_is 'lowbit: unknown command inspcet; did you mean inspect? (see: lowbit help)'
expect 2 zzzzzz
stderr_is 'lowbit: unknown command zzzzzz (see: lowbit help)'
expect 2 help zzzzzz
one_sentence
expect 2 $'in\x1b[2J'
grep -q $'\x1b' "$work/err" && bad 'an escape sequence came through'

# inspect: misuse is 2, a model that cannot be had is 1.
expect 2 inspect
one_sentence
expect 2 inspect a b
stderr_is 'lowbit inspect: "b" is one word too many (see: lowbit inspect -h)'
expect 1 inspect "$work/none"
one_sentence
grep -qF "$work/none" "$work/err" || bad 'the sentence does not name the path'
expect 1 inspect "$work"
one_sentence
head -c 100 /dev/zero >"$work/zero.gguf"
expect 1 inspect "$work/zero.gguf"
one_sentence
mkfifo "$work/fifo"
expect 1 inspect "$work/fifo"
one_sentence
expect 0 inspect --cpu-info
silent_stderr
stdout_has 'processor'
expect 0 inspect --cpu-info --cpu ref
grep -qE '^kernels +ref$' "$work/out" || bad '--cpu ref does not cap the kernels'
LB_CPU=ref expect 0 inspect --cpu-info
grep -qE '^kernels +ref$' "$work/out" || bad 'LB_CPU=ref does not cap the kernels'
LB_CPU=fast expect 2 inspect --cpu-info
one_sentence
expect 0 inspect --cpu-info --json
stdout_has '"used"'

# A reader that went away, a closed output and a full disk are failures with a sentence.
# (The pipe's reading end is closed before the command starts.)
{ sleep 0.2; "$LOWBIT" help 2>"$work/err"; echo $? >"$work/status"; } | true
[ "$(cat "$work/status")" -eq 1 ] || bad "closed pipe: exit $(cat "$work/status"), wanted 1"
grep -q 'cannot write to standard output' "$work/err" || bad 'closed pipe: no sentence'
"$LOWBIT" help >&- 2>"$work/err"
[ $? -eq 1 ] || bad 'closed stdout: wanted exit 1'
grep -q 'cannot write to standard output' "$work/err" || bad 'closed stdout: no sentence'
if [ -w /dev/full ]; then
    "$LOWBIT" help >/dev/full 2>"$work/err"
    [ $? -eq 1 ] || bad 'full disk: wanted exit 1'
    grep -q 'No space left' "$work/err" || bad 'full disk: no sentence'
fi

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "usage: all as documented"
