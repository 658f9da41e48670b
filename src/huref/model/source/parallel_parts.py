"""Meta's `consolidated.NN.pth`: one model in parts, each with a share of every matrix, joined by known axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import CorruptFileError, MissingFileError, MissingTensorError
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.model.source.file_set import FileSet
from huref.model.source.rows import resolve_rows
from huref.numerics.arrays import Array

_PART = re.compile(r"consolidated\.(\d{2})\.(pth|pt)")
_BY_ROWS = re.compile(r"(^|\.)(wq|wk|wv|w1|w3|output)\.weight$")
_BY_COLUMNS = re.compile(r"(^|\.)(wo|w2)\.weight$")
_EMBEDDING = re.compile(r"(^|\.)tok_embeddings\.weight$")


def parts_beside(path: Path) -> tuple[str, ...]:
    """All parts of the model that a file is a part of, in order; one or none where it is no part.

    Raises:
        MissingFileError: a number between them is missing.
    """
    if not _PART.fullmatch(path.name):
        return ()
    found = sorted(name for name in (file.name for file in path.parent.iterdir()) if _PART.fullmatch(name))
    for number, name in enumerate(found):
        if not name.startswith(f"consolidated.{number:02d}."):
            raise MissingFileError(
                f"part {number} of the model is missing",
                where=str(path.parent),
                expected=f"consolidated.{number:02d}.pth",
                got=", ".join(found[:8]),
                next_step="fetch the missing part into the same folder",
            )
    return tuple(found)


def open_parts(
    reference: str, folder: Path, names: Sequence[str], open_files: Callable[[str, FileSet], Checkpoint]
) -> Checkpoint:
    """Open every part, and see them as one model.

    Raises:
        CorruptFileError: the parts do not fit together.
    """
    with ExitStack() as opened:
        parts = [opened.enter_context(open_files(reference, FileSet(folder, (name,)))) for name in names]
        joined = JoinedCheckpoint(reference, parts)
        opened.pop_all()
    return joined


class JoinedCheckpoint(Checkpoint):
    """Parts with the same names, of which each holds the rows, or the columns, after those of the one before."""

    def __init__(self, reference: str, parts: Sequence[Checkpoint]) -> None:
        first = parts[0]
        self.reference, self.folder, self.format = reference, first.folder, first.format
        self.config: Mapping[str, Any] = first.config
        self.metadata = first.metadata
        self.files = {name: size for part in parts for name, size in part.files.items()}
        self.notes = tuple(note for part in parts for note in part.notes)
        self._parts = tuple(parts)
        self._width = _norm_width(first)
        self._axes = {name: self._axis(info) for name, info in first.tensors.items()}
        self.tensors = {name: self._whole(name, axis) for name, axis in self._axes.items()}
        if any(set(part.tensors) != set(self.tensors) for part in parts):
            raise self._misfit("the names of the tensors")

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        """Of all parts."""
        return sum(part.bytes_read for part in self._parts)

    def read(self, name: str, rows: Rows = None) -> Array:
        if name not in self.tensors:
            raise MissingTensorError(f"no tensor named {name}", where=self.reference)
        axis, n = self._axes[name], len(self._parts)
        if axis is None:
            return self._parts[0].read(name, rows)
        if axis == 1:
            return np.concatenate([part.read(name, rows) for part in self._parts], axis=1)
        wanted = resolve_rows(rows, self.tensors[name].shape[0], name)
        if wanted is None:
            return np.concatenate([part.read(name) for part in self._parts])
        each = self.tensors[name].shape[0] // n
        out: Array | None = None
        for number, part in enumerate(self._parts):
            place = np.flatnonzero(wanted // each == number)
            if len(place) or out is None:
                share = part.read(name, wanted[place] - number * each)
                out = np.empty((len(wanted), *share.shape[1:]), share.dtype) if out is None else out
                out[place] = share
        return out if out is not None else self._parts[0].read(name, wanted)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def _axis(self, info: TensorInfo) -> int | None:
        if len(info.shape) == 2 and _BY_ROWS.search(info.name):
            return 0
        if len(info.shape) == 2 and _BY_COLUMNS.search(info.name):
            return 1
        if len(info.shape) == 2 and _EMBEDDING.search(info.name):  # by columns up to Llama 2, by rows in Llama 3
            return 0 if info.shape[1] == self._width else 1
        return None

    def _whole(self, name: str, axis: int | None) -> TensorInfo:
        infos = [part.tensors.get(name) for part in self._parts]
        first = infos[0]
        if first is None or any(
            info is None or info.shape != first.shape or info.dtype != first.dtype for info in infos
        ):
            raise self._misfit(name)
        if axis is None:
            return first
        shape = tuple(size * len(infos) if place == axis else size for place, size in enumerate(first.shape))
        return replace(first, shape=shape, nbytes=first.nbytes * len(infos))

    def _misfit(self, what: str) -> CorruptFileError:
        return CorruptFileError(
            "the parts of the model do not fit together",
            where=self.reference,
            expected=f"{what} alike in {', '.join(self.files)}",
            got="a difference",
            next_step="fetch all parts again, of one model",
        )


def _norm_width(part: Checkpoint) -> int:
    """The width of the stream: norms are whole in every part."""
    norm = part.tensors.get("norm.weight")
    return norm.shape[0] if norm is not None and norm.shape else 0
