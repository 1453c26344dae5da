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
