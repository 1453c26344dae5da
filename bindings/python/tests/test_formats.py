# SPDX-License-Identifier: MIT
"""Arrays in number formats, against round to nearest and bit packing in NumPy."""

from __future__ import annotations

import gc
import pickle
import weakref

import numpy as np
import numpy.typing as npt
import pytest

import lowbit


def normal(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(values: npt.NDArray[np.float32], bits: int, group: int) -> npt.NDArray[np.float32]:
    """Symmetric integers: a group's largest magnitude becomes the code -2^(bits-1), by the sign of the f16 scale."""
    grouped = values.reshape(-1, group)
    extreme = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=1)[:, None], axis=1)
    scale = (-extreme / 2 ** (bits - 1)).astype(np.float16).astype(np.float32)
    levels = np.clip(np.rint(grouped / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    result: npt.NDArray[np.float32] = (levels * scale).astype(np.float32).reshape(values.shape)
    return result


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("group", [32, 128])
def test_integers_are_round_to_nearest(bits: int, group: int) -> None:
    x = normal(37, 256, seed=bits)
    packed = lowbit.pack(x, f"int{bits}-g{group}", fit="range")
    np.testing.assert_array_equal(packed.unpack(), nearest(x, bits, group))
    assert packed.bits_per_weight == bits + 16 / group
    assert packed.nbytes == 37 * (256 * bits // 8 + 256 // group * 2)
    assert packed.nbytes == sum(part.size for part in packed.parts.values())


def test_codes_parameters_and_bytes_tell_the_same() -> None:
    x = normal(5, 96)
    packed = lowbit.pack(x, "int4-g32-asym")
    codes, params = packed.codes.astype(np.float32), packed.params
    assert params.shape == (5, 3, 2)
    scale, zero = np.repeat(params[..., 0], 32, axis=1), np.repeat(params[..., 1], 32, axis=1)
    np.testing.assert_array_equal(packed.unpack(), scale * (codes - zero))
    low, high = packed.parts["codes"] & 15, packed.parts["codes"] >> 4
    np.testing.assert_array_equal(np.stack([low, high], axis=2).reshape(5, 96), packed.codes)
    scales = packed.parts["scales"].copy().view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(scales, params[..., 0])


def test_mxfp4_is_the_ocp_element_times_a_power_of_two() -> None:
    x = normal(4, 64)
    levels = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    blocks = x.reshape(-1, 32).astype(np.float64)
    scale = 2.0 ** np.ceil(np.log2(np.abs(blocks).max(axis=1, keepdims=True) / 6))
    best = np.abs(np.abs(blocks / scale)[..., None] - levels).argmin(axis=-1)
    want = np.sign(blocks) * levels[best] * scale
    np.testing.assert_array_equal(lowbit.round(x, "mxfp4", fit="range"), want.reshape(4, 64).astype(np.float32))


def test_floats() -> None:
    x = normal(3, 50)
    np.testing.assert_array_equal(lowbit.round(x, "f32"), x)
    np.testing.assert_array_equal(lowbit.round(x, "f16"), x.astype(np.float16).astype(np.float32))
    bits = x.view(np.uint32)
    even = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(lowbit.round(x, "bf16"), even)
    with pytest.raises(lowbit.Error) as caught:
        lowbit.pack(x, "bf16").codes
    assert caught.value.status is lowbit.Status.UNSUPPORTED


def test_every_listed_format_takes_an_array() -> None:
    x = normal(4, 256)
    found = lowbit.formats()
    assert {"int4-g128", "mxfp4", "nvfp4", "bp2-g64", "bf16"} <= {f.name for f in found}
    assert {f.family for f in found} == {"float", "int", "mx", "nv", "bp", "sq", "k"}
    for f in found:
        packed = lowbit.pack(x, f.name)
        assert packed.format == f
        error = np.mean((packed.unpack() - x) ** 2)
        assert error < np.mean(x**2)
        assert lowbit.format_info(f.name) == f
    assert lowbit.format_info("mxfp8").name == "mxfp8-e4m3"


def test_shapes_and_kinds_of_arrays() -> None:
    x = normal(2, 3, 64)
    packed = lowbit.pack(x, "int8-g32")
    assert packed.shape == packed.unpack().shape == packed.codes.shape == (2, 3, 64)
    np.testing.assert_array_equal(packed.unpack()[1], lowbit.round(x[1], "int8-g32"))
    np.testing.assert_array_equal(lowbit.round(x[0, 0], "int8-g32"), packed.unpack()[0, 0])
    np.testing.assert_array_equal(lowbit.round(x.transpose(1, 0, 2), "int8-g32"), packed.unpack().transpose(1, 0, 2))
    np.testing.assert_array_equal(lowbit.round(x.astype(np.float64).tolist(), "int8-g32"), packed.unpack())


def test_importance_moves_errors_away() -> None:
    x = normal(64, 128)
    importance = np.where(np.arange(128) % 8 == 0, 100.0, 0.01)
    plain = lowbit.pack(x, "int2-g64").unpack()
    weighted = lowbit.pack(x, "int2-g64", importance=importance).unpack()
    assert np.mean((weighted - x)[:, ::8] ** 2) < 0.7 * np.mean((plain - x)[:, ::8] ** 2)


def test_refusals_are_sentences() -> None:
    x = normal(2, 64)
    for bad in (lambda: lowbit.pack(x, "int9-g64"), lambda: lowbit.pack(x, "int4-g64", fit="best"),
                lambda: lowbit.pack(np.float32(1), "int4-g64"), lambda: lowbit.pack(np.zeros((0, 4)), "int4-g64"),
                lambda: lowbit.pack(x * np.nan, "int4-g64"), lambda: lowbit.pack(normal(2, 50), "sq8/4-b64-s0.875"),
                lambda: lowbit.pack(x, "int4-g64", importance=np.zeros(64)),
                lambda: lowbit.pack(x, "int4-g64", importance=np.ones(63)), lambda: lowbit.format_info("")):  # fmt: skip
        with pytest.raises(lowbit.Error) as caught:
            bad()
        assert caught.value.status is lowbit.Status.INVALID
        assert len(str(caught.value)) > 10 and "\n" not in str(caught.value)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) and copied.status is caught.value.status


def test_memory_is_given_back() -> None:
    packed = lowbit.pack(normal(2, 64), "int4-g32")
    free = packed._free
    parts = packed.parts
    gone = weakref.ref(packed)
    del packed
    gc.collect()
    assert gone() is None and not free.alive
    assert parts["codes"].shape == (2, 32)  # a copy
