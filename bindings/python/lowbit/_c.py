# SPDX-License-Identifier: MIT
"""The C library: its structs, its functions, and how its failures become exceptions.

Field names and order are those of include/lowbit/*.h; tests/test_layout.py compares offsets with a C compiler's.
"""

from __future__ import annotations

import ctypes
import enum
import os
from ctypes import POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Callable, List, Optional

SONAME = "liblowbit.so.0"


class Status(enum.IntEnum):
    """Why a call failed."""

    OK = 0
    INVALID = 1  #: what was asked for makes no sense
    IO = 2  #: the operating system refused
    NO_MEMORY = 3
    FORMAT = 4  #: a file is malformed
    UNSUPPORTED = 5  #: a file is well formed, but of a kind that lowbit does not handle
    CANCELED = 6  #: a progress callback asked to stop
    EXISTS = 7  #: the output exists already
    NO_SPACE = 8


class Error(Exception):
    """What the library could not do, in one sentence; ``status`` says of which kind it is."""

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> Any:
        return (Error, (str(self), self.status))


#: Called with (stage, done, total) as work advances, total 0 where there is nothing new; a true result stops the work,
#: which raises Error with status CANCELED. An exception stops it too, and is raised again by the call.
Progress = Callable[[str, int, int], object]


def _check_size(name: str, value: Any, kind: Any) -> None:
    """ctypes takes what does not fit modulo 2^64: -1 is the largest number of all."""
    most = 2 ** (8 * ctypes.sizeof(kind)) - 1
    if isinstance(value, int) and not 0 <= value <= most:
        raise ValueError(f"{name} is {value}, want 0 to {most}")


def _check_string(name: str, value: Any) -> None:
    """A C string ends at its first zero byte: the rest would be lost without a word."""
    if isinstance(value, bytes) and b"\0" in value:
        raise ValueError(f"{name} has a zero byte: {value!r}")


class CStruct(ctypes.Structure):
    """A struct whose fields take no value that they cannot hold."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = dict(self._fields_).get(name)  # type: ignore[arg-type]
        if kind is c_char_p:
            _check_string(name, value)
        elif kind in (c_size_t, c_uint32, c_uint64):
            _check_size(name, value, kind)
        super().__setattr__(name, value)


class CName(c_char_p):
    """An argument that is a C string, which `call` checks (a text that has a length beside it is c_char_p)."""


def strings(values: List[bytes], what: str) -> Any:
    """An array of C strings."""
    for value in values:
        _check_string(what, value)
    return (c_char_p * max(len(values), 1))(*values)


class CError(ctypes.Structure):
    _fields_ = [("status", c_int), ("msg", c_char * 640)]


PROGRESS_FN = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_size_t, c_size_t)


class CProgress(ctypes.Structure):
    _fields_ = [("fn", PROGRESS_FN), ("user", c_void_p)]


class FormatInfo(ctypes.Structure):
    _fields_ = [
        ("name", c_char * 32), ("family", c_char * 16), ("bits", c_size_t), ("group", c_size_t), ("params", c_size_t),
        ("symmetric", c_bool), ("whole_groups", c_bool), ("tensor_scale", c_bool), ("bits_per_weight", c_double),
        ("reserved", c_size_t * 8),
    ]  # fmt: skip


class PackOptions(CStruct):
    _fields_ = [("struct_size", c_size_t), ("fit", c_char_p), ("importance", POINTER(c_float))]


class PackedPart(ctypes.Structure):
    _fields_ = [
        ("name", c_char * 16), ("data", c_void_p), ("row_bytes", c_size_t), ("rows", c_size_t),
        ("element_bytes", c_size_t), ("reserved", c_size_t * 4),
    ]  # fmt: skip


class EngineOptions(CStruct):
    _fields_ = [
        ("struct_size", c_size_t), ("context", c_size_t), ("sequences", c_size_t), ("chunk", c_size_t), ("cpu", c_char_p),
        ("progress", CProgress), ("kv", c_char_p), ("draft_path", c_char_p), ("draft_tokens", c_size_t),
        ("draft_confidence", c_double),
    ]  # fmt: skip


class TokenScore(ctypes.Structure):
    _fields_ = [("id", c_uint32), ("logprob", c_double)]


TEXT_FN = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)
TOKEN_FN = ctypes.CFUNCTYPE(None, c_void_p, TokenScore, POINTER(TokenScore), c_size_t)


class GenerateOptions(CStruct):
    _fields_ = [
        ("struct_size", c_size_t), ("max_tokens", c_size_t), ("temperature", c_double), ("top_k", c_size_t),
        ("top_p", c_double), ("min_p", c_double), ("repeat_penalty", c_double), ("repeat_window", c_size_t),
        ("seed", c_uint64), ("ignore_end", c_bool), ("on_text", TEXT_FN), ("user", c_void_p), ("progress", CProgress),
        ("stops", POINTER(c_char_p)), ("stop_count", c_size_t), ("on_token", TOKEN_FN), ("top_scores", c_size_t),
        ("continues_text", c_bool), ("forget", c_bool), ("no_draft", c_bool),
    ]  # fmt: skip


class GenerateResult(ctypes.Structure):
    _fields_ = [
        ("prompt_tokens", c_size_t), ("reused_tokens", c_size_t), ("generated_tokens", c_size_t),
        ("prompt_seconds", c_double), ("decode_seconds", c_double), ("stop", c_int), ("drafted_tokens", c_size_t),
        ("accepted_tokens", c_size_t), ("passes", c_size_t), ("reserved", c_size_t * 8),
    ]  # fmt: skip


END_FN = ctypes.CFUNCTYPE(None, c_void_p, c_int, POINTER(GenerateResult), POINTER(CError))


class ChatTurn(CStruct):
    _fields_ = [("role", c_char_p), ("content", c_char_p)]


class QuantizeOptions(CStruct):
    _fields_ = [
        ("struct_size", c_size_t), ("model", c_char_p), ("output", c_char_p), ("format", c_char_p), ("act", c_char_p),
        ("transform", c_char_p), ("method", c_char_p), ("fit", c_char_p), ("order", c_char_p), ("saliency", c_char_p),
        ("damp", c_double), ("compensate", c_double), ("calibration", c_char_p), ("samples", c_size_t),
        ("seqlen", c_size_t), ("seed", c_uint64), ("layer_rules", POINTER(c_char_p)), ("layer_rule_count", c_size_t),
        ("resume", c_bool), ("dry_run", c_bool), ("cpu", c_char_p), ("progress", CProgress), ("iters", c_size_t),
        ("batch", c_size_t), ("lr", c_double), ("multiplier", c_bool), ("filter", c_bool), ("best", c_char_p),
        ("alternations", c_size_t), ("init", c_char_p), ("faithful", c_bool), ("target_bits", c_double),
        ("candidates", c_char_p), ("allocate", c_char_p), ("untied", c_bool), ("sensitivity_samples", c_size_t),
        ("sensitivity_seqlen", c_size_t), ("smooth", c_double), ("clip", c_bool), ("act_mask", c_char_p),
        ("refine", c_size_t), ("polish_steps", c_size_t), ("polish_batch", c_size_t), ("polish_lr", c_double),
    ]  # fmt: skip


class QuantizeLayer(ctypes.Structure):
    _fields_ = [
        ("name", c_char * 128), ("format", c_char * 32), ("bits_per_weight", c_double), ("relative_error", c_double),
        ("reserved", c_size_t * 4),
    ]  # fmt: skip


class QuantizeCandidate(ctypes.Structure):
    _fields_ = [("name", c_char * 32)]


class QuantizeResult(ctypes.Structure):
    _fields_ = [
        ("recipe", c_char_p), ("layers", POINTER(QuantizeLayer)), ("layer_count", c_size_t),
        ("block_errors", POINTER(c_double)), ("block_count", c_size_t), ("weights", c_uint64),
        ("quantized_weights", c_uint64), ("bytes", c_uint64), ("quantized_bytes", c_uint64), ("file_bytes", c_uint64),
        ("bits_per_weight", c_double), ("quantized_bits_per_weight", c_double), ("samples", c_size_t),
        ("seqlen", c_size_t), ("resumed_blocks", c_size_t), ("seconds_load", c_double), ("seconds_capture", c_double),
        ("seconds_hessian", c_double), ("seconds_solve", c_double), ("seconds_tune", c_double),
        ("seconds_polish", c_double), ("seconds_write", c_double), ("seconds", c_double),
        ("kl_before_polish", c_double), ("kl_after_polish", c_double), ("candidates", POINTER(QuantizeCandidate)),
        ("candidate_count", c_size_t), ("sensitivities", POINTER(c_double)), ("allocated_bits_per_weight", c_double),
        ("seconds_allocate", c_double), ("memory_bytes", c_size_t), ("disk_free_bytes", c_size_t),
        ("peak_rss_bytes", c_size_t), ("reserved", c_size_t * 8),
    ]  # fmt: skip


class Cast(CStruct):
    _fields_ = [
        ("weights", c_char_p), ("act", c_char_p), ("transform", c_char_p), ("fit", c_char_p), ("reserved", c_void_p * 4)
    ]  # fmt: skip


class EvalOptions(CStruct):
    _fields_ = [
        ("struct_size", c_size_t), ("model", c_char_p), ("against", c_char_p), ("text", c_char_p), ("protocol", c_int),
        ("ctx", c_size_t), ("tokens", c_size_t), ("cast", Cast), ("seed", c_uint64), ("dry_run", c_bool),
        ("cpu", c_char_p), ("progress", CProgress),
    ]  # fmt: skip


class CScore(ctypes.Structure):
    _fields_ = [
        ("nll_mean", c_double), ("nll_stderr", c_double), ("perplexity", c_double), ("perplexity_stderr", c_double)
    ]  # fmt: skip


class EvalResult(ctypes.Structure):
    _fields_ = [
        ("ctx", c_size_t), ("windows", c_size_t), ("tokens", c_size_t), ("model", CScore), ("reference", CScore),
        ("compares", c_bool), ("kl_mean", c_double), ("kl_stderr", c_double), ("kl_median", c_double),
        ("kl_p99", c_double), ("kl_top25_mean", c_double), ("kl_top25_stderr", c_double), ("top1_agreement", c_double),
        ("top1_stderr", c_double), ("seconds", c_double), ("peak_rss_bytes", c_size_t), ("reserved", c_size_t * 8),
    ]  # fmt: skip


class ExportOptions(CStruct):
    _fields_ = [
        ("struct_size", c_size_t), ("model", c_char_p), ("output", c_char_p), ("kind", c_char_p), ("dtype", c_char_p),
        ("dequantize", c_bool), ("zeros_v2", c_bool), ("naive", c_bool), ("progress", CProgress),
    ]  # fmt: skip


class ExportResult(ctypes.Structure):
    _fields_ = [
        ("layers", c_size_t), ("dequantized", c_size_t), ("tensors", c_size_t), ("bytes", c_uint64),
        ("types", c_char * 200), ("without_tokenizer", c_size_t), ("reserved", c_size_t * 7),
    ]  # fmt: skip


#: C name of each struct.
STRUCTS = {
    "lb_error": CError, "lb_progress": CProgress, "lb_format_info": FormatInfo, "lb_pack_options": PackOptions,
    "lb_packed_part": PackedPart, "lb_engine_options": EngineOptions, "lb_token_score": TokenScore,
    "lb_generate_options": GenerateOptions, "lb_generate_result": GenerateResult, "lb_chat_turn": ChatTurn,
    "lb_quantize_options": QuantizeOptions, "lb_quantize_layer": QuantizeLayer,
    "lb_quantize_candidate": QuantizeCandidate, "lb_quantize_result": QuantizeResult, "lb_cast": Cast,
    "lb_eval_options": EvalOptions, "lb_score": CScore, "lb_eval_result": EvalResult,
    "lb_export_options": ExportOptions, "lb_export_result": ExportResult,
}  # fmt: skip

_ERR = POINTER(CError)
_IDS = POINTER(c_uint32)

#: name: (result, arguments). A result of Status is checked, and a failure raised.
_FUNCTIONS: dict[str, tuple[Any, List[Any]]] = {
    "lb_version": (c_char_p, []),
    "lb_set_threads": (None, [ctypes.c_uint]),
    "lb_format_describe": (Status, [CName, POINTER(FormatInfo), _ERR]),
    "lb_format_listed": (c_char_p, [c_size_t]),
    "lb_pack": (Status, [CName, c_void_p, c_size_t, c_size_t, POINTER(PackOptions), POINTER(c_void_p), _ERR]),
    "lb_packed_free": (None, [c_void_p]),
    "lb_unpack": (Status, [c_void_p, c_void_p, _ERR]),
    "lb_packed_format": (c_char_p, [c_void_p]),
    "lb_packed_groups": (c_size_t, [c_void_p]),
    "lb_packed_bytes": (c_uint64, [c_void_p]),
    "lb_packed_bits_per_weight": (c_double, [c_void_p]),
    "lb_packed_codes": (Status, [c_void_p, c_void_p, c_void_p, _ERR]),
    "lb_packed_part_count": (c_size_t, [c_void_p]),
    "lb_packed_get_part": (Status, [c_void_p, c_size_t, POINTER(PackedPart), _ERR]),
    "lb_engine_open": (Status, [CName, POINTER(EngineOptions), POINTER(c_void_p), _ERR]),
    "lb_engine_close": (None, [c_void_p]),
    "lb_engine_tokenizer": (c_void_p, [c_void_p]),
    "lb_engine_context": (c_size_t, [c_void_p]),
    "lb_engine_vocab": (c_size_t, [c_void_p]),
    "lb_tokenizer_vocab_size": (c_size_t, [c_void_p]),
    "lb_engine_logits": (Status, [c_void_p, c_void_p, c_size_t, c_size_t, POINTER(CProgress), c_void_p, _ERR]),
    "lb_engine_begin": (Status, [c_void_p, c_void_p, c_size_t, POINTER(GenerateOptions), END_FN, POINTER(c_void_p), _ERR]),
    "lb_engine_abandon": (None, [c_void_p, c_void_p]),
    "lb_engine_step": (None, [c_void_p]),
    "lb_tokenizer_encode": (Status, [c_void_p, c_char_p, c_size_t, ctypes.c_uint, POINTER(_IDS), POINTER(c_size_t), _ERR]),
    "lb_tokenizer_chat": (Status, [c_void_p, POINTER(ChatTurn), c_size_t, POINTER(_IDS), POINTER(c_size_t), _ERR]),
    "lb_ids_free": (None, [_IDS]),
    "lb_detokenizer_create": (Status, [c_void_p, POINTER(c_void_p), _ERR]),
    "lb_detokenizer_destroy": (None, [c_void_p]),
    "lb_detokenizer_put": (Status, [c_void_p, c_uint32, POINTER(POINTER(c_char)), POINTER(c_size_t), _ERR]),
    "lb_detokenizer_finish": (Status, [c_void_p, POINTER(POINTER(c_char)), POINTER(c_size_t), _ERR]),
    "lb_quantize": (Status, [POINTER(QuantizeOptions), POINTER(QuantizeResult), _ERR]),
    "lb_quantize_result_free": (None, [POINTER(QuantizeResult)]),
    "lb_evaluate": (Status, [POINTER(EvalOptions), POINTER(EvalResult), _ERR]),
    "lb_export": (Status, [POINTER(ExportOptions), POINTER(ExportResult), _ERR]),
    "lb_export_kinds": (c_char_p, []),
}  # fmt: skip
for _name, _struct in STRUCTS.items():
    if _name.endswith("_options"):
        _FUNCTIONS[_name + "_init_sized"] = (None, [POINTER(_struct), c_size_t])


def _open() -> ctypes.CDLL:
    """$LOWBIT_LIBRARY, or the library that the wheel carries, or the system's."""
    named = os.environ.get("LOWBIT_LIBRARY")
    bundled = Path(__file__).with_name(SONAME)
    path = named or (str(bundled) if bundled.exists() else SONAME)
    try:
        return ctypes.CDLL(path)
    except OSError as why:
        raise ImportError(f"lowbit: {why}; the library needs OpenBLAS, LAPACKE, jansson, PCRE2, utf8proc and "
                          "libmicrohttpd (docs/library.md)") from why  # fmt: skip


def _bind(library: ctypes.CDLL) -> None:
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = c_int if result is Status else result


lib = _open()
_bind(lib)


def call(name: str, *arguments: Any) -> None:
    """Calls a function that returns a status and takes an error last; raises Error."""
    for kind, value in zip(_FUNCTIONS[name][1], arguments):
        if kind is CName:
            _check_string("a name", value)
    err = CError()
    status = getattr(lib, name)(*arguments, ctypes.byref(err))
    if status != Status.OK:
        raise Error(err.msg.decode("utf-8", "replace"), Status(status))


def options(struct: Any, name: str) -> Any:
    """A struct of the library's defaults."""
    made = struct()
    getattr(lib, name + "_init_sized")(ctypes.byref(made), ctypes.sizeof(struct))
    return made


def path_bytes(path: "str | os.PathLike[str]") -> bytes:
    return os.fsencode(path)


class Callbacks:
    """Python functions as the library's callbacks; what they raise is raised again by `done`.

    There is always a progress callback, so that Python's signal handlers run (Ctrl-C) while the library works.
    """

    def __init__(self, progress: Optional[Progress] = None) -> None:
        self.raised: Optional[BaseException] = None
        self._progress = progress
        self.c_progress = CProgress(PROGRESS_FN(self._on_progress), None)

    def _on_progress(self, _user: object, stage: Optional[bytes], done: int, total: int) -> int:
        def tell() -> bool:
            if self._progress is None:
                return False
            return bool(self._progress((stage or b"").decode("utf-8", "replace"), done, total))

        return int(self.guard(tell))

    def guard(self, function: Callable[[], object]) -> bool:
        """Whether to stop: the function says so, or it raised."""
        if self.raised is not None:
            return True
        try:
            return bool(function())
        except BaseException as why:  # KeyboardInterrupt too: it must not get lost in C
            self.raised = why
            return True

    def call(self, name: str, *arguments: Any) -> None:
        try:
            call(name, *arguments)
        except Error:
            if self.raised is None:
                raise
        self.done()

    def done(self) -> None:
        if self.raised is not None:
            why, self.raised = self.raised, None
            raise why


__all__ = ["Callbacks", "Error", "Progress", "Status", "c_uint8", "call", "lib", "options", "path_bytes"]
