# SPDX-License-Identifier: MIT
"""A model from Python, against the forward pass in NumPy (tiny.py)."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator, List

import numpy as np
import pytest

import lowbit
import tiny

IDS = np.array([ord(c) for c in "the cat sat on the mat"], dtype=np.uint32)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[lowbit.Model]:
    with lowbit.load(folder, kv="f32") as opened:
        yield opened


def test_logits_are_numpys(model: lowbit.Model, weights: tiny.Weights) -> None:
    want = tiny.forward(weights, IDS)
    got = model.logits(IDS)
    assert got.shape == (len(IDS), tiny.VOCAB) and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)
    np.testing.assert_allclose(model.logits("the cat sat on the mat", first=5), want[5:], rtol=0, atol=2e-4)
    np.testing.assert_allclose(model.logits(IDS.tolist(), first=-1), want[-1:], rtol=0, atol=2e-4)
    np.testing.assert_array_equal(model.logits(IDS), got)


def test_a_draft_changes_nothing(folder: Path, model: lowbit.Model) -> None:
    want = model.generate("the cat", max_tokens=20, temperature=0, ignore_end=True)
    with lowbit.load(folder, kv="f32", draft=folder) as drafted:
        assert drafted.generate("the cat", max_tokens=20, temperature=0, ignore_end=True).text == want.text
    with pytest.raises(lowbit.Error, match="int9"):
        lowbit.load(folder, kv="int9")


def test_a_quantized_models_logits_are_those_of_its_weights(
    folder: Path, weights: tiny.Weights, tmp_path: Path
) -> None:
    result = lowbit.quantize(folder, tmp_path / "q", "int8-g32", method="rtn", fit="range")
    rounded = {
        name: lowbit.round(array, "int8-g32", fit="range") if "_proj" in name else array
        for name, array in weights.items()
    }
    assert result.quantized_bits_per_weight == 8.5 and len(result.layers) == 7 * tiny.LAYERS
    assert all(layer.format == "int8-g32" for layer in result.layers)
    # Without kernels of its own a prompt's inputs stay floats; else they are rounded to 8 bits, which is another 1 %.
    with lowbit.load(tmp_path / "q", kv="f32", cpu="ref") as model:
        np.testing.assert_allclose(model.logits(IDS), tiny.forward(rounded, IDS), rtol=0, atol=0.05)


def test_greedy_answers_are_numpys(model: lowbit.Model, weights: tiny.Weights) -> None:
    ids = list(IDS)
    scores = []
    for _ in range(12):
        row = tiny.log_softmax(tiny.forward(weights, np.array(ids, np.uint32))[-1])
        ids.append(np.uint32(row.argmax()))
        scores.append(row.max())
    answer = model.generate(IDS, max_tokens=12, temperature=0, ignore_end=True, top_scores=3)
    assert answer.tokens == [int(id) for id in ids[len(IDS) :]]
    assert answer.text == model.decode(answer.tokens)
    np.testing.assert_allclose(answer.logprobs, scores, rtol=0, atol=1e-3)
    assert [len(top) for top in answer.top] == [3] * 12 and answer.top[0][0][0] == answer.tokens[0]
    assert (answer.prompt_tokens, answer.generated_tokens, answer.stop) == (len(IDS), 12, "length")


def test_streams_say_what_answers_say(model: lowbit.Model) -> None:
    settings: Any = {"max_tokens": 20, "seed": 7, "ignore_end": True, "reuse": False}
    whole = model.generate("the cat", **settings)
    stream = model.stream("the cat", **settings)
    assert "".join(stream) == whole.text == stream.result.text
    assert stream.result.tokens == whole.tokens and len(whole.tokens) == 20
    assert model.generate("the cat", **{**settings, "seed": 8}).tokens != whole.tokens


def test_stops(model: lowbit.Model) -> None:
    whole = model.generate("the cat", max_tokens=30, temperature=0, ignore_end=True)
    word = whole.text[4:6]
    cut = model.generate("the cat", max_tokens=30, temperature=0, ignore_end=True, stop=word)
    assert cut.stop == "stop" and cut.text == whole.text[: whole.text.index(word)]
    stopped = model.generate("the cat", max_tokens=30, temperature=0, ignore_end=True, on_text=lambda piece: True)
    assert stopped.stop == "caller"


def test_several_streams_at_once(folder: Path) -> None:
    prompts = ["the cat", "a hat", "in the tin"]
    with lowbit.load(folder, sequences=3) as model:
        settings: Any = {"max_tokens": 15, "temperature": 0, "ignore_end": True}
        alone = [model.generate(prompt, **settings).text for prompt in prompts]
        streams = [model.stream(prompt, **settings) for prompt in prompts]
        with pytest.raises(lowbit.Error) as caught:
            model.generate("x")
        assert caught.value.status is lowbit.Status.EXISTS
        texts = ["", "", ""]
        while any(s.result.generated_tokens == 0 for s in streams):
            for i, s in enumerate(streams):
                texts[i] += next(s, "")
        assert [t + "".join(s) for t, s in zip(texts, streams)] == alone


def test_streams_that_are_dropped_make_room(model: lowbit.Model) -> None:
    stream = model.stream("the cat", max_tokens=50, ignore_end=True)
    next(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    closed = model.stream("the cat", max_tokens=50, ignore_end=True)
    closed.close()
    assert list(closed) == []
    assert model.generate("the cat", max_tokens=2).prompt_tokens == 7


def test_callbacks_stop_and_raise(model: lowbit.Model, folder: Path, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        model.generate("the cat", on_text=fail)
    with pytest.raises(KeyError):
        model.generate("the cat", progress=fail)
    with pytest.raises(KeyError):
        lowbit.load(folder, progress=fail)
    with pytest.raises(KeyError):
        lowbit.quantize(folder, tmp_path / "out", "int4-g32", method="rtn", progress=fail)
    with pytest.raises(lowbit.Error) as caught:
        model.generate("the cat", progress=lambda stage, done, total: True)
    assert caught.value.status is lowbit.Status.CANCELED
    with pytest.raises(RuntimeError):
        model.generate("the cat", on_text=lambda piece: model.encode(piece))
    assert model.generate("the cat", max_tokens=3, ignore_end=True).generated_tokens == 3


def test_quantizing_is_resumed_and_told(folder: Path, tmp_path: Path) -> None:
    stages: List[str] = []

    def first_block(stage: str, done: int, total: int) -> bool:
        stages.append(stage)
        return done >= 1 and total == tiny.LAYERS

    settings: Any = {"method": "rtn", "layers": {"*.down_proj": "int8-g32"}}
    with pytest.raises(lowbit.Error) as caught:
        lowbit.quantize(folder, tmp_path / "q", "int4-g32", progress=first_block, **settings)
    assert caught.value.status is lowbit.Status.CANCELED and stages
    resumed = lowbit.quantize(folder, tmp_path / "q", "int4-g32", resume=True, **settings)
    whole = lowbit.quantize(folder, tmp_path / "whole", "int4-g32", **settings)
    assert resumed.resumed_blocks >= 1 and whole.resumed_blocks == 0
    assert {layer.format for layer in whole.layers if "down_proj" in layer.name} == {"int8-g32"}
    for file in (tmp_path / "whole").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "q" / file.name).read_bytes()
    assert resumed.recipe == whole.recipe and whole.recipe["format"] == "int4-g32"
    dry = lowbit.quantize(folder, tmp_path / "dry", "int4-g32", dry_run=True, **settings)
    assert not (tmp_path / "dry").exists() and dry.layers[0].relative_error is None
    with pytest.raises(TypeError):
        lowbit.quantize(folder, tmp_path / "no", sampels=3)  # type: ignore[call-arg]


def test_evaluation_is_numpys(folder: Path, text: Path, weights: tiny.Weights) -> None:
    ids = np.frombuffer(text.read_bytes(), np.uint8).astype(np.uint32)
    ctx, count = 64, 256
    losses = []
    for at in range(0, count, ctx):
        window = ids[at : at + ctx]
        rows = tiny.log_softmax(tiny.forward(weights, window))[:-1]
        losses.append(-np.take_along_axis(rows, window[1:, None].astype(np.int64), axis=1)[:, 0])
    result = lowbit.evaluate(folder, text, ctx=ctx, tokens=count)
    assert result.tokens == count - count // ctx and result.reference is None and result.kl_mean is None
    assert result.model.perplexity == pytest.approx(float(np.exp(np.mean(losses))), rel=1e-5)
    cast = lowbit.evaluate(folder, text, ctx=ctx, tokens=count, weights="int4-g32")
    assert cast.reference is not None and cast.kl_mean is not None
    assert cast.reference.perplexity == pytest.approx(result.model.perplexity) and cast.kl_mean > 0
    with pytest.raises(lowbit.Error):
        lowbit.evaluate(folder, text, protocol="third")


def test_export(folder: Path, tmp_path: Path, weights: tiny.Weights) -> None:
    assert "gguf" in lowbit.export_kinds()
    done = lowbit.export(folder, tmp_path / "m.gguf", "gguf", dtype="f32")
    assert done.tensors == len(weights) and (tmp_path / "m.gguf").stat().st_size == done.bytes
    with lowbit.load(tmp_path / "m.gguf", kv="f32") as model:
        np.testing.assert_allclose(model.logits(IDS), tiny.forward(weights, IDS), rtol=0, atol=2e-4)


def test_tokens(model: lowbit.Model) -> None:
    text = "naïve \N{SNOWMAN} caf\u00e9\x00!"
    ids = model.encode(text)
    assert ids.dtype == np.uint32 and list(ids) == list(text.encode())
    assert model.decode(ids) == text
    assert list(model.encode("<|im_end|>", special=True)) == [258] and len(model.encode("<|im_end|>")) == 10
    chat = model.encode_chat([{"role": "user", "content": "hi"}])
    want = [257, *b"user\nhi", 258, *b"\n", 257, *b"assistant\n"]
    assert list(chat) == want
    assert (model.context, model.vocab_size) == (tiny.CONTEXT, tiny.VOCAB)


def test_prompts_that_are_none(model: lowbit.Model) -> None:
    for bad in ([], [2**32], [-1], [tiny.VOCAB], [0] * (tiny.CONTEXT + 1)):
        with pytest.raises(lowbit.Error):
            model.logits(bad)
    for worse in ([1.5], [[1, 2]]):
        with pytest.raises(TypeError):
            model.logits(worse)  # type: ignore[arg-type]
    with pytest.raises(lowbit.Error):
        lowbit.load("/nonexistent/model")


def test_threads_take_turns(model: lowbit.Model) -> None:
    want = model.logits(IDS)
    wrong: List[str] = []

    def work() -> None:
        for _ in range(5):
            if not np.array_equal(model.logits(IDS), want):
                wrong.append("logits")
            if lowbit.pack(want, "int4-g32").nbytes <= 0:
                wrong.append("pack")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closing(folder: Path) -> None:
    model = lowbit.load(folder)
    stream = model.stream("the cat")
    model.close()
    model.close()
    stream.close()
    for use in (lambda: model.logits("x"), lambda: model.encode("x")):
        with pytest.raises(RuntimeError):
            use()
    dropped = lowbit.load(folder)
    free = dropped._free
    del dropped
    gc.collect()
    assert not free.alive


def test_nothing_is_cut_at_a_zero_byte(model: lowbit.Model, folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    calls: List[Callable[[], object]] = [
        lambda: lowbit.quantize(folder, out + "\0junk", "int4-g32", method="rtn"),
        lambda: lowbit.quantize(f"{folder}\0junk", out, "int4-g32", method="rtn"),
        lambda: lowbit.quantize(folder, out, "int4-g32\0junk", method="rtn"),
        lambda: lowbit.quantize(folder, out, "int4-g32", method="rtn\0junk"),
        lambda: lowbit.quantize(folder, out, "int4-g32", method="rtn", layers=["*=int8-g32\0junk"]),
        lambda: lowbit.export(folder, out + "\0junk", "safetensors"),
        lambda: lowbit.export(folder, out, "safetensors\0junk"),
        lambda: lowbit.evaluate(folder, f"{folder}\0junk"),
        lambda: lowbit.evaluate(folder, folder, weights="int4-g32\0junk"),
        lambda: lowbit.load(f"{folder}\0junk"),
        lambda: lowbit.load(folder, kv="f32\0junk"),
        lambda: lowbit.format_info("int4-g32\0junk"),
        lambda: lowbit.pack(np.zeros((1, 32)), "int4-g32\0junk"),
        lambda: lowbit.pack(np.zeros((1, 32)), "int4-g32", fit="range\0junk"),
        lambda: model.generate("the", stop="a\0b"),
        lambda: model.encode_chat([{"role": "user\0", "content": "hi"}]),
        lambda: model.encode_chat([{"role": "user", "content": "hi\0there"}]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="zero byte"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_do_not_fit_are_refused(model: lowbit.Model, folder: Path, tmp_path: Path) -> None:
    calls: List[Callable[[], object]] = [
        lambda: model.generate("the", top_k=-1),
        lambda: model.generate("the", max_tokens=-1),
        lambda: model.generate("the", max_tokens=2**64),
        lambda: model.generate("the", seed=-1),
        lambda: model.generate("the", top_scores=-1),
        lambda: lowbit.load(folder, context=-1),
        lambda: lowbit.load(folder, sequences=2**64 + 1),
        lambda: lowbit.quantize(folder, tmp_path / "q", "int4-g32", method="rtn", samples=-1),
        lambda: lowbit.evaluate(folder, folder, ctx=-5),
        lambda: lowbit.set_threads(2**32 + 1),
        lambda: lowbit.set_threads(-1),
        lambda: model.decode([2**32 - 1]),
        lambda: model.decode([ord("a"), tiny.VOCAB]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="want|below"):
            call()
    assert model.decode([ord("a"), tiny.VOCAB - 1]) == "a"
    with pytest.raises(lowbit.Error):
        model.decode([-1])
    assert list(tmp_path.iterdir()) == []
