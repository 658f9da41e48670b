"""Sums of products, without a copy of what is multiplied."""

from __future__ import annotations

import numpy as np

from huref.numerics.arrays import Array


def dot(left: Array, right: Array) -> float:
    """The inner product of two arrays of one shape, added up in double precision."""
    axes = list(range(left.ndim))
    return float(np.einsum(left, axes, right, axes, [], dtype=np.float64))


def row_dots(left: Array, right: Array) -> Array:
    """Inner products along the last axis, whose entries should lie side by side."""
    found: Array = np.einsum("...i,...i->...", left, right)
    return found


def unit_length(rows: Array) -> Array:
    """The directions of rows; a row without length stays zero."""
    length = np.sqrt(row_dots(rows, rows))[..., None]
    found: Array = rows / np.maximum(length, 1e-20)
    return found
