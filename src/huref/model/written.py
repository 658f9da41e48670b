"""A refusal of matrices of zeros: what an interrupted download, or a copy into a file made beforehand, leaves."""

from __future__ import annotations

from huref.errors import CorruptFileError
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Array, float32

_ROWS = 1024


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
