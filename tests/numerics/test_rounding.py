"""What a format rounds off, by the format's own library: a quantised copy agrees everywhere, another does not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from hypothesis import example, given, settings
from hypothesis import strategies as st

from huref.numerics.rounding import rounding_bound, within_rounding

QUANTISED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "BF16", "F16")


def weights(seed: int, rows: int = 8) -> np.ndarray:
    """Blocks of very different sizes, one of zeros, with outliers."""
    random = np.random.default_rng(seed)
    found = random.standard_normal((rows, 256)) * 10.0 ** random.uniform(-4, 2, (rows, 1))
    found[0, :32] = 0
    found[1, ::37] *= 20
    return found.astype(np.float32)


def through(values: np.ndarray, kind: str) -> np.ndarray:
    number = GGMLQuantizationType[kind]
    return quants.dequantize(quants.quantize(values, number), number).reshape(values.shape).astype(np.float32)


@pytest.mark.parametrize("kind", QUANTISED)
@given(seed=st.integers(0, 10_000))
@example(seed=8238)  # a value near the largest of its block, half a step off, under a rounded scale
@settings(max_examples=25, deadline=None)
def test_a_quantised_copy_agrees_everywhere(kind: str, seed: int) -> None:
    values = weights(seed)
    assert within_rounding(values, through(values, kind), ("F32", kind)).all()


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_changed_copy_does_not(kind: str) -> None:
    """Moved by a quarter of their size, weights are not what a format rounds them to."""
    values = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    moved = values + 0.25 * np.random.default_rng(1).standard_normal(values.shape).astype(np.float32)
    assert not within_rounding(values, through(moved, kind), ("F32", kind)).all()
    assert within_rounding(values, -values, ("F32", kind)).mean() < 0.25


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_nvfp4_by_its_definition(seed: int) -> None:
    """Blocks of 16: the nearest E2M1 number times an E4M3 scale that brings the largest to 6."""
    blocks = weights(seed).reshape(-1, 16)
    scale = (np.abs(blocks).max(axis=1, keepdims=True) / 6).astype(np.float32)
    top = np.float32(scale.max() / 448)  # the tensor's own scale, so that E4M3 does not overflow
    scale = (scale / top).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * top
    numbers = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(scale > 0, np.abs(blocks) / scale, 0)
    nearest = numbers[np.abs(ratio[..., None] - numbers).argmin(axis=-1)]
    stored = (np.sign(blocks) * nearest * scale).astype(np.float32)
    is_normal = np.broadcast_to(scale / top >= 2.0**-6, blocks.shape)  # E4M3 rounds small scales more coarsely
    assert within_rounding(blocks, stored, ("F32", "NVFP4"))[is_normal.reshape(-1)].all()


@pytest.mark.parametrize("kind", [*QUANTISED, "NVFP4", "TQ1_0"])
def test_bounds_are_finite_and_need_no_values(kind: str) -> None:
    assert np.isfinite(rounding_bound(weights(0), kind)).all()
    assert rounding_bound(np.zeros(0, np.float32), kind).shape == (0,)
    assert (rounding_bound(np.zeros(64, np.float32), kind) <= 1e-5).all()
