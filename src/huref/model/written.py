"""A refusal of matrices of zeros or equal rows: what an interrupted download, or a file made beforehand, leaves."""

from __future__ import annotations

import numpy as np

from huref.errors import CorruptFileError
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Array, Floats, float32

_ROWS, _ROUNDING = 1024, 1e-6


def require_written(matrix: Array, name: str, weights: CanonicalWeights) -> None:
    """Refuse a matrix that no network works with when all of it is zero: gates, queries, embeddings, and their like.

    What a branch writes, `o` and `down`, is not to be asked: of zeros, they make a layer that adds nothing.

    Args:
        matrix: (..., d), as read.
        name: its canonical name.

    Raises:
        CorruptFileError: every number is 0.
    """
    rows = matrix.reshape(-1, matrix.shape[-1])
    blocks = [slice(0, 1), *(slice(at, at + _ROWS) for at in range(0, len(rows), _ROWS))]  # one row is mostly enough
    if rows.size and not any(float32(rows[block]).any() for block in blocks):
        raise CorruptFileError(
            "a matrix of zeros",
            where=f"{weights.checkpoint.reference}: {weights.stored_name(name)}",
            expected="weights",
            got=f"{rows.size} zeros",
            next_step="fetch the file again and compare its size and checksum with the publisher's",
        )


def require_distinct(rows: Floats, name: str, weights: CanonicalWeights) -> None:
    """Refuse embedding rows that are all one, but for rounding: they tell no token from another.

    Args:
        rows: (n, d), n > 1.
        name: their canonical name.

    Raises:
        CorruptFileError: they do.
    """
    least = _ROUNDING * float(np.abs(rows[0]).max())
    blocks = (slice(at, at + _ROWS) for at in range(1, len(rows), _ROWS))  # the first is mostly enough
    if not any((np.abs(rows[block] - rows[0]) > least).any() for block in blocks):
        raise CorruptFileError(
            "all tokens have one embedding",
            where=f"{weights.checkpoint.reference}: {weights.stored_name(name)}",
            expected="rows that tell tokens apart",
            got=f"{len(rows)} equal rows",
            next_step="fetch the file again and compare its size and checksum with the publisher's",
        )
