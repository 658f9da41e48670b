"""What bfloat16 products cost: measured against float64, and bounded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.fingerprints.terms import Factors
from huref.kinship.correlation import pearson, pearson_from_dense, pearson_from_factors
from huref.numerics import products
from huref.numerics.products import product, project_rows


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both paths run on every machine: bfloat16 products exist everywhere, fast or not."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: request.param)
    monkeypatch.setattr(products, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    return bool(request.param)


def test_product_error(fast: bool) -> None:
    """Relative Frobenius error: three roundings of at most 2^-9 each in bfloat16, 2^-20 in float32."""
    dice = torch.Generator().manual_seed(0)
    a, b = torch.randn(300, 700, generator=dice), torch.randn(700, 200, generator=dice)
    exact = a.double() @ b.double()
    error = float((product(a, b).double() - exact).norm() / exact.norm())
    assert error < (3 * 2**-9 if fast else 2**-20)


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.999, 1.0])
def test_pearson_error(fast: bool, rho: float) -> None:
    """Correlations of 2048 tokens are good to 1e-4 whatever the product's type: rounding errors average out."""
    dice = torch.Generator().manual_seed(int(rho * 1000))
    U, V = torch.randn(2048, 96, generator=dice), torch.randn(2048, 96, generator=dice)
    W = rho * V + (1 - rho**2) ** 0.5 * torch.randn(2048, 96, generator=dice)
    a, b = Factors(0, "qk", U, V), Factors(0, "qk", U, W)
    exact = np.corrcoef(*((U.double() @ x.double().T).numpy().ravel() for x in (V, W)))[0, 1]
    for route in (pearson, pearson_from_factors, pearson_from_dense):
        assert route(a, b) == pytest.approx(exact, abs=1e-4)


def test_small_products_are_float32_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    assert torch.equal(product(a, b), a @ b)


@given(m=st.integers(1, 9), r=st.integers(1, 2100), d=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_projection_of_few_rows_is_float32_exact(m: int, r: int, d: int, seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    rows, weight = torch.randn(m, d, generator=dice), torch.randn(d, r, generator=dice).bfloat16().T
    exact = rows.double() @ weight.double().T
    assert torch.allclose(
        project_rows(rows, weight).double(), exact, rtol=0, atol=1e-5 * (1 + float(exact.abs().max()))
    )
