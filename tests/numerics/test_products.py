"""What bfloat16 products cost: measured against float64, and bounded."""

from __future__ import annotations

import importlib.util

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.fingerprints.factors import Factors
from huref.kinship.correlation import pearson, pearson_from_dense, pearson_from_factors
from huref.numerics import products
from huref.numerics.products import product
from huref.numerics.projection import project_rows
from huref.numerics.tensors import as_array, as_tensor


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both paths run on every machine: bfloat16 products exist everywhere, fast or not."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: request.param)
    monkeypatch.setattr(products, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    return bool(request.param)


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    dice = np.random.default_rng(seed)
    return [dice.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_product_error(fast: bool) -> None:
    """Relative Frobenius error: three roundings of at most 2^-9 each in bfloat16, 2^-20 in float32."""
    a, b = normal(0, (300, 700), (700, 200))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    found = product(a, b)
    assert found.dtype == np.float32
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert (1e-4 < error < 3 * 2**-9) if fast else error < 2**-20


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.999, 1.0])
def test_pearson_error(fast: bool, rho: float) -> None:
    """Correlations of 2048 tokens are good to 1e-4 whatever the product's type: rounding errors average out."""
    U, V, noise = normal(int(rho * 1000), *[(2048, 96)] * 3)
    W = (rho * V + (1 - rho**2) ** 0.5 * noise).astype(np.float32)
    a, b = Factors(0, "qk", U, V), Factors(0, "qk", U, W)
    exact = np.corrcoef(*((U.astype(np.float64) @ x.astype(np.float64).T).ravel() for x in (V, W)))[0, 1]
    for route in (pearson, pearson_from_factors, pearson_from_dense):
        assert route(a, b) == pytest.approx(exact, abs=1e-4)


def test_small_products_are_float32_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    a, b = normal(1, (64, 64), (64, 64))
    np.testing.assert_array_equal(product(a, b), a @ b)


def test_without_torch_large_products_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    products.has_fast_bfloat16.cache_clear()
    try:
        a, b = normal(2, (64, 64), (64, 64))
        np.testing.assert_array_equal(product(a, b), a @ b)
    finally:
        products.has_fast_bfloat16.cache_clear()


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16, np.float32])
@given(m=st.integers(1, 9), r=st.integers(1, 2100), d=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_projection_of_few_rows_is_float32_exact(kind: type, m: int, r: int, d: int, seed: int) -> None:
    """Of a matrix and of a transposed view of one."""
    rows, stored = normal(seed, (m, d), (d, r))
    for weight in (stored.astype(kind).T, np.ascontiguousarray(stored.T).astype(kind)):
        exact = rows.astype(np.float64) @ weight.astype(np.float64).T
        bound = 1e-5 * (1 + np.abs(exact).max())
        np.testing.assert_allclose(project_rows(rows, weight), exact, rtol=0, atol=bound)


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float16, np.float32, np.float64])
def test_arrays_and_tensors_share_their_memory(kind: type) -> None:
    array = normal(3, (5, 7))[0].astype(kind)
    tensor = as_tensor(array)
    assert torch.equal(tensor.double(), torch.from_numpy(array.astype(np.float64)))
    tensor[2, 3] = 4.0
    assert array[2, 3] == 4.0
    back = as_array(tensor.T)
    assert back.dtype == kind and back.base is not None
    np.testing.assert_array_equal(back, array.T)
