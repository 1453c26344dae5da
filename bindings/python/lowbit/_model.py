# SPDX-License-Identifier: MIT
"""A model in memory: text, tokens, logits."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from dataclasses import dataclass, field
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypedDict,
    Union,
)

import numpy as np
import numpy.typing as npt

from . import _c

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Text, which the model's own tokenizer turns into ids, or the ids.
Prompt = Union[str, Sequence[int], npt.NDArray[Any]]

_STOPS = ("length", "end", "context", "caller", "stop")
_BOS, _SPECIAL = 1, 2


class Settings(TypedDict, total=False):
    """What :meth:`Model.generate` takes besides the prompt; :meth:`Model.stream` says what each is."""

    max_tokens: int
    temperature: Optional[float]
    top_k: Optional[int]
    top_p: Optional[float]
    min_p: Optional[float]
    repeat_penalty: Optional[float]
    seed: Optional[int]
    stop: Union[str, Sequence[str]]
    ignore_end: bool
    top_scores: int
    reuse: bool
    on_text: Optional[Callable[[str], object]]
    progress: Optional[_c.Progress]


@dataclass
class Generation:
    """What came of a prompt. ``stop`` is "length", "end" (the model was done), "context" (it is full), "stop" (a stop
    text came up) or "caller". ``tokens`` and ``logprobs`` are those of the text, an end token not among them; ``top`` holds
    the likeliest alternatives of each, as (id, logprob)."""

    text: str = ""
    tokens: List[int] = field(default_factory=list)
    logprobs: List[float] = field(default_factory=list)
    top: List[List[Tuple[int, float]]] = field(default_factory=list)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    decode_seconds: float = 0.0
    stop: str = "length"


class Stream(Iterator[str]):
    """The pieces of an answer, as they come. ``result`` grows with it, and is complete when the pieces end.

    close() gives the answer up; so does dropping the object.
    """

    def __init__(self, model: "Model", prompt: Prompt, settings: Mapping[str, Any]) -> None:
        self.result = Generation()
        self._model = model
        self._pieces: List[str] = []
        self._error: Optional[_c.Error] = None
        self._task: Optional[int] = None
        self._callbacks = _c.Callbacks(settings.get("progress"))
        # The library calls methods of `state`, not of this object: it would never be dropped otherwise.
        self._hold = _begin(model, prompt, settings, weakref.ref(self), self._callbacks)
        self._task = self._hold[0]
        self._drop = weakref.finalize(self, _abandon, model, self._hold)

    def __next__(self) -> str:
        while not self._pieces:
            if self._task is None:
                raise StopIteration
            with self._model._use() as engine:
                _c.lib.lb_engine_step(engine)
            if self._task is None:
                self._callbacks.done()
                if self._error is not None:
                    raise self._error
        return self._pieces.pop(0)

    def close(self) -> None:
        self._drop()
        self._task = None
        self._pieces.clear()
        self._model._sweep()


def _begin(model: "Model", prompt: Prompt, settings: Mapping[str, Any], stream: "weakref.ref[Stream]",
           callbacks: _c.Callbacks) -> List[Any]:  # fmt: skip
    """Begins an answer: [task, what the library points to as long as it is under way]."""
    ids = model._ids(prompt)
    o = _c.options(_c.GenerateOptions, "lb_generate_options")
    stops = settings["stop"]
    texts = [stops.encode()] if isinstance(stops, str) else [text.encode() for text in stops]
    array = _c.strings(texts, "stop")
    for name in ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "ignore_end",
                 "top_scores"):  # fmt: skip
        if settings[name] is not None:
            setattr(o, name, settings[name])
    o.forget = not settings["reuse"]
    o.stops, o.stop_count = array, len(texts)
    o.progress = callbacks.c_progress
    hold: List[Any] = [None, ids, array, callbacks]

    def on_text(_user: object, text: Any, length: int) -> int:
        target = stream()
        if target is None:
            return 1
        piece = text[:length].decode("utf-8", "replace")
        target._pieces.append(piece)
        target.result.text += piece
        on_piece = settings["on_text"]
        return int(callbacks.guard(lambda: on_piece(piece))) if on_piece else 0

    def on_token(_user: object, token: Any, top: Any, count: int) -> None:
        target = stream()
        if target is not None:
            target.result.tokens.append(token.id)
            target.result.logprobs.append(token.logprob)
            target.result.top.append([(top[i].id, top[i].logprob) for i in range(count)])

    def on_end(_user: object, status: int, result: Any, err: Any) -> None:
        hold[0] = None
        target = stream()
        if target is None:
            return
        target._task = None
        r = result.contents
        for name in ("prompt_tokens", "reused_tokens", "generated_tokens", "prompt_seconds", "decode_seconds"):
            setattr(target.result, name, getattr(r, name))
        target.result.stop = _STOPS[r.stop]
        if status != _c.Status.OK:
            target._error = _c.Error(err.contents.msg.decode("utf-8", "replace"), _c.Status(status))

    o.on_text, o.on_token = _c.TEXT_FN(on_text), _c.TOKEN_FN(on_token)
    end = _c.END_FN(on_end)
    hold += [o, end]
    task = ctypes.c_void_p()
    with model._use() as engine:
        _c.call("lb_engine_begin", engine, ids.ctypes.data, ids.size, ctypes.byref(o), end, ctypes.byref(task))
    hold[0] = task.value
    return hold


def _abandon(model: "Model", hold: List[Any]) -> None:
    """Objects are dropped at any moment, in the middle of a step too: the answer is given up at the next call."""
    if hold[0] is not None:
        model._dropped.append(hold)


class Model:
    """A model, opened by :func:`load`. Close it, or use it in a ``with`` statement, to free its memory at once.

    Threads: calls from several threads take turns. Within one, several streams may be under way at once (``sequences``).
    Callbacks must not use the model that calls them.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, context: int = 0, sequences: int = 1, cpu: Optional[str] = None,
                 kv: Optional[str] = None, draft: "str | os.PathLike[str] | None" = None,
                 progress: Optional[_c.Progress] = None) -> None:  # fmt: skip
        self._engine: Optional[int] = None
        self._dropped: List[List[Any]] = []
        self._lock = threading.RLock()
        self._inside = False
        callbacks = _c.Callbacks(progress)
        options = _c.options(_c.EngineOptions, "lb_engine_options")
        options.context, options.sequences = context, sequences
        options.cpu = cpu.encode() if cpu else None
        options.kv = kv.encode() if kv else None
        options.draft_path = _c.path_bytes(draft) if draft else None
        options.progress = callbacks.c_progress
        handle = ctypes.c_void_p()
        callbacks.call("lb_engine_open", _c.path_bytes(path), ctypes.byref(options), ctypes.byref(handle))
        assert handle.value is not None
        self._engine = handle.value
        self._free = weakref.finalize(self, _c.lib.lb_engine_close, handle.value)
        self.path = os.fspath(path)
        #: Room for tokens of prompt and answer together.
        self.context = int(_c.lib.lb_engine_context(handle))
        #: Logits in a row; ids are below this.
        self.vocab_size = int(_c.lib.lb_engine_vocab(handle))

    def close(self) -> None:
        """Frees the model. Streams that are under way are given up."""
        with self._lock:
            if self._inside:
                raise RuntimeError("a callback must not close the model that calls it")
            self._engine = None
            self._free()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], value: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:  # fmt: skip
        self.close()

    def _use(self) -> "_Use":
        return _Use(self)

    def _sweep(self) -> None:
        """Gives up what was dropped, unless that has to wait."""
        if self._dropped and not self._inside and self._engine is not None:
            with self._use():
                pass

    # ---- Tokens ------------------------------------------------------------------------------------------

    def encode(self, text: str, *, bos: bool = True, special: bool = False) -> npt.NDArray[np.uint32]:
        """The ids of a text. bos: a BOS at the start where the tokenizer adds one by default. special: tokens like
        "<|im_end|>" that are spelled out in the text become their ids."""
        raw = text.encode("utf-8", "replace")
        flags = (_BOS if bos else 0) | (_SPECIAL if special else 0)
        with self._use() as engine:
            tokenizer = _c.lib.lb_engine_tokenizer(engine)
            return _take_ids("lb_tokenizer_encode", tokenizer, raw, len(raw), flags)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> npt.NDArray[np.uint32]:
        """The ids of a conversation in the model's own chat template, with the header of the answer at the end."""
        turns = (_c.ChatTurn * max(len(messages), 1))()
        for turn, message in zip(turns, messages):
            turn.role, turn.content = message["role"].encode(), message["content"].encode("utf-8", "replace")
        with self._use() as engine:
            tokenizer = _c.lib.lb_engine_tokenizer(engine)
            return _take_ids("lb_tokenizer_chat", tokenizer, turns, len(messages))

    def decode(self, ids: Union[Sequence[int], npt.NDArray[Any]]) -> str:
        """The text of ids; special tokens give none. ValueError where one is none of the model's."""
        checked = self._ids(ids)
        stream, text, length = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_char)(), ctypes.c_size_t()
        found: List[bytes] = []
        with self._use() as engine:
            tokenizer = _c.lib.lb_engine_tokenizer(engine)
            known = max(self.vocab_size, _c.lib.lb_tokenizer_vocab_size(tokenizer))
            if checked.size and int(checked.max()) >= known:
                raise ValueError(f"token id {int(checked.max())} is not below {known}")
            _c.call("lb_detokenizer_create", tokenizer, ctypes.byref(stream))
            try:
                for id in checked:
                    _c.call("lb_detokenizer_put", stream, int(id), ctypes.byref(text), ctypes.byref(length))
                    found.append(ctypes.string_at(text, length.value))
                _c.call("lb_detokenizer_finish", stream, ctypes.byref(text), ctypes.byref(length))
                found.append(ctypes.string_at(text, length.value))
            finally:
                _c.lib.lb_detokenizer_destroy(stream)
        return b"".join(found).decode("utf-8", "replace")

    def _ids(self, prompt: Prompt) -> npt.NDArray[np.uint32]:
        if isinstance(prompt, str):
            return self.encode(prompt)
        ids = np.asarray(prompt)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise TypeError(f"a prompt is text or a row of ids, not {ids.dtype} of shape {ids.shape}")
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= 2**32):
            raise _c.Error("a token id is not in 0 .. 2^32 - 1", _c.Status.INVALID)
        return np.ascontiguousarray(ids, dtype=np.uint32)

    # ---- Predictions -------------------------------------------------------------------------------------

    def logits(self, prompt: Prompt, *, first: int = 0,
               progress: Optional[_c.Progress] = None) -> npt.NDArray[np.float32]:  # fmt: skip
        """Logits [tokens - first, vocab_size] after each token from `first` on (negative: from the end); -1 gives those
        that predict the next token only, in one row."""
        ids = self._ids(prompt)
        start = first + ids.size if first < 0 else first
        if not 0 <= start < ids.size:
            raise _c.Error(f"logits from token {first} on were asked for, of {ids.size}", _c.Status.INVALID)
        logits = np.empty((ids.size - start, self.vocab_size), np.float32)
        callbacks = _c.Callbacks(progress)
        with self._use() as engine:
            callbacks.call("lb_engine_logits", engine, ids.ctypes.data, ids.size, start,
                           ctypes.byref(callbacks.c_progress), logits.ctypes.data)  # fmt: skip
        return logits

    def stream(self, prompt: Prompt, *, max_tokens: int = 128, temperature: Optional[float] = None,
               top_k: Optional[int] = None, top_p: Optional[float] = None, min_p: Optional[float] = None,
               repeat_penalty: Optional[float] = None, seed: Optional[int] = None, stop: Union[str, Sequence[str]] = (),
               ignore_end: bool = False, top_scores: int = 0, reuse: bool = True,
               on_text: Optional[Callable[[str], object]] = None,
               progress: Optional[_c.Progress] = None) -> Stream:  # fmt: skip
        """The pieces of an answer, as they come: whole characters.

        What is None is the library's default (temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, seed 42);
        temperature 0 always takes the likeliest token. max_tokens 0: until the model ends, or the context is full.
        reuse: what the prompt has in common with what was asked before is not computed again. on_text gets each piece,
        and stops the answer by a true result.
        """
        settings: Dict[str, Any] = dict(locals())
        del settings["self"], settings["prompt"]
        return Stream(self, prompt, settings)

    def generate(self, prompt: Prompt, **settings: "Unpack[Settings]") -> Generation:
        """The whole answer; settings as for :meth:`stream`."""
        stream = self.stream(prompt, **settings)
        try:
            for _ in stream:
                pass
        finally:
            stream.close()
        return stream.result


class _Use:
    """The engine, for one thread at a time, and not from within its own callbacks."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> int:
        model = self._model
        model._lock.acquire()
        if model._inside or model._engine is None:
            inside = model._inside
            model._lock.release()
            raise RuntimeError("a callback must not use the model that calls it" if inside else "the model is closed")
        model._inside = True
        while model._dropped:
            hold = model._dropped.pop()
            if hold[0] is not None:
                _c.lib.lb_engine_abandon(model._engine, hold[0])
                hold[0] = None
        return model._engine

    def __exit__(self, *_: object) -> None:
        self._model._inside = False
        self._model._lock.release()


def _take_ids(name: str, *arguments: Any) -> npt.NDArray[np.uint32]:
    ids, count = ctypes.POINTER(ctypes.c_uint32)(), ctypes.c_size_t()
    _c.call(name, *arguments, ctypes.byref(ids), ctypes.byref(count))
    try:
        return np.array(ids[: count.value], dtype=np.uint32)
    finally:
        _c.lib.lb_ids_free(ids)


def load(path: "str | os.PathLike[str]", *, context: int = 0, sequences: int = 1, cpu: Optional[str] = None,
         kv: Optional[str] = None, draft: "str | os.PathLike[str] | None" = None,
         progress: Optional[_c.Progress] = None) -> Model:  # fmt: skip
    """Opens a Hugging Face folder (GPTQ, AWQ, AutoRound and compressed-tensors included), a lowbit folder or a GGUF file.

    context: tokens of prompt and answer together; 0: the model's limit, at most 8192. sequences: streams that may be
    under way at once. cpu: instructions to use at most ("ref", "avx2", "avx512", "neon"). kv: how keys and values are
    kept ("f32", "f16", which is the default, "int8", "mxint8"). draft: a faster model with the same tokenizer, such as the
    same one at fewer bits, that proposes tokens; the answers stay this model's own.
    """
    return Model(path, context=context, sequences=sequences, cpu=cpu, kv=kv, draft=draft, progress=progress)
