"""Which rows of a stored tensor are wanted, and fetching them, neighbours in one read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huref.errors import CorruptFileError
from huref.model.source.byte_source import ByteSource
from huref.model.source.checkpoint import Rows


@dataclass(frozen=True)
class RowTable:
    """A tensor's bytes as a table of equally long rows.

    Attributes:
        source: the file.
        offset: where the first row starts.
        n_rows: size of the tensor's first axis; 1 for a tensor without axes.
        row_bytes: stored bytes of one row.
    """

    source: ByteSource
    offset: int
    n_rows: int
    row_bytes: int

    def gather(self, wanted: np.ndarray | None) -> np.ndarray:
        """Read rows into fresh memory: (n, row_bytes) uint8, in the order asked for; None means all.

        Each distinct row is read once, and neighbouring rows in one piece, so the bytes read are exactly the
        bytes of the distinct rows.
        """
        if wanted is None:
            table = np.empty((self.n_rows, self.row_bytes), np.uint8)
            self.source.read_into([(self.offset, table.reshape(-1).data)])
            return table
        if len(wanted) < 2 or bool((np.diff(wanted) > 0).all()):
            return self._gather_sorted(wanted)
        distinct, position = np.unique(wanted, return_inverse=True)
        return np.take(self._gather_sorted(distinct), position, axis=0)

    def _gather_sorted(self, rows: np.ndarray) -> np.ndarray:
        table = np.empty((len(rows), self.row_bytes), np.uint8)
        if table.size == 0:
            return table
        buffer = table.reshape(-1).data
        starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)  # where a run of neighbours begins
        bounds = (np.append(starts, len(rows)) * self.row_bytes).tolist()
        offsets = (self.offset + rows[starts] * self.row_bytes).tolist()
        pieces = zip(offsets, bounds[:-1], bounds[1:], strict=True)
        self.source.read_into((offset, buffer[start:end]) for offset, start, end in pieces)
        return table


def resolve_rows(rows: Rows, n_rows: int, name: str) -> np.ndarray | None:
    """Turn `rows` into int64 indices within [0, n_rows), or None for all of them.

    Raises:
        CorruptFileError: an index outside the tensor: the vocabulary and the weights disagree.
        TypeError: indices that are not a one-dimensional array of integers.
    """
    if rows is None:
        return None
    if isinstance(rows, slice):
        start, stop, step = rows.indices(n_rows)
        return None if (start, stop, step) == (0, n_rows, 1) else np.arange(start, stop, step, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(f"rows of {name} must be a one-dimensional integer array, not {rows.dtype} {rows.shape}")
    wanted = rows.astype(np.int64, copy=False)
    if len(wanted) and (int(wanted.min()) < 0 or int(wanted.max()) >= n_rows):
        raise CorruptFileError(
            "row index out of range",
            where=name,
            expected=f"indices from 0 to {n_rows - 1}",
            got=f"indices from {int(wanted.min())} to {int(wanted.max())}",
            next_step="check that the tokenizer belongs to these weights",
        )
    return wanted
