"""PCS against numpy, and when two weights agree within rounding."""

from __future__ import annotations

import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import NotFiniteError
from huref.kinship.parameters import ParameterComparison, compare_parameters
from huref.numerics.rounding import within_rounding


class Named:
    """Named tensors with stored types: what `compare_parameters` reads of a model."""

    def __init__(self, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
        self.tensors, self.dtype = tensors, dtype
        self.checkpoint = self
        self.reference = "memory"

    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def stored_dtype(self, name: str) -> str:
        return self.dtype

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        return self.tensors[name] if rows is None else self.tensors[name][rows]


def compared(a: Named, b: Named) -> ParameterComparison:
    return compare_parameters(a, b)  # type: ignore[arg-type]


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    return {
        "embedding": dice.standard_normal((70, 32), np.float32),
        "layers.0.q": dice.standard_normal((32, 32), np.float32),
        "final_norm": 1 + np.float32(0.1) * dice.standard_normal(32, np.float32),
    }


@given(seed=st.integers(0, 999), noise=st.floats(0.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_pcs_equals_numpy(seed: int, noise: float) -> None:
    a = random_tensors(seed)
    b = {
        name: t + np.float32(noise) * u
        for (name, t), u in zip(a.items(), random_tensors(seed + 1).values(), strict=True)
    }
    flat_a, flat_b = (np.concatenate([t.ravel() for t in m.values()]).astype(float) for m in (a, b))
    expected = flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    assert compared(Named(a), Named(b)).pcs == pytest.approx(expected, abs=1e-6)


def test_pcs_in_blocks_equals_pcs_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Named(random_tensors(1)), Named(random_tensors(2))
    whole = compared(a, b).pcs
    monkeypatch.setattr("huref.kinship.parameters._BLOCK_ELEMENTS", 100)
    assert compared(a, b).pcs == pytest.approx(whole, abs=1e-7)


def test_tensors_without_a_partner_are_skipped_and_named() -> None:
    a = random_tensors(1)
    b = {**a, "embedding": np.zeros((75, 32), np.float32), "extra": np.ones(3, np.float32)}
    found = compared(Named(a), Named(b))
    assert found.pcs == pytest.approx(1.0)
    assert not found.is_identical and not found.is_requantised
    assert sorted(found.skipped) == ["embedding [70, 32] / [75, 32]", "extra (only in B)"]


def test_nothing_in_common_gives_no_number() -> None:
    found = compared(Named({"a": np.ones(3, np.float32)}), Named({"b": np.ones(3, np.float32)}))
    assert found.pcs is None and not found.is_identical


def test_nan_is_refused_by_name() -> None:
    a = random_tensors(1)
    b = {**a, "layers.0.q": np.full((32, 32), np.nan, np.float32)}
    with pytest.raises(NotFiniteError, match=r"layers\.0\.q"):
        compared(Named(a), Named(b))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16"])
def test_a_rounded_copy_is_requantised(kind: str) -> None:
    a = random_tensors(3)
    b = {name: rounded(t, kind) for name, t in a.items()}
    found = compared(Named(a), Named(b, kind))
    assert found.is_requantised and not found.is_identical


@pytest.mark.parametrize("kind", ["Q8_0", "BF16", "Q4_0"])
def test_a_fine_tune_beyond_rounding_is_not(kind: str) -> None:
    """Noise of twice the format's own rounding error, on the rounded copy."""
    a = random_tensors(4)
    b = {}
    for name, t in a.items():
        copy, dice = rounded(t, kind), np.random.default_rng(1)
        b[name] = copy + 2 * (copy - t).std() * dice.standard_normal(t.shape, np.float32)
    assert not compared(Named(a), Named(b, kind)).is_requantised


@pytest.mark.parametrize("first", [kind.name for kind in gguf.GGMLQuantizationType])
@pytest.mark.parametrize("second", ["F32", "Q4_0", "Q2_K", "IQ1_S"])
def test_rounding_never_explains_a_stranger(first: str, second: str) -> None:
    """Independent Gaussian weights, whatever the two types claim to have rounded off."""
    a, b = (np.random.default_rng(seed).standard_normal(4096, np.float32) for seed in (1, 2))
    assert within_rounding(a, b, (first, second)).mean() < 0.95


def test_equal_weights_are_identical() -> None:
    found = compared(Named(random_tensors(5)), Named(random_tensors(5), "F32"))
    assert found.is_identical and found.pcs == pytest.approx(1.0)


@given(scale=st.floats(1e-6, 1e6))
def test_rounding_bounds_scale_with_the_weights(scale: float) -> None:
    x = np.random.default_rng(2).standard_normal(64, np.float32) * np.float32(scale)
    y = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert within_rounding(x, y, ("F32", "BF16")).all()
    assert not within_rounding(x, y * np.float32(1.01), ("F32", "BF16")).any()


def rounded(array: np.ndarray, kind: str) -> np.ndarray:
    """Quantise and dequantise with the reference implementation of the gguf package."""
    quantisation = gguf.GGMLQuantizationType[kind]
    rows = array.reshape(-1, 32).astype(np.float32)
    back = gguf.quants.dequantize(gguf.quants.quantize(rows, quantisation), quantisation)
    return back.reshape(array.shape).astype(np.float32)
