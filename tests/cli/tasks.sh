#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# lowbit tasks from outside: several tasks in one run, examples, every question's numbers, sums that are generated, misuse.
# Needs LOWBIT=path of the command and LB_BUILD=folder that holds make_tiny_model.
. tests/cli/lib/expect.bash
: "${LB_BUILD:?set LB_BUILD to the build folder}"
model=$work/model
"$LB_BUILD/make_tiny_model" "$model" seed=6 tokenizer=bpe context=128 || { echo "no tiny model"; exit 1; }

cat >"$work/piqa" <<'END'
{"goal": "Open a jar", "sol1": "turn the lid", "sol2": "turn the moon", "label": 0}
{"goal": "Dry a cat", "sol1": "in the sun", "sol2": "in the oven", "label": 0}
{"centerpiece": "Find a hat", "options": ["look", "sing"], "correct_options_idx": [0]}
END
echo '{"text": "the cat saw the cat"}' >"$work/lambada"
cat >"$work/gsm8k" <<'END'
{"question": "What is 1+1?", "answer": "It is 2.\n#### 2"}
{"question": "What is 2+2?", "answer": "It is 4.\n#### 4"}
END

expect 0 tasks "$model" --task piqa --data "$work/piqa" --task lambada --data "$work/lambada" --items "$work/items"
stdout_has 'acc_norm'
grep -qE '^piqa +3 ' "$work/out" || bad 'tasks: no line of piqa'
grep -qE '^lambada +1 ' "$work/out" || bad 'tasks: no line of lambada'
[ "$(wc -l <"$work/items")" -eq 4 ] || bad 'tasks: --items has not 4 lines'

python3 - "$work/items" <<'PY' || bad 'tasks --items is not what it should be'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
assert [r["task"] for r in rows] == ["piqa"] * 3 + ["lambada"], rows
assert [r["line"] for r in rows] == [1, 2, 3, 1]
assert all(len(r["log_likelihoods"]) == 2 and max(r["log_likelihoods"]) < 0 for r in rows[:3])
assert all(r["right"] == (r["log_likelihoods"][0] >= r["log_likelihoods"][1]) for r in rows[:3]), rows
PY

# Examples are the first lines, or of a file; the same numbers at any number of threads.
expect 0 tasks "$model" --task piqa --data "$work/piqa" --shots 2 --json -q
silent_stderr
python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); assert r["shots"] == 2 and r["tasks"][0]["items"] == 1' "$work/out" ||
    bad 'tasks: two examples of three questions leave one'
for threads in 1 2; do
    expect 0 tasks "$model" --task piqa --data "$work/piqa" --shots 1 --examples "$work/piqa" --items "$work/items.$threads" --threads "$threads" -q
done
cmp -s "$work/items.1" "$work/items.2" || bad 'tasks: two threads give other numbers'
expect 0 tasks "$model" --task piqa --data "$work/piqa" --limit 2 --json -q
grep -q '"items": 2' "$work/out" || bad 'tasks: --limit is not kept'

# A sum is answered, beside what is scored.
expect 0 tasks "$model" --task gsm8k --data "$work/gsm8k" --task piqa --data "$work/piqa" --most 8 --json -q
python3 -c 'import json, sys; t = json.load(open(sys.argv[1]))["tasks"]; assert t[0]["items"] == 2 and 0 <= t[0]["exact_match_strict"] <= 1 and "acc" in t[1]' \
    "$work/out" || bad 'tasks: gsm8k --json is not what it should be'
expect 0 tasks "$model" --task gsm8k --data "$work/gsm8k" --shots 1 --most 4 -q

# What was generated is kept too, with all that its score is made of. Reading it back gives the scores; BOS stands at the
# beginning only where it is asked for, and a question that is too long loses its beginning.
"$LB_BUILD/make_tiny_model" "$work/bos" seed=6 tokenizer=bytes context=64 || bad "no model"
python3 - "$work/bos/tokenizer_config.json" <<'PY'
import json, sys
config = json.load(open(sys.argv[1]))
config.update(bos_token="<|endoftext|>", add_bos_token=True)
json.dump(config, open(sys.argv[1], "w"))
PY
for bos in "" --bos; do
    expect 0 tasks "$work/bos" --task gsm8k --data "$work/gsm8k" --most 8 --items "$work/sums$bos" --json -q $bos
    cp "$work/out" "$work/scores$bos"
done
expect 0 tasks "$work/bos" --task gsm8k --data "$work/gsm8k" --most 40 --items "$work/sums.cut" --bos -q
expect 1 tasks "$work/bos" --task gsm8k --data "$work/gsm8k" --most 64 -q
stderr_has 'leaves no room for a question'
python3 - "$work" <<'PY' || bad 'tasks --items of gsm8k is not what it should be'
import json, sys
def rows(name): return [json.loads(line) for line in open(sys.argv[1] + "/" + name)]
plain, bos, cut = rows("sums"), rows("sums--bos"), rows("sums.cut")
assert [r["line"] for r in plain] == [1, 2] and [r["gold"] for r in plain] == ["2", "4"]
for a, b, c in zip(plain, bos, cut):
    assert a["task"] == "gsm8k" and isinstance(a["answer"], str)
    assert b["prompt"] == [b["prompt"][0]] + a["prompt"] and len(b["prompt"]) == len(a["prompt"]) + 1, (a, b)
    assert len(a["prompt"]) > 24 and c["prompt"] == b["prompt"][-24:], (b, c)
    for r in a, b, c:
        assert r["right"] == (r["strict"] == r["gold"]) and (r["strict"] is None or "#### " in r["answer"]), r
        assert r["flexible"] is None or r["flexible"] in r["answer"], r
score = json.load(open(sys.argv[1] + "/scores"))["tasks"][0]
assert score["exact_match_strict"] == sum(r["right"] for r in plain) / 2
assert score["exact_match_flexible"] == sum(r["right_flexible"] for r in plain) / 2
PY

# Whatever is wrong with a file is said before the model does any work: of the last task, or of what is written.
printf '\357\273\277{"goal": "Open", "sol1": "a", "sol2": "b", "label": 0}\n' >"$work/marked"
expect 0 tasks "$model" --task piqa --data "$work/marked" -q
printf '{"question": "q", "answer": "#### 1"}\n{"question": "q", "answer": "none"}\n' >"$work/no_number"
printf '{"goal": "Open", "sol1": "a", "sol2": "", "label": 0}\n' >"$work/empty"
unstarted() { # unstarted SENTENCE ARGUMENTS...: fails with it, and no question was scored
    expect 1 tasks "$model" "${@:2}" --items "$work/unstarted"
    stderr_has "$1"
    grep -qx 'piqa\|gsm8k' "$work/err" && bad "$name: a task had begun"
    [ ! -e "$work/unstarted" ] || bad "$name: --items is left"
}
unstarted 'cannot open' --task piqa --data "$work/piqa" --task gsm8k --data "$work/nowhere" --most 4
unstarted 'line 2, which is no line of gsm8k: there is no number' --task piqa --data "$work/piqa" --task gsm8k --data "$work/no_number" --most 4
unstarted 'line 1, which is no line of piqa: option 2 is empty' --task gsm8k --data "$work/gsm8k" --most 4 --task piqa --data "$work/empty"
expect 1 tasks "$model" --task piqa --data "$work/piqa" --items "$work/nodir/x"
stderr_has 'nodir/x'
grep -qx piqa "$work/err" && bad "$name: it had begun"

# What is finished is told and kept when the run is stopped in the middle of the next task.
for _ in $(seq 400); do cat "$work/gsm8k"; done >"$work/long"
"$LOWBIT" tasks "$model" --task piqa --data "$work/piqa" --task gsm8k --data "$work/long" --most 90 --threads 1 \
    --items "$work/stopped" >"$work/out" 2>"$work/err" &
process=$!
wait_until grep -qx gsm8k "$work/err"
kill -TERM "$process"
wait "$process"
[ $? -eq 130 ] || bad 'tasks, stopped: not exit status 130'
grep -qE '^piqa +3 ' "$work/out" || bad 'tasks, stopped: no line of piqa'
grep -q '^gsm8k' "$work/out" && bad 'tasks, stopped: a line of gsm8k'
[ "$(grep -c '"task": "piqa"' "$work/stopped")" -eq 3 ] || bad 'tasks, stopped: --items lacks what was finished'

# Misuse.
expect 2 tasks "$model"
expect 2 tasks "$model" --task piqa
expect 2 tasks "$model" --task pika --data "$work/piqa"
grep -q 'piqa' "$work/err" || bad 'tasks: the names that there are are not said'
expect 2 tasks "$model" --task piqa --data "$work/piqa" --examples "$work/piqa"
expect 1 tasks "$model" --task piqa --data "$work/nowhere"
expect 1 tasks "$model" --task piqa --data "$work/piqa" --shots 3
expect 1 tasks "$model" --task piqa --data "$work/lambada"
grep -q 'line 1' "$work/err" || bad 'tasks: which line is wrong is not said'
expect 1 tasks "$model" --task piqa --data "$work/piqa" --items "$work/items"

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "tasks: all good"
