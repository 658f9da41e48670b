"""Reading canonical tensors: rows of stored ones, turned round, put in order, and experts joined."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from huref.errors import InputError, MissingTensorError
from huref.model.arch.canonical import Piece, TensorRole
from huref.model.source.checkpoint import Checkpoint, Rows
from huref.numerics.arrays import Array, common_dtype, float32

_Wanted = slice | np.ndarray | None
"""Rows to read, checked: a slice of step 1 within bounds, int64 indices within bounds, or None for all."""


class Reader:
    """Reads canonical tensors; a transposed fused matrix, whose parts cannot be read alone, only once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.whole: dict[str, Array] = {}

    def read(self, role: TensorRole, rows: Rows) -> Array:
        """A canonical tensor, or some of its rows in the order asked for.

        Raises:
            MissingTensorError: it has no such row.
            InputError: whole numbers where weights should be.
        """
        wanted = _checked(rows, role)
        is_whole = len(role.pieces) == 1
        tensor = self._piece(role, role.pieces[0], wanted) if is_whole else self._joined(role, wanted)
        if tensor.dtype.kind in "biu":
            raise self._no_weights(role)
        return float32(tensor) + np.float32(1) if role.adds_one else tensor

    def _no_weights(self, role: TensorRole) -> InputError:
        stored = role.pieces[0].stored
        return InputError(
            "whole numbers in a weight's place",
            where=f"{self.checkpoint.reference}: {stored}",
            expected="floating-point numbers, or a quantised format with its scales",
            got=self.checkpoint.tensors[stored].dtype,
            next_step="name the checkpoint before it was quantised, or save bits of bfloat16 as bfloat16",
        )

    def _joined(self, role: TensorRole, wanted: _Wanted) -> Array:
        """All pieces in one tensor; beside it only one of them is in memory."""
        n_rows = role.shape[0] if wanted is None else _count(wanted)
        out: Array | None = None
        for place, part in self._parts(role, wanted):
            if out is None:
                out = np.empty((n_rows, *role.shape[1:]), part.dtype)
            elif part.dtype != out.dtype:  # converters may leave a shared expert at a finer type
                out = out.astype(common_dtype(part.dtype, out.dtype))
            out[place] = part
        return self._piece(role, role.pieces[0], slice(0, 0)) if out is None else out

    def _parts(self, role: TensorRole, wanted: _Wanted) -> Iterator[tuple[_Place, Array]]:
        """What the needed pieces give, and where it goes in the result."""
        at = 0
        for piece in role.pieces:
            if role.axis == 1:
                part = self._piece(role, piece, wanted)
                yield (slice(None), slice(at, at + part.shape[1])), part
                at += part.shape[1]
            else:
                place, rows = _share(wanted, at, piece.rows.n_rows)
                if rows is None or _count(rows):
                    yield (place,), self._piece(role, piece, rows)
                at += piece.rows.n_rows

    def _piece(self, role: TensorRole, piece: Piece, wanted: _Wanted) -> Array:
        index = _within(piece.rows.index(), wanted)
        if piece.turned:
            first, n = piece.turned
            return _take(self.checkpoint.read_table(piece.stored, slice(first, first + n)).T, index)
        if piece.is_flat:
            return _take(self.checkpoint.read(piece.stored).reshape(-1), index)
        if piece.is_table:
            return self.checkpoint.read_table(piece.stored, index)
        if not role.is_transposed:
            return self._rows(piece.stored, index)
        if piece.stored not in self.whole:
            self.whole[piece.stored] = self.checkpoint.read(piece.stored)
        return _take(self.whole[piece.stored].T, index)

    def _rows(self, stored: str, index: slice | np.ndarray) -> Array:
        """Rows of a stored tensor; a shuffled block is read in one piece and shuffled in memory."""
        if isinstance(index, slice):
            n = self.checkpoint.tensors[stored].shape[0]
            return self.checkpoint.read(stored, None if index == slice(0, n) else index)
        first, last = (int(index.min()), int(index.max()) + 1) if len(index) else (0, 0)
        if last - first == len(index):
            shuffled: Array = self._rows(stored, slice(first, last))[index - first]
            return shuffled
        return self.checkpoint.read(stored, index)


_Place = tuple[slice | Array, ...]


def _checked(rows: Rows, role: TensorRole) -> _Wanted:
    if rows is None:
        return None
    n = role.shape[0]
    if isinstance(rows, slice):
        start, stop, step = rows.indices(n)
        return slice(start, max(start, stop)) if step == 1 else np.arange(start, stop, step, dtype=np.int64)
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= n):
        raise MissingTensorError(
            f"{role.name} has no such row", expected=f"0 to {n - 1}", got=f"{rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)


def _share(wanted: _Wanted, start: int, n: int) -> tuple[slice | Array, _Wanted]:
    """Of the wanted rows those from `start` on, `n` at most: their place in the result, and counted from `start`."""
    if wanted is None:
        return slice(start, start + n), None
    if isinstance(wanted, slice):
        low, high = max(wanted.start, start), min(wanted.stop, start + n)
        high = max(low, high)
        return slice(low - wanted.start, high - wanted.start), slice(low - start, high - start)
    place = np.flatnonzero((wanted >= start) & (wanted < start + n))
    return place, wanted[place] - start


def _within(index: slice | np.ndarray, wanted: _Wanted) -> slice | np.ndarray:
    """The stored rows behind some of a piece's rows."""
    if wanted is None:
        return index
    if not isinstance(index, slice):
        chosen: np.ndarray = index[wanted]
        return chosen
    if isinstance(wanted, slice):
        return slice(index.start + wanted.start, index.start + wanted.stop)
    shifted: np.ndarray = index.start + wanted
    return shifted


def _count(wanted: slice | np.ndarray) -> int:
    return wanted.stop - wanted.start if isinstance(wanted, slice) else len(wanted)


def _take(tensor: Array, index: slice | np.ndarray) -> Array:
    return tensor[index]
