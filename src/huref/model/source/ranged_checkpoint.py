"""A checkpoint whose tensors are plain byte ranges of its files. All formats so far are of this kind."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from huref.errors import CorruptFileError, InputError, MissingTensorError, UsageError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource, open_source
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.model.source.file_set import FileSet
from huref.model.source.rows import RowTable, resolve_rows
from huref.numerics.arrays import Array, Floats, array_dtype, float32

_AT_ONCE = 1 << 18
"""Values that are looked up together."""

_EIGHT_BIT_FLOATS = ("F8_E4M3", "F8_E5M2", "F8_E8M0")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and where its bytes are: `info.nbytes` of them from `offset`, row-major."""

    info: TensorInfo
    source: ByteSource
    offset: int


@dataclass(frozen=True)
class Shard:
    """One opened weight file: its tensors in file order, the key-values of its header, and what to tell of it."""

    source: ByteSource
    tensors: Sequence[StoredTensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class RangedCheckpoint(Checkpoint):
    """Shards, merged under one set of names. A format subclasses this and may override `decode`.

    Args:
        reference: what the user wrote.
        files: the checkpoint's files.
        shards: the opened files, in the order of `files.names`.
        config: the parsed `config.json`.

    Raises:
        MissingTensorError: the index lists a tensor that its shard lacks.
        UsageError: two files without an index hold the same tensor.
        CorruptFileError: there is no tensor at all.
    """

    def __init__(self, reference: str, files: FileSet, shards: Sequence[Shard], config: Mapping[str, Any]) -> None:
        self.reference = reference
        self.folder = files.folder
        self.config = config
        self.metadata = shards[0].metadata
        self.notes = tuple(note for shard in shards for note in shard.notes)
        self.files = {shard.source.name: shard.source.size for shard in shards}
        self._sources = [shard.source for shard in shards]
        self._stored = _merge(shards, files)
        self.tensors = {name: stored.info for name, stored in self._stored.items()}
        self._count()

    def read(self, name: str, rows: Rows = None) -> Array:
        stored = self._find(name)
        info = stored.info
        self.require_decodable(info)
        if rows is not None and not info.shape:
            raise TypeError(f"{name} is a single number and has no rows")
        wanted = resolve_rows(rows, info.shape[0], name) if info.shape else None
        if wanted is None:
            whole = RowTable(stored.source, stored.offset, 1, info.nbytes)
            return self._counted(info, whole.gather(None), info.shape)
        if len(info.shape) == 1 and array_dtype(info.dtype) is None:
            values: Array = self.read(name)[wanted]  # blocks span rows of one value each
            return values
        n_rows = info.shape[0]
        table = RowTable(stored.source, stored.offset, n_rows, info.nbytes // max(n_rows, 1))
        return self._counted(info, table.gather(wanted), (len(wanted), *info.shape[1:]))

    def read_table(self, name: str, rows: Rows = None) -> Array:
        stored = self._find(name)
        info, n_rows = stored.info, math.prod(stored.info.shape[:-1])
        wanted = resolve_rows(rows, n_rows, name)
        if wanted is None or type(stored) is not StoredTensor:  # a format's own layout
            return super().read_table(name, rows)
        self.require_decodable(info)
        table = RowTable(stored.source, stored.offset, n_rows, info.nbytes // max(n_rows, 1))
        return self._counted(info, table.gather(wanted), (len(wanted), info.shape[-1]))

    def announce(self, names: Iterable[str]) -> None:
        spans: dict[ByteSource, list[tuple[int, int]]] = {}
        for stored in (self._stored[name] for name in names if name in self._stored):
            spans.setdefault(stored.source, []).append((stored.offset, stored.info.nbytes))
        for source, some in spans.items():
            source.announce(some)

    def require_decodable(self, info: TensorInfo) -> None:
        """Raise InputError when `decode` cannot read this type; called before any byte is read."""
        if array_dtype(info.dtype) is None:
            raise InputError(
                f"stored type {info.dtype} is not supported",
                where=f"{info.file}, tensor {info.name}",
                expected="a floating type, or a quantisation of GGUF",
                got=info.dtype,
                next_step="convert the checkpoint to BF16, F16 or F32",
            )

    def decode(self, info: TensorInfo, raw: np.ndarray, shape: tuple[int, ...]) -> Array:
        """Turn stored bytes, (rows, row_bytes) uint8, into an array of `shape` that owns them."""
        dtype = array_dtype(info.dtype)
        if dtype is None:
            raise TypeError(f"{info.dtype} was let through by require_decodable")
        if dtype == np.bool_:  # any byte may be in the file; only 0 and 1 are valid in memory
            flags: Array = np.not_equal(raw, 0).reshape(shape)
            return flags
        if info.dtype in _EIGHT_BIT_FLOATS:
            return _looked_up(dtype, raw.reshape(-1)).reshape(shape)
        array: Array = raw.reshape(-1).view(dtype).reshape(shape)
        return array

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def _find(self, name: str) -> StoredTensor:
        if (stored := self._stored.get(name)) is not None:
            return stored
        near = difflib.get_close_matches(name, self._stored, 1)
        raise MissingTensorError(
            f"no tensor named {name}",
            where=self.reference,
            expected=name,
            got=f"{len(self._stored)} other tensors" + (f"; the nearest name is {near[0]}" if near else ""),
            next_step="check that the checkpoint is complete and of the family its configuration says",
        )

    def _counted(self, info: TensorInfo, raw: np.ndarray, shape: tuple[int, ...]) -> Array:
        self._count()
        return self.decode(info, raw, shape)

    def _count(self) -> None:
        self.bytes_read = sum(source.bytes_read for source in self._sources)


def _looked_up(dtype: np.dtype[Any], raw: Array) -> Floats:
    """Eight-bit floats as float32: looked up, in a tenth of the time of converting each, some at a time."""
    table = float32(np.arange(256, dtype=np.uint8).view(dtype))
    out = np.empty(len(raw), np.float32)
    for start in range(0, len(raw), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        np.take(table, raw[here], out=out[here], mode="clip")
    return out


def open_all(
    files: FileSet, parse: Callable[[ByteSource], Shard], build: Callable[[list[Shard]], RangedCheckpoint]
) -> RangedCheckpoint:
    """Open every file of the set, parse its header, and build the checkpoint; on failure none is left open."""
    with ExitStack() as opened:
        shards = []
        for name in files.names:
            source = open_source(files.folder / name, name)
            opened.callback(source.close)
            shards.append(parse(source))
        checkpoint = build(shards)
        opened.pop_all()
    return checkpoint


def element_count(shape: Sequence[int], where: str) -> int:
    """Number of elements of a hostile shape.

    Raises:
        CorruptFileError: more than 64 axes, a negative or huge axis: numpy could not hold such an array.
    """
    if len(shape) > 64 or any(size < 0 for size in shape) or math.prod(max(size, 1) for size in shape) >> 60:
        raise CorruptFileError(
            "impossible shape",
            where=where,
            expected="at most 64 non-negative sizes with fewer than 2^60 elements",
            got=str(list(shape[:8])) + (" ..." if len(shape) > 8 else ""),
            next_step=FETCH_AGAIN,
        )
    return math.prod(shape)


def _merge(shards: Sequence[Shard], files: FileSet) -> dict[str, StoredTensor]:
    merged: dict[str, StoredTensor] = {}
    for stored in (tensor for shard in shards for tensor in shard.tensors):
        name = stored.info.name
        if name not in merged or files.listed.get(name) == stored.info.file:
            merged[name] = stored
        elif name not in files.listed:
            raise _stored_twice(name, merged[name].info.file, stored.info.file, files)
    for name, file in files.listed.items():
        if name not in merged or merged[name].info.file != file:
            raise MissingTensorError(
                f"tensor {name} is not in the shard that should hold it",
                where=str(files.folder / file),
                expected=f"{name}, as the index lists it",
                got=f"it is in {merged[name].info.file}" if name in merged else "no such tensor in any shard",
                next_step="fetch the index and the shards again, all from one revision",
            )
    if not merged:
        raise CorruptFileError(
            "the checkpoint holds no tensors",
            where=str(files.folder / files.names[0]),
            expected="named weight tensors",
            got="none",
            next_step="check that this is a model's weight file",
        )
    return merged


def _stored_twice(name: str, first: str, second: str, files: FileSet) -> UsageError:
    return UsageError(
        "two weight files of the folder hold the same tensor, and no index says which counts",
        where=str(files.folder),
        expected="one model in the folder, or an index",
        got=f"{name} in {first} and in {second}",
        next_step=f"name the file itself, for example {files.folder / first}",
    )
