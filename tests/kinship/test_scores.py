"""PCS against numpy, and when two weights agree within rounding."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import NotFiniteError
from huref.kinship.parameters import ParameterComparison, compare_parameters
from huref.numerics.rounding import within_rounding
from huref.numerics.tensors import as_array


class Named:
    """Named tensors with stored types: what `compare_parameters` reads of a model."""

    def __init__(self, tensors: dict[str, torch.Tensor], dtype: str = "F32") -> None:
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
        return as_array(self.tensors[name] if rows is None else self.tensors[name][rows])


def compared(a: Named, b: Named) -> ParameterComparison:
    return compare_parameters(a, b)  # type: ignore[arg-type]


def random_tensors(seed: int) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return {
        "embedding": torch.randn(70, 32, generator=dice),
        "layers.0.q": torch.randn(32, 32, generator=dice),
        "final_norm": 1 + 0.1 * torch.randn(32, generator=dice),
    }


@given(seed=st.integers(0, 999), noise=st.floats(0.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_pcs_equals_numpy(seed: int, noise: float) -> None:
    a = random_tensors(seed)
    b = {name: t + noise * u for (name, t), u in zip(a.items(), random_tensors(seed + 1).values(), strict=True)}
    flat_a, flat_b = (np.concatenate([t.numpy().ravel() for t in m.values()]).astype(float) for m in (a, b))
    expected = flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    assert compared(Named(a), Named(b)).pcs == pytest.approx(expected, abs=1e-6)


def test_pcs_in_blocks_equals_pcs_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Named(random_tensors(1)), Named(random_tensors(2))
    whole = compared(a, b).pcs
    monkeypatch.setattr("huref.kinship.parameters._BLOCK_ELEMENTS", 100)
    assert compared(a, b).pcs == pytest.approx(whole, abs=1e-7)


def test_tensors_without_a_partner_are_skipped_and_named() -> None:
    a = random_tensors(1)
    b = {**a, "embedding": torch.randn(75, 32), "extra": torch.ones(3)}
    found = compared(Named(a), Named(b))
    assert found.pcs == pytest.approx(1.0)
    assert not found.is_identical and not found.is_requantised
    assert sorted(found.skipped) == ["embedding [70, 32] / [75, 32]", "extra (only in B)"]


def test_nothing_in_common_gives_no_number() -> None:
    found = compared(Named({"a": torch.ones(3)}), Named({"b": torch.ones(3)}))
    assert found.pcs is None and not found.is_identical


def test_nan_is_refused_by_name() -> None:
    a = random_tensors(1)
    b = {**a, "layers.0.q": torch.full((32, 32), float("nan"))}
    with pytest.raises(NotFiniteError, match=r"layers\.0\.q"):
        compared(Named(a), Named(b))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16"])
def test_a_rounded_copy_is_requantised(kind: str) -> None:
    a = random_tensors(3)
    b = {name: torch.from_numpy(rounded(t.numpy(), kind)) for name, t in a.items()}
    found = compared(Named(a), Named(b, kind))
    assert found.is_requantised and not found.is_identical


@pytest.mark.parametrize("kind", ["Q8_0", "BF16", "Q4_0"])
def test_a_fine_tune_beyond_rounding_is_not(kind: str) -> None:
    """Noise of twice the format's own rounding error, on the rounded copy."""
    a = random_tensors(4)
    b = {}
    for name, t in a.items():
        copy = torch.from_numpy(rounded(t.numpy(), kind))
        b[name] = copy + 2 * (copy - t).std() * torch.randn(t.shape, generator=torch.Generator().manual_seed(1))
    assert not compared(Named(a), Named(b, kind)).is_requantised


@pytest.mark.parametrize("first", [kind.name for kind in gguf.GGMLQuantizationType])
@pytest.mark.parametrize("second", ["F32", "Q4_0", "Q2_K", "IQ1_S"])
def test_rounding_never_explains_a_stranger(first: str, second: str) -> None:
    """Independent Gaussian weights, whatever the two types claim to have rounded off."""
    a, b = (torch.randn(4096, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert float(within_rounding(a, b, (first, second)).float().mean()) < 0.95


def test_equal_weights_are_identical() -> None:
    found = compared(Named(random_tensors(5)), Named(random_tensors(5), "F32"))
    assert found.is_identical and found.pcs == pytest.approx(1.0)


@given(scale=st.floats(1e-6, 1e6))
def test_rounding_bounds_scale_with_the_weights(scale: float) -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(2)) * scale
    y = x.bfloat16().float()
    assert bool(within_rounding(x, y, ("F32", "BF16")).all())
    assert not bool(within_rounding(x, y * 1.01, ("F32", "BF16")).any())


def rounded(array: np.ndarray, kind: str) -> np.ndarray:
    """Quantise and dequantise with the reference implementation of the gguf package."""
    quantisation = gguf.GGMLQuantizationType[kind]
    rows = array.reshape(-1, 32).astype(np.float32)
    back = gguf.quants.dequantize(gguf.quants.quantize(rows, quantisation), quantisation)
    return back.reshape(array.shape).astype(np.float32)
