#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Outputs from outside: files beside them are nobody's business, two writers do not meet, what a killed run left does
# not stand in the way, and names that are empty are misuse.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
text=examples/text/evaluation.txt
model=$work/model
one_sentence() {
    [ ! -s "$work/out" ] || bad "$name: stdout is not empty"
    [ "$(wc -l <"$work/err")" -eq 1 ] || bad "$name: stderr is not one line"
}
nothing_temporary() { # nothing_temporary FOLDER
    [ -z "$(find "$1" -name '*.lowbit-*')" ] || bad "$name: something temporary is left"
}
"$LB_BUILD/make_tiny_model" "$model" seed=7 tokenizer=bpe ffn=128 dtype=BF16 || { echo "no tiny model"; exit 1; }

# OUT.tmp is the user's own: another file, the model itself, a link, a pipe.
expect 0 export "$model" --to gguf -o "$work/a.gguf" -q
echo precious >"$work/b.gguf.tmp"
expect 0 export "$model" --to gguf -o "$work/b.gguf" -q
cmp -s "$work/a.gguf" "$work/b.gguf" || bad "$name: another file"
[ "$(cat "$work/b.gguf.tmp")" = precious ] || bad "$name: a file beside the output was lost"
cp "$work/a.gguf" "$work/c.gguf.tmp"
expect 0 export "$work/c.gguf.tmp" --to gguf -o "$work/c.gguf" -q
cmp -s "$work/a.gguf" "$work/c.gguf.tmp" || bad "$name: the model was written over"
expect 0 inspect "$work/c.gguf"
ln -s b.gguf.tmp "$work/d.gguf.tmp"
expect 0 export "$model" --to gguf -o "$work/d.gguf" -q
[ ! -L "$work/d.gguf" ] || bad "$name: the output is a link"
[ "$(cat "$work/b.gguf.tmp")" = precious ] || bad "$name: a link was followed"
mkfifo "$work/e.gguf.tmp"
expect 0 export "$model" --to gguf -o "$work/e.gguf" -q
[ -p "$work/e.gguf.tmp" ] || bad "$name: the pipe is gone"
nothing_temporary "$work"
(umask 027 && "$LOWBIT" export "$model" --to gguf -o "$work/masked.gguf" -q >/dev/null)
[ "$(stat -c %a "$work/masked.gguf")" = 640 ] || bad "the umask is not followed"

# Many at once on one name: all that report success have made the whole file, and one of them stays.
for _ in 1 2 3 4; do "$LOWBIT" export "$model" --to gguf -o "$work/many.gguf" -q >/dev/null 2>&1 & done
wait
cmp -s "$work/a.gguf" "$work/many.gguf" || bad "four exports at once: another file"
nothing_temporary "$work"

# A run that was killed, by SIGKILL and by a terminal that closed, and the same again.
"$LB_BUILD/make_tiny_model" "$work/wide" seed=8 tokenizer=bpe hidden=256 ffn=512 layers=2 || bad "no wide model"
study=(study "$work/wide" --text "$text" --tokens 2048 --tensor-tokens 2048 --threads 1 -q)
for signal in HUP KILL; do
    "$LOWBIT" "${study[@]}" -o "$work/study" >"$work/out" 2>"$work/err" &
    process=$!
    wait_until test -e "$work/study.partial" || bad "$signal: no study.partial"
    expect 1 "${study[@]}" -o "$work/study"
    stderr_has "study.partial is in use by another lowbit process"
    one_sentence
    kill "-$signal" "$process"
    wait "$process" 2>/dev/null
    got=$?
    if [ $signal = KILL ]; then
        [ $got -eq 137 ] || bad "$signal: exit $got"
        [ -d "$work/study.partial" ] || bad "$signal: study.partial is gone"
    else
        [ $got -eq 130 ] || bad "$signal: exit $got, wanted 130"
        [ ! -e "$work/study.partial" ] || bad "$signal: study.partial is left"
    fi
done
expect 0 study "$model" --text "$text" --tokens 256 --tensor-tokens 128 -o "$work/study" -q
[ ! -e "$work/study.partial" ] || bad "$name: study.partial is left"
[ -s "$work/study/results.csv" ] || bad "$name: no results"
[ -z "$(find "$work/study" -name '.*' -type f)" ] || bad "$name: a hidden file is left in the output"

# An empty name is misuse, said before any work; an empty text is a text.
for empty in "quantize $model -o" "export $model --to gguf -o" "eval $model --text" "study $model --text $text -o" \
    "average $model -o" "tasks $model --task choice --data x --items" "quantize $model -o $work/no --report" "inspect"; do
    read -ra words <<<"$empty"
    expect 2 "${words[@]}" ""
    stderr_has ' "" names nothing'
    one_sentence
done
expect 2 quantize "$model" --output= --method rtn
stderr_has '--output "" names nothing'
expect 2 eval "" --text "$text"
stderr_has 'MODEL "" names nothing'
expect 1 run "$model" -p "" -n 2 --ignore-end -q
stderr_has 'no tokens'

# A folder of that name that lowbit did not make stays.
mkdir "$work/gptq.partial"
echo precious >"$work/gptq.partial/thesis"
"$LOWBIT" quantize "$model" -o "$work/int4" --format int4-g32 --method rtn -q >/dev/null 2>&1 || bad "quantize"
expect 1 export "$work/int4" --to gptq -o "$work/gptq" -q
stderr_has "gptq.partial exists already"
one_sentence
[ "$(cat "$work/gptq.partial/thesis")" = precious ] || bad "$name: it was emptied"
rm -r "$work/gptq.partial"
mkdir "$work/gptq.partial" && : >"$work/gptq.partial/.lowbit-partial" && : >"$work/gptq.partial/model.safetensors"
expect 0 export "$work/int4" --to gptq -o "$work/gptq" -q
expect 0 inspect "$work/gptq"
[ -z "$(find "$work/gptq" -name '.*' -type f)" ] || bad "$name: a hidden file is left in the output"

# A model may be a stranger's: a link in it does not fetch what is none of its business. A cache of links works.
echo secret >"$work/secret"
cp -r "$model" "$work/stranger"
ln -s "$work/secret" "$work/stranger/LICENSE"
mkdir -p "$work/hub/blobs" "$work/hub/snapshots/rev"
echo "free to use" >"$work/hub/blobs/LICENSE"
for file in "$model"/*; do cp "$file" "$work/hub/blobs/"; done
for file in "$work/hub/blobs"/*; do ln -s "../../blobs/${file##*/}" "$work/hub/snapshots/rev/${file##*/}"; done
for to in export quantize; do
    flags=(--to safetensors)
    [ $to = export ] || flags=(--format int4-g32 --method rtn)
    expect 0 $to "$work/stranger" "${flags[@]}" -o "$work/$to-stranger" -q
    [ ! -e "$work/$to-stranger/LICENSE" ] || bad "$name: a link was followed"
    [ -s "$work/$to-stranger/tokenizer.json" ] || bad "$name: no tokenizer"
    expect 0 $to "$work/hub/snapshots/rev" "${flags[@]}" -o "$work/$to-hub" -q
    grep -q 'free to use' "$work/$to-hub/LICENSE" || bad "$name: no LICENSE"
    cmp -s "$model/tokenizer.json" "$work/$to-hub/tokenizer.json" || bad "$name: another tokenizer"
done

# Names need not be UTF-8; what is written of them is.
odd=$work/$'caf\xe9-m'
cp -r "$model" "$odd"
expect 0 export "$odd" --to gguf -o "$work/odd.gguf" -q
grep -qa $'caf\xef\xbf\xbd-m' "$work/odd.gguf" || bad "$name: the name is not in the file"
! LC_ALL=C grep -qa $'caf\xe9-m' "$work/odd.gguf" || bad "$name: the name's own bytes are in the file"
expect 0 quantize "$odd" --format int4-g32 --method rtn -o "$odd-int4" -q --json
expect 0 export "$odd-int4" --to gptq -o "$odd-gptq" -q --json
expect 0 inspect "$odd-gptq" --json

[ "$failures" -eq 0 ] || { echo "$failures checks failed"; exit 1; }
echo "outputs: all checks passed"
