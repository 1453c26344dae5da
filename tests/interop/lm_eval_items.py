#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`lowbit tasks` beside EleutherAI's lm-evaluation-harness (PyPI: lm-eval), question by question:

    LOWBIT=build/lowbit python tests/interop/lm_eval_items.py MODEL LIMIT TASK=FILE...

MODEL is a Hugging Face folder of floats, TASK piqa, arc-easy, arc-challenge, winogrande, openbookqa or lambada, FILE as
`lowbit tasks` reads it. The harness runs its own task definitions on the same lines, in float32. Prints both scores and
the largest difference of a log-likelihood; exits 1 where a score or a question's outcome differs by more than rounding
explains. Exits 77 where the package is not installed.
"""
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile

try:
    import lm_eval
    import lm_eval.models.huggingface
    import torch
    import yaml
except ImportError as missing:
    print("lm_eval_items: skipped,", missing)
    sys.exit(77)

lowbit = os.environ.get("LOWBIT", "build/lowbit")
model, limit, files = sys.argv[1], int(sys.argv[2]), dict(word.split("=", 1) for word in sys.argv[3:])
definitions = {"piqa": "piqa/piqa", "arc-easy": "arc/arc_easy", "arc-challenge": "arc/arc_challenge",
               "winogrande": "winogrande/default", "openbookqa": "openbookqa/openbookqa",
               "lambada": "lambada/lambada_openai"}
version = importlib.metadata.version("lm_eval")


def bound(score):
    """Nats: float32 on both sides, sums in another order."""
    return 1e-3 + 3e-5 * abs(score)


def published(task, row):
    """A line of the simple layout as the task is published, which the harness' definitions want."""
    if "centerpiece" not in row:
        return row
    text, options, right = row["centerpiece"], row["options"], row["correct_options_idx"][0]
    labelled = {"choices": {"text": options, "label": list("ABCDEFGH")[:len(options)]}, "answerKey": "ABCDEFGH"[right]}
    if task == "piqa":
        return {"goal": text, "sol1": options[0], "sol2": options[1], "label": right}
    if task == "winogrande":
        return {"sentence": text, "option1": options[0], "option2": options[1], "answer": str(right + 1)}
    return dict(labelled, **({"question_stem": text} if task == "openbookqa" else {"question": text}))


def definition(task, path):
    """The harness' own, but for its name and where its lines come from."""
    name = os.path.join(os.path.dirname(lm_eval.__file__), "tasks", definitions[task] + ".yaml")
    config = lm_eval.utils.load_yaml_config(name, mode="full")
    for key in ("group", "tag", "training_split", "validation_split", "test_split", "fewshot_split", "dataset_name"):
        config.pop(key, None)
    return dict(config, task="local-" + task, dataset_path="json", test_split="test", dataset_kwargs={"data_files": {"test": path}})


failed = False
with tempfile.TemporaryDirectory() as work:
    configs, arguments = [], []
    for task, path in files.items():
        rows = [json.loads(line) for line in open(path) if line.strip()][:limit]
        lines = os.path.join(work, task + ".jsonl")
        with open(lines, "w") as out:
            out.writelines(json.dumps(published(task, row)) + "\n" for row in rows)
        configs.append(definition(task, lines))
        arguments += ["--task", task, "--data", path]
    items = os.path.join(work, "items")
    ours = json.loads(subprocess.run([lowbit, "tasks", model, *arguments, "--limit", str(limit), "--items", items,
                                      "--json", "-q"], check=True, stdout=subprocess.PIPE).stdout)
    rows = [json.loads(line) for line in open(items)]
    harness = lm_eval.models.huggingface.HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=4)
    theirs = lm_eval.simple_evaluate(model=harness, tasks=configs, limit=limit, log_samples=True, bootstrap_iters=0)

for got in ours["tasks"]:
    task = got["task"]
    want, samples = theirs["results"]["local-" + task], theirs["samples"]["local-" + task]
    samples.sort(key=lambda sample: sample["doc_id"])
    mine = [row for row in rows if row["task"] == task]
    worst, differ, far = 0.0, 0, 0
    for row, sample in zip(mine, samples):
        scores = [float(answer[0]) for answer in sample["filtered_resps"]]
        worst = max([worst] + [abs(a - b) for a, b in zip(row["log_likelihoods"], scores)])
        far += any(abs(a - b) > bound(b) for a, b in zip(row["log_likelihoods"], scores))
        differ += bool(sample["acc"]) != row["right"]
    words = []
    for key in ("acc", "acc_norm", "perplexity"):
        if key in got and key + ",none" in want:
            words.append(f"{key} {got[key]:.4f} / {want[key + ',none']:.4f}")
            failed |= key != "perplexity" and abs(got[key] - want[key + ",none"]) > 1.5 / len(mine)
    failed |= far > 0 or differ > 0 or len(mine) != len(samples)
    print(f"{task}: {len(mine)} questions, lowbit / lm-eval {version}:"
          f" {', '.join(words)}; log-likelihoods differ by {worst:.2g} at most, {differ} outcomes")
sys.exit(failed)
