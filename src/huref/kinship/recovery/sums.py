"""Inner products that are exact to many digits, and rows of length 1."""

from __future__ import annotations

import numpy as np

from huref.numerics.arrays import Array
from huref.numerics.rows import row_products


def dot(left: Array, right: Array) -> float:
    """The inner product of two arrays of one shape in double precision, without a copy of them in it."""
    axes = list(range(left.ndim))
    return float(np.einsum(left, axes, right, axes, [], dtype=np.float64))


def unit_length(rows: Array) -> Array:
    """The directions of rows; a row without length stays zero."""
    length = np.sqrt(row_products(rows, rows))[..., None]
    found: Array = rows / np.maximum(length, 1e-20)
    return found
