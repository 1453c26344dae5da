#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# lowbit robustness from outside: against the same numbers made by hand, at any number of threads, interrupted, misused.
# Needs LOWBIT=path of the command.
. tests/cli/lib/expect.bash

for i in $(seq 1 400); do echo "The cat number $i saw the moon, and the moon number $((i % 7)) saw a cat."; done >"$work/text"
head -n 40 "$work/text" >"$work/valid"
"$LOWBIT" train --text "$work/text" -o "$work/run" --tokens 5120 --hidden 32 --layers 2 --heads 2 --ffn 64 --vocab 300 \
    --ctx 32 --batch 128 --save-every 10 --warmup 5 --schedule constant --keep-states -q >/dev/null || exit 1
"$LOWBIT" train --from "$work/run/step-00000020" -o "$work/branch" --schedule wsd --tokens 3840 --decay 0.34 --save-every 5 -q >/dev/null || exit 1
recipe=(--calib "$work/text" --samples 8 --seqlen 32 --format int3-g32,int2-g32)
study=(robustness "$work/run" "$work/branch" --text "$work/valid" --tokens 512 --average latest:2 "${recipe[@]}")

# Every checkpoint of both runs, and the averages of two.
expect 0 "${study[@]}" -o "$work/one" --threads 1
stdout_has 'rank correlation'
stdout_has 'branch, latest:2'
[ "$(wc -l <"$work/one/results.csv")" -eq $((1 + 4 + 3 + 2 + 1)) ] || bad "robustness: results.csv has not 10 rows"
for file in results.md results.json report.html; do
    [ -s "$work/one/$file" ] || bad "robustness: no $file"
done
[ -z "$(find "$work/one" -name 'work-*')" ] || bad 'robustness: something of its work is left'

# The numbers are those of the commands one by one.
"$LOWBIT" average "$work/run" --latest 2 --until 30 -o "$work/mean" -q >/dev/null
"$LOWBIT" quantize "$work/mean" -o "$work/quantized" --calib "$work/text" --samples 8 --seqlen 32 --format int2-g32 -q >/dev/null
"$LOWBIT" eval "$work/quantized" --against "$work/mean" --text "$work/valid" --tokens 512 -q --json >"$work/score"
python3 - "$work/score" "$work/one/results.json" <<'PY' || bad 'robustness: not the numbers of quantize and eval'
import json, sys
score, study = (json.load(open(path)) for path in sys.argv[1:])
row, = [r for r in study["rows"] if r["step"] == 30 and r["run"] == "run" and r["average"] == "latest:2"]
got = row["quantized"]["int2-g32"]
assert got["loss"] == score["nll_mean"] and got["kl_mean"] == score["kl_mean"], (got, score)
assert row["loss"] == score["reference"]["nll_mean"]
assert abs(got["error"] - (score["nll_mean"] / row["loss"] - 1)) < 1e-12
rates = {(r["run"], r["step"]): r["learning_rate"] for r in study["rows"]}
assert rates["run", 40] == 0.003 and 0 < rates["branch", 30] < 0.003, rates
PY

# The same bytes at any number of threads; nothing is measured again, and runs can be added.
expect 0 "${study[@]}" -o "$work/two" --threads 2
cmp -s "$work/one/results.csv" "$work/two/results.csv" || bad 'robustness: two threads give other numbers'
expect 0 robustness "$work/run" --text "$work/valid" --tokens 512 "${recipe[@]}" -o "$work/less" --every 20 -q
expect 0 "${study[@]}" -o "$work/less" --resume -q
cmp -s "$work/one/results.csv" "$work/less/results.csv" || bad 'robustness: a study that grew has other numbers'

# Interrupted.
"$LOWBIT" "${study[@]}" -o "$work/broken" --threads 1 >"$work/out" 2>"$work/err" &
pid=$!
for _ in $(seq 1 400); do
    [ -s "$work/broken/results.json" ] && grep -q '"run"' "$work/broken/results.json" && break
    sleep 0.02
done
kill -TERM "$pid"
wait "$pid"
status=$?
if [ "$status" -ne 0 ]; then # it may have been quicker
    [ "$status" -eq 130 ] || bad "robustness: exit status $status after an interruption"
    grep -q -- '--resume' "$work/err" || bad 'robustness: how to go on is not said'
    [ -z "$(find "$work/broken" -name 'work-*')" ] || bad 'robustness: an interruption leaves work behind'
    expect 0 "${study[@]}" -o "$work/broken" --resume -q
fi
cmp -s "$work/one/results.csv" "$work/broken/results.csv" || bad 'robustness: a resumed study has other numbers'

# A row of results.json that is not whole is measured again.
python3 - "$work/broken/results.json" <<'PY'
import json, sys
study = json.load(open(sys.argv[1]))
study["rows"][0]["loss"] = "low"
del study["rows"][1]["quantized"][next(iter(study["rows"][1]["quantized"]))]["kl_mean"]
json.dump(study, open(sys.argv[1], "w"))
PY
expect 0 "${study[@]}" -o "$work/broken" --resume -q
cmp -s "$work/one/results.csv" "$work/broken/results.csv" || bad 'robustness: a row that is not whole was taken over'

# Any recipe; one JSON object.
expect 0 robustness "$work/run" --text "$work/valid" --tokens 256 --every 40 -o "$work/rtn" --method rtn --format mxfp4 --json -q
silent_stderr
python3 -c 'import json, sys; rows = json.load(open(sys.argv[1]))["rows"]; assert len(rows) == 1 and rows[0]["quantized"]["mxfp4"]["kl_mean"] > 0' \
    "$work/out" || bad 'robustness --json is not what it should be'

# Misuse, and what is wrong before the work leaves no folder behind.
expect 2 robustness "$work/run" -o "$work/never"
expect 2 robustness "$work/run" --text "$work/valid" -o "$work/never" --format int3-g128,best
expect 2 robustness "$work/run" --text "$work/valid" -o "$work/never" --format int3-g32,int3-g32
expect 2 robustness "$work/run" --text "$work/valid" -o "$work/never" --average latest
expect 1 robustness "$work/run" --text "$work/nowhere" -o "$work/never"
expect 1 robustness "$work/nowhere" --text "$work/valid" -o "$work/never"
expect 1 robustness "$work/run" --text "$work/valid" -o "$work/never" --resume
[ ! -e "$work/never" ] || bad 'robustness: a refused study leaves a folder'
expect 1 "${study[@]}" -o "$work/one"
expect 1 "${study[@]}" -o "$work/one" --resume --tokens 256
grep -q 'other settings' "$work/err" || bad 'robustness: a study with other settings is gone on with'
rm -r "$work/branch/step-00000030/model.safetensors"
expect 1 "${study[@]}" -o "$work/damaged" -q
grep -q 'step-00000030' "$work/err" || bad 'robustness: which checkpoint is damaged is not said'

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
echo "robustness: all good"
