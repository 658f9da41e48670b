"""Few rows times a large weight of any stored type, in float32 and little memory."""

from __future__ import annotations

import numpy as np

from huref.numerics.arrays import Array, Floats, float32

_CHUNK_ROWS = 1024
_CHUNK_COLUMNS = 128


def project_rows(rows: Floats, weight: Array) -> Floats:
    """`rows @ weight.T` in float32 for few rows and a large weight of any floating type.

    The weight is converted a block at a time into one buffer, so that memory stays small.

    Args:
        rows: (m, d) float32.
        weight: (r, d), any strides.

    Returns:
        (m, r) float32.
    """
    if weight.strides[0] == weight.itemsize and weight.shape[1] > 1:  # transposed: go along the stored rows, add up
        return _project_columns(rows, weight.T)
    n_out = weight.shape[0]
    out = np.empty((rows.shape[0], n_out), np.float32)
    for start in range(0, n_out, _CHUNK_ROWS):
        block = float32(weight[start : start + _CHUNK_ROWS])
        out[:, start : start + _CHUNK_ROWS] = rows @ block.T
    return out


def _project_columns(rows: Floats, stored: Array) -> Floats:
    """`rows @ stored` for `stored` (d, r) with contiguous rows, one block of them at a time."""
    out = np.zeros((rows.shape[0], stored.shape[1]), np.float32)
    for start in range(0, stored.shape[0], _CHUNK_COLUMNS):
        block = float32(stored[start : start + _CHUNK_COLUMNS])
        out += rows[:, start : start + _CHUNK_COLUMNS] @ block
    return out
