"""What bfloat16 products cost: measured against float64, and bounded."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.demo.tensors import as_array, as_tensor
from huref.numerics import products
from huref.numerics.products import product
from huref.numerics.projection import project_rows
from kit.dense_terms import correlation_of_factors


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
def test_correlation_error(fast: bool, rho: float) -> None:
    """Correlations of 2048 tokens are good to 1e-4 whatever the product's type: rounding errors average out."""
    U, V, noise = normal(int(rho * 1000), *[(2048, 96)] * 3)
    W = (rho * V + (1 - rho**2) ** 0.5 * noise).astype(np.float32)
    exact = np.corrcoef(*((U.astype(np.float64) @ x.astype(np.float64).T).ravel() for x in (V, W)))[0, 1]
    assert correlation_of_factors((U, V), (U, W)) == pytest.approx(exact, abs=1e-4)


def test_small_products_are_float32_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    a, b = normal(1, (64, 64), (64, 64))
    np.testing.assert_array_equal(product(a, b), a @ b)


def large_product_in_a_fresh_process(hardware: bool, python_path: Path | None = None) -> str:
    """What a large product is computed in, what is noted, and whether torch was imported."""
    code = """
import sys
import numpy as np
from huref.numerics import products
products.LARGE_PRODUCT = 0
products._hardware_may_have_it = lambda: HARDWARE
a, b = np.ones((4, 4), np.float32), np.ones((4, 4), np.float32)
with products.noted() as arithmetic:
    assert (products.product(a, b) == a @ b).all()
print(arithmetic, list(arithmetic.notes), "torch" in sys.modules)
"""
    paths = os.pathsep.join([*([str(python_path)] if python_path else []), *filter(None, sys.path)])
    child = subprocess.run(
        [sys.executable, "-c", code.replace("HARDWARE", str(hardware))],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout.strip()


def test_where_the_hardware_gains_nothing_torch_is_not_imported() -> None:
    assert large_product_in_a_fresh_process(hardware=False) == "float32 [] False"


def test_a_torch_that_cannot_be_imported_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.13: cannot open\\nmore')")
    told = large_product_in_a_fresh_process(hardware=True, python_path=tmp_path)
    note = "torch cannot be imported, numpy computes without it (OSError: libcudart.so.13: cannot open)"
    assert told == f"float32 ['{note}'] False"
    assert large_product_in_a_fresh_process(hardware=False, python_path=tmp_path) == "float32 [] False"


def test_a_torch_that_ends_the_process_or_is_hollow_is_a_note_too(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise SystemExit(3)")
    assert "SystemExit: 3" in large_product_in_a_fresh_process(hardware=True, python_path=tmp_path)


def test_without_torch_large_products_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    monkeypatch.setattr(products, "_hardware_may_have_it", lambda: True)
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    for cached in (products.has_fast_bfloat16, products.torch_trouble):
        cached.cache_clear()
    try:
        a, b = normal(2, (64, 64), (64, 64))
        np.testing.assert_array_equal(product(a, b), a @ b)
    finally:
        for cached in (products.has_fast_bfloat16, products.torch_trouble):
            cached.cache_clear()


def test_a_result_says_in_what_it_was_computed(fast: bool) -> None:
    a, b = normal(3, (8, 8), (8, 8))
    with products.noted() as outer:
        with products.noted() as inner:
            product(a, b)
        assert str(outer) == "float32" and outer.kinds == set()
        product(a, b)
    assert str(inner) == str(outer)
    assert inner.notes == ((f"arithmetic: {inner}",) if fast else ())
    assert str(inner) == ("float32, large products bfloat16 by torch on the processor" if fast else "float32")


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_what_may_not_be_written_to_is_multiplied_without_a_warning(fast: bool, dtype: type) -> None:
    a, b = (x.astype(dtype) for x in normal(4, (8, 8), (8, 8)))
    a.flags.writeable = False
    expected = a.astype(np.float64) @ b.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(product(a, b), expected, atol=0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("flags\t: fpu avx2 avx512f", False), ("flags\t: avx512_bf16 x", True), ("flags : amx_tile amx_bf16", True)],
)
def test_features_are_read_from_the_system(
    text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(products, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert products._hardware_may_have_it() is expected
    monkeypatch.setattr(products, "_CPU_INFO", tmp_path / "missing")
    assert products._hardware_may_have_it() is False
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "libcuda.so.1" if name == "cuda" else None)
    assert products._hardware_may_have_it() is True


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
