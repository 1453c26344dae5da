# SPDX-License-Identifier: MIT
"""Work on whole models: quantizing, scoring, exporting."""

from __future__ import annotations

import ctypes
import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, TypedDict, Union

from . import _c

if TYPE_CHECKING:
    from typing_extensions import Unpack

PathLike = Union[str, "os.PathLike[str]"]


class QuantizeSettings(TypedDict, total=False):
    """What :func:`quantize` takes besides; what is left out has the library's default (include/lowbit/quantize.h says
    what each is)."""

    act: str
    transform: str
    method: str
    fit: str
    order: str
    saliency: str
    damp: float
    compensate: float
    samples: int
    seqlen: int
    seed: int
    cpu: str
    iters: int
    batch: int
    lr: float
    multiplier: bool
    filter: bool
    best: str
    alternations: int
    init: str
    faithful: bool
    target_bits: float
    candidates: str
    allocate: str
    untied: bool
    sensitivity_samples: int
    sensitivity_seqlen: int
    smooth: float
    clip: bool
    act_mask: str
    refine: int
    polish_steps: int
    polish_batch: int
    polish_lr: float


@dataclass(frozen=True)
class Layer:
    """One linear layer as it was quantized; ``relative_error`` is None where nothing was computed (a dry run)."""

    name: str
    format: str
    bits_per_weight: float
    relative_error: Optional[float]


@dataclass(frozen=True)
class Quantized:
    """What became of a model. Bits per weight twice: embeddings and norms included, and of the layers alone."""

    recipe: Dict[str, Any]
    layers: List[Layer]
    bits_per_weight: float
    quantized_bits_per_weight: float
    bytes: int
    file_bytes: int
    resumed_blocks: int
    seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text; log-likelihoods in nats."""

    perplexity: float
    perplexity_stderr: float
    nll_mean: float
    nll_stderr: float


@dataclass(frozen=True)
class Evaluation:
    """``reference`` and what follows it are None where there is none; divergences in nats, agreement in per cent."""

    model: Score
    tokens: int
    windows: int
    ctx: int
    seconds: float
    reference: Optional[Score]
    kl_mean: Optional[float]
    kl_stderr: Optional[float]
    kl_median: Optional[float]
    kl_p99: Optional[float]
    top1_agreement: Optional[float]
    top1_stderr: Optional[float]


@dataclass(frozen=True)
class Exported:
    """``layers`` matrices were carried over code for code, ``dequantized`` ones were written as floats."""

    layers: int
    dequantized: int
    tensors: int
    bytes: int
    types: str


def _text(value: Optional[str]) -> Optional[bytes]:
    return None if value is None else value.encode()


def quantize(model: PathLike, output: PathLike, format: str = "int4-g128", *, calibration: Optional[PathLike] = None,
             layers: Union[Mapping[str, str], Sequence[str]] = (), resume: bool = False, dry_run: bool = False,
             progress: Optional[_c.Progress] = None, **settings: "Unpack[QuantizeSettings]") -> Quantized:  # fmt: skip
    """Makes a model small: a checkpoint in, a quantized checkpoint out.

    calibration: a text file; None: the built-in text for methods that need one. layers: formats for some layers,
    {"*.down_proj": "int8-g64"}; the last pattern that matches wins. resume: go on with what an interrupted run left in
    OUTPUT.partial. dry_run: check everything, and stop. method is "gptq" by default, "rtn" is the fastest.
    """
    callbacks = _c.Callbacks(progress)
    o = _c.options(_c.QuantizeOptions, "lb_quantize_options")
    for name, value in settings.items():
        if name not in QuantizeSettings.__annotations__:
            raise TypeError(f"quantize() got an unexpected keyword argument {name!r}")
        setattr(o, name, value.encode() if isinstance(value, str) else value)
    rules = [f"{pattern}={name}" for pattern, name in layers.items()] if isinstance(layers, Mapping) else list(layers)
    array = _c.strings([rule.encode() for rule in rules], "layers")
    o.model, o.output, o.format = _c.path_bytes(model), _c.path_bytes(output), format.encode()
    o.calibration = None if calibration is None else _c.path_bytes(calibration)
    o.layer_rules, o.layer_rule_count = array, len(rules)
    o.resume, o.dry_run, o.progress = resume, dry_run, callbacks.c_progress
    r = _c.QuantizeResult()
    callbacks.call("lb_quantize", ctypes.byref(o), ctypes.byref(r))
    try:
        found = [
            Layer(
                layer.name.decode(), layer.format.decode(), layer.bits_per_weight,
                None if math.isnan(layer.relative_error) else layer.relative_error,
            )
            for layer in r.layers[: r.layer_count]
        ]  # fmt: skip
        return Quantized(
            json.loads(r.recipe), found, r.bits_per_weight, r.quantized_bits_per_weight, r.bytes, r.file_bytes,
            r.resumed_blocks, r.seconds, r.peak_rss_bytes,
        )  # fmt: skip
    finally:
        _c.lib.lb_quantize_result_free(ctypes.byref(r))


def evaluate(model: PathLike, text: PathLike, *, against: Optional[PathLike] = None, protocol: str = "full", ctx: int = 0,
             tokens: int = 0, weights: Optional[str] = None, act: Optional[str] = None, transform: Optional[str] = None,
             fit: Optional[str] = None, seed: int = 42, cpu: Optional[str] = None,
             progress: Optional[_c.Progress] = None) -> Evaluation:  # fmt: skip
    """Perplexity of a model on a text file, and with `against` how far it is from that model.

    protocol: "full", windows of ctx in which every position but the first is scored; "half", as llama.cpp's perplexity
    tool. ctx 0: 2048 (half: 512), or the model's maximum where that is less. tokens: keep the first so many ids.
    weights, act, transform, fit: a direct cast of `model`, run with rounded layers and inputs; without `against` it is
    compared with itself as it was.
    """
    if protocol not in ("full", "half"):
        raise _c.Error(f'protocol is "{protocol}", wanted "full" or "half"', _c.Status.INVALID)
    callbacks = _c.Callbacks(progress)
    o = _c.options(_c.EvalOptions, "lb_eval_options")
    o.model, o.text = _c.path_bytes(model), _c.path_bytes(text)
    o.against = None if against is None else _c.path_bytes(against)
    o.protocol, o.ctx, o.tokens, o.seed, o.cpu = int(protocol == "half"), ctx, tokens, seed, _text(cpu)
    o.cast.weights, o.cast.act, o.cast.transform, o.cast.fit = _text(weights), _text(act), _text(transform), _text(fit)
    o.progress = callbacks.c_progress
    r = _c.EvalResult()
    callbacks.call("lb_evaluate", ctypes.byref(o), ctypes.byref(r))

    def score(s: Any) -> Score:
        return Score(s.perplexity, s.perplexity_stderr, s.nll_mean, s.nll_stderr)

    names = ("kl_mean", "kl_stderr", "kl_median", "kl_p99", "top1_agreement", "top1_stderr")
    compared: List[Optional[float]] = [getattr(r, name) if r.compares else None for name in names]
    reference = score(r.reference) if r.compares else None
    return Evaluation(score(r.model), r.tokens, r.windows, r.ctx, r.seconds, reference, *compared)


def export(model: PathLike, output: PathLike, kind: str, *, dtype: Optional[str] = None, dequantize: bool = False,
           zeros_v2: bool = False, naive: bool = False, progress: Optional[_c.Progress] = None) -> Exported:  # fmt: skip
    """Writes a model as another tool's files: kind is one of :func:`export_kinds`."""
    callbacks = _c.Callbacks(progress)
    o = _c.options(_c.ExportOptions, "lb_export_options")
    o.model, o.output, o.kind, o.dtype = _c.path_bytes(model), _c.path_bytes(output), kind.encode(), _text(dtype)
    o.dequantize, o.zeros_v2, o.naive, o.progress = dequantize, zeros_v2, naive, callbacks.c_progress
    r = _c.ExportResult()
    callbacks.call("lb_export", ctypes.byref(o), ctypes.byref(r))
    return Exported(r.layers, r.dequantized, r.tensors, r.bytes, r.types.decode())


def export_kinds() -> List[str]:
    """What `kind` of :func:`export` may be."""
    kinds: bytes = _c.lib.lb_export_kinds()
    return kinds.decode().split("|")


def set_threads(count: int) -> None:
    """How many threads the library may use, in all of this process; 0: the cores that it may use. No result depends
    on it."""
    if not 0 <= count < 2**32:
        raise ValueError(f"{count} threads: want 0 to {2**32 - 1}")
    _c.lib.lb_set_threads(count)


def version() -> str:
    """The library's version."""
    found: bytes = _c.lib.lb_version()
    return found.decode()
