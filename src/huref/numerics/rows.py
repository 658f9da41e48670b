"""Inner products of rows, whichever way their matrices are stored."""

from __future__ import annotations

import numpy as np

from huref.numerics.arrays import Floats


def row_products(left: Floats, right: Floats) -> Floats:
    """(...) inner products of the rows of two arrays (..., d), without an array of their size."""
    found: Floats = np.einsum("...d,...d->...", left, right)
    return found


def inner_product(left: Floats, right: Floats) -> float:
    """Inner product of two arrays of equal shape; double precision over the rows: float32 would lose four digits."""
    return float(row_products(left, right).sum(dtype=np.float64))
