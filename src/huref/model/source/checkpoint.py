"""What every checkpoint looks like to the rest of huref, whatever its file format.

A checkpoint is a set of named tensors that can be read whole or by rows, plus the configuration and the
key-values that came with it. Formats are modules beside this one; they know bytes and not model families.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from huref.numerics.arrays import Array

Rows = np.ndarray | slice | None
"""Which rows (first axis) to read: an array of int64 indices in any order, a slice, or None for all."""


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor, before any of its bytes are read.

    Attributes:
        name: the name in the file.
        shape: row-major shape, as numpy writes it (GGUF's reversed order is undone).
        dtype: the stored type, in the file format's own spelling: `F32`, `BF16`, `Q4_1`, ...
        nbytes: stored size in bytes.
        file: the shard that holds it, relative to the checkpoint's folder.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    file: str


class Checkpoint(abc.ABC):
    """Named lazy tensors. Use as a context manager; `read` costs the bytes it needs and counts them.

    Attributes:
        reference: what the user wrote.
        folder: the directory in which sibling files (tokenizer, configuration) are looked up.
        format: `safetensors`, `pickle` or `gguf`.
        config: the parsed `config.json`; empty when there is none.
        metadata: GGUF key-values, or the safetensors header's `__metadata__`; empty otherwise.
        tensors: every stored tensor by name, in file order.
        files: weight files with their sizes in bytes, relative to `folder`.
        bytes_read: bytes of weight files asked for so far, headers included.
        tokenizer: a folder or a GGUF file whose tokenizer to take where there is none here.
        notes: what to tell of the way it was found: files and tables that were passed over.
    """

    reference: str
    folder: Path
    format: str
    config: Mapping[str, Any]
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    files: Mapping[str, int]
    bytes_read: int
    tokenizer: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The weight files, in the order of `files`."""
        return tuple(self.folder / name for name in self.files)

    @property
    def bytes_total(self) -> int:
        """Size of all weight files in bytes."""
        return sum(self.files.values())

    @abc.abstractmethod
    def read(self, name: str, rows: Rows = None) -> Array:
        """Read one tensor, or some of its rows, from disk.

        Floating tensors keep their stored type (F16, BF16 of ml_dtypes, F32, F64; F8 becomes float32);
        block-quantised ones are dequantised to float32. The result owns its memory: no map of the file is kept alive.

        Args:
            name: a key of `tensors`.
            rows: which rows; the result's first axis has their number and order.

        Raises:
            MissingTensorError: no such tensor.
            CorruptFileError: the file ends before the tensor does, or an index is out of range.
        """

    def read_table(self, name: str, rows: Rows = None) -> Array:
        """The same with all axes but the last counted as rows: (experts, out, in) is read as (experts x out, in).

        Raises:
            MissingTensorError: no such tensor.
            CorruptFileError: the file ends before the tensor does, or an index is out of range.
        """
        whole = self.read(name)
        table = whole.reshape(-1, whole.shape[-1])
        return table if rows is None else np.array(table[rows])

    def announce(self, names: Iterable[str]) -> None:  # noqa: B027 (only what is far away profits)
        """Say which tensors will be read soon, whole and in that order."""

    def bounds(self, names: Iterable[str]) -> Checkpoint | None:  # noqa: ARG002 (where nothing is packed)
        """The same names, with how far each value may lie from what it was rounded from in the place of the value.

        None where the stored types of all of `names` say it (`huref.numerics.rounding`).
        """
        return None

    def close(self) -> None:  # noqa: B027 (a checkpoint in memory has nothing to release)
        """Release file handles."""

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
