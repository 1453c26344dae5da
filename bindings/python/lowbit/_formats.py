# SPDX-License-Identifier: MIT
"""Number formats: which there are, and arrays packed in them."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from . import _c


@dataclass(frozen=True)
class Format:
    """A number format. ``group`` is how many neighbours in a row share parameters, 0 where a whole row does (or none:
    floats); ``params`` is how many floats describe a group; ``bits_per_weight`` counts them, of long rows."""

    name: str
    family: str
    bits: int
    group: int
    params: int
    symmetric: bool
    whole_groups: bool
    tensor_scale: bool
    bits_per_weight: float


def format_info(name: str) -> Format:
    """What the format of that name is."""
    info = _c.FormatInfo()
    _c.call("lb_format_describe", name.encode(), ctypes.byref(info))
    return Format(
        info.name.decode(), info.family.decode(), info.bits, info.group, info.params, info.symmetric,
        info.whole_groups, info.tensor_scale, info.bits_per_weight,
    )  # fmt: skip


def formats() -> List[Format]:
    """The formats of every family, the usual group sizes and variants among them. There are more: docs/formats.md."""
    found: List[Format] = []
    while True:
        name: Optional[bytes] = _c.lib.lb_format_listed(len(found))
        if name is None:
            return found
        found.append(format_info(name.decode()))


class Packed:
    """A matrix in a number format, as checkpoints store it. Made by :func:`pack`; immutable."""

    def __init__(self, handle: int, shape: Tuple[int, ...], rows: int, cols: int) -> None:
        self._handle = handle
        self._rows, self._cols = rows, cols
        self.shape = shape
        self._free = weakref.finalize(self, _c.lib.lb_packed_free, handle)
        self.format = format_info(_c.lib.lb_packed_format(handle).decode())

    @property
    def nbytes(self) -> int:
        return int(_c.lib.lb_packed_bytes(self._handle))

    @property
    def bits_per_weight(self) -> float:
        return float(_c.lib.lb_packed_bits_per_weight(self._handle))

    def unpack(self) -> npt.NDArray[np.float32]:
        """The values that the codes stand for, in the shape of the array that was packed."""
        values = np.empty((self._rows, self._cols), np.float32)
        _c.call("lb_unpack", self._handle, values.ctypes.data)
        return values.reshape(self.shape)

    @property
    def codes(self) -> npt.NDArray[np.uint8]:
        """A code for each element, in the shape of the array. Not of floats (f16, bf16, f32)."""
        codes = np.empty((self._rows, self._cols), np.uint8)
        _c.call("lb_packed_codes", self._handle, codes.ctypes.data, None)
        return codes.reshape(self.shape)

    @property
    def params(self) -> npt.NDArray[np.float32]:
        """The parameters of each group: [rows, groups, params]. Of integers scale and zero."""
        groups = int(_c.lib.lb_packed_groups(self._handle))
        params = np.empty((self._rows, groups, self.format.params), np.float32)
        _c.call("lb_packed_codes", self._handle, None, params.ctypes.data)
        return params

    @property
    def parts(self) -> Dict[str, npt.NDArray[np.uint8]]:
        """The bytes, by the names that tensors have in a checkpoint ("codes", "scales"): each [rows, bytes]."""
        found: Dict[str, npt.NDArray[np.uint8]] = {}
        for index in range(_c.lib.lb_packed_part_count(self._handle)):
            part = _c.PackedPart()
            _c.call("lb_packed_get_part", self._handle, index, ctypes.byref(part))
            raw = ctypes.string_at(part.data, part.rows * part.row_bytes)
            found[part.name.decode()] = np.frombuffer(raw, np.uint8).reshape(part.rows, part.row_bytes)
        return found

    def __repr__(self) -> str:
        return f"<lowbit.Packed {self.format.name} {self.shape} {self.bits_per_weight:.3f} bits per weight>"


def pack(
    values: npt.ArrayLike, format: str, *, fit: str = "search", importance: Optional[npt.ArrayLike] = None
) -> Packed:
    """Rounds an array to a number format. Groups run along the last axis.

    fit: how a group's parameters are chosen: "search" (the least squared error) or "range" (its extremes alone).
    importance: of each column's squared errors, for "search".
    """
    array = np.asarray(values, dtype=np.float32, order="C")
    if array.ndim == 0:
        raise Error("an array of no dimensions has no rows to pack", _c.Status.INVALID)
    cols = array.shape[-1]
    rows = array.size // cols if cols else 0
    options = _c.options(_c.PackOptions, "lb_pack_options")
    options.fit = fit.encode()
    weights = None
    if importance is not None:
        weights = np.ascontiguousarray(importance, dtype=np.float32)
        if weights.shape != (cols,):
            raise Error(f"importance has shape {weights.shape}, wanted ({cols},)", _c.Status.INVALID)
        options.importance = weights.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    handle = ctypes.c_void_p()
    _c.call("lb_pack", format.encode(), array.ctypes.data, rows, cols, ctypes.byref(options), ctypes.byref(handle))
    assert handle.value is not None
    return Packed(handle.value, array.shape, rows, cols)


def round(values: npt.ArrayLike, format: str, *, fit: str = "search") -> npt.NDArray[np.float32]:
    """The values that an array has in a number format: ``pack(values, format).unpack()``."""
    return pack(values, format, fit=fit).unpack()


Error = _c.Error
