"""What a scheme finds: a plain tensor, and the stored ones that it is unpacked from."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from huref.errors import CorruptFileError, InputError, MissingTensorError
from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.scaled import Scaled
from huref.numerics.arrays import Array

RowNumbers = NDArray[np.int64] | None
"""Rows of a table in any order, within bounds; None for all."""

Blocks = Callable[[slice], Scaled]
"""Gives some of the rows that were loaded, counted from 0."""


class PackedTensor(abc.ABC):
    """A tensor in several parts.

    Attributes:
        info: of the plain tensor: its name and shape, a kind that names scheme and bits, the bytes of all parts.
        parts: stored tensors that belong to it, those left aside included.
        is_turned: each (out, in) slab of a stack is stored so, and (in, out) in plain checkpoints of its family.
    """

    info: TensorInfo
    parts: tuple[str, ...]
    is_turned: bool = False

    @abc.abstractmethod
    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        """Read the parts: all axes but the last are rows, as stored, without the turn of `is_turned`.

        Raises:
            CorruptFileError: parts whose contents contradict one another.
        """


def packed_info(name: str, shape: Sequence[int], kind: str, parts: Sequence[TensorInfo]) -> TensorInfo:
    """The plain tensor's description."""
    return TensorInfo(name, tuple(shape), kind, sum(part.nbytes for part in parts), parts[0].file)


def require(condition: bool, part: TensorInfo, expected: str, got: object) -> None:
    """Refuse parts that contradict one another.

    Raises:
        CorruptFileError: the condition does not hold.
    """
    if not condition:
        raise CorruptFileError(
            "the parts of a packed tensor contradict one another",
            where=f"{part.file}, tensor {part.name}",
            expected=expected,
            got=str(got)[:120],
            next_step="fetch weights and configuration again, all from one revision",
        )


def require_part(part: TensorInfo | None, whole: TensorInfo, name: str) -> TensorInfo:
    """A part that there must be.

    Raises:
        MissingTensorError: there is none.
    """
    if part is None:
        raise MissingTensorError(
            "a part of a packed tensor is missing",
            where=f"{whole.file}, tensor {whole.name}",
            expected=name,
            got="no such tensor",
            next_step="fetch the checkpoint again; a quantised tensor cannot be read without its scales",
        )
    return part


def unsupported(what: str, where: str, expected: str, got: str) -> InputError:
    """The error for a layout that is known and not read."""
    return InputError(
        what,
        where=where,
        expected=expected,
        got=got,
        next_step="name the model before it was quantised, or a copy in a layout of docs/reference/formats.md",
    )


def take_rows(checkpoint: Checkpoint, name: str, rows: RowNumbers) -> Array:
    """Rows of a stored part, all axes but the last counted as rows."""
    return checkpoint.read_table(name, rows)
