"""torch.save checkpoints: `.bin`, `.pt`, `.pth`, `.ckpt`. Nothing in them is run; only tensors asked for are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.errors import CorruptFileError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.model.source.file_set import FileSet, file_set_of, find_file_set
from huref.model.source.json_file import read_config
from huref.model.source.nests import find_state_dict
from huref.model.source.pickle_container import Container, read_container
from huref.model.source.pickle_records import BYTES, TensorRecord
from huref.model.source.ranged_checkpoint import RangedCheckpoint, Shard, StoredTensor, element_count, open_all
from huref.model.source.rows import RowTable, resolve_rows
from huref.numerics.arrays import Array

NAME = "pickle"
PREFERENCE = 3
EXTENSIONS = (".bin", ".pt", ".pth", ".ckpt", ".bin.index.json")

_NOT_THE_MODEL = (
    "(optimizer|scheduler|scaler|training|trainer|rng|.*optim_states|optim|random_states|imatrix|adapter_model)"
)


@dataclass(frozen=True)
class StridedTensor(StoredTensor):
    """A tensor whose elements are not in row-major order, such as a transposed view.

    Attributes:
        strides: steps between neighbours along each axis, in elements.
        span_bytes: bytes from the first element to the end of the last.
    """

    strides: tuple[int, ...]
    span_bytes: int


class PickleCheckpoint(RangedCheckpoint):
    """Tensors of one or more torch.save files."""

    format = NAME

    def read(self, name: str, rows: Rows = None) -> Array:
        stored = self._stored.get(name)
        if not isinstance(stored, StridedTensor):
            return super().read(name, rows)
        self.require_decodable(stored.info)
        _require_no_repeats(stored)
        wanted = resolve_rows(rows, stored.info.shape[0], name)
        raw = RowTable(stored.source, stored.offset, 1, stored.span_bytes).gather(None)
        flat = self._counted(stored.info, raw, (stored.span_bytes // BYTES[stored.info.dtype],))
        steps = [stride * flat.itemsize for stride in stored.strides]
        view = np.lib.stride_tricks.as_strided(flat, stored.info.shape, steps)
        return np.array(view if wanted is None else view[wanted], order="C")


def find(folder: Path) -> FileSet | None:
    """The folder's torch.save weights, or None; optimizer and trainer states are not weights."""
    return find_file_set(folder, EXTENSIONS[:4], ("pytorch_model", "model", "consolidated"), _NOT_THE_MODEL)


def file_set(path: Path) -> FileSet:
    """The shards that the file, or index, belongs to."""
    return file_set_of(path)


def open_files(reference: str, files: FileSet) -> Checkpoint:
    """Open the shards and read their descriptions; no tensor is read."""
    config = read_config(files.folder)
    return open_all(files, parse_shard, lambda shards: PickleCheckpoint(reference, files, shards, config))


def parse_shard(source: ByteSource) -> Shard:
    """Find the state dictionary and where its tensors lie; entries that are not tensors are passed over.

    Raises:
        UnsafeFileError: the pickle names anything but data.
        CorruptFileError: truncated, not a torch checkpoint, or a tensor outside its storage.
    """
    container = read_container(source)
    records, kinds, notes = find_state_dict(container.root, source.name)
    tensors = [locate(source, container, name, record) for name, record in records.items()]
    metadata = {name: json.dumps({"_type": kind}) for name, kind in kinds.items()}
    return Shard(source, tensors, metadata, notes)


def locate(source: ByteSource, container: Container, name: str, record: TensorRecord) -> StoredTensor:
    """Where a tensor of the container lies.

    Raises:
        CorruptFileError: its description contradicts the file.
    """
    where = f"{source.name}, tensor {name}"
    storage, shape, strides = record.storage, record.shape, record.strides
    numbers = (record.offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(number) is not int or number < 0 for number in numbers):
        raise contradiction(where, "an offset, a shape and strides", str(numbers)[:80])
    if record.dtype not in BYTES or storage.dtype not in BYTES:
        raise contradiction(where, "a known element type", str(record.dtype)[:80])
    item = BYTES[record.dtype]
    count = element_count(shape, where)
    span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
    place, place_bytes = container.places[storage.key]
    if (record.offset + span) * item > min(place_bytes, storage.count * BYTES[storage.dtype]):
        raise contradiction(where, f"elements within {place_bytes} bytes", f"up to {(record.offset + span) * item}")
    info = TensorInfo(name, shape, record.dtype, count * item, source.name)
    start = place + record.offset * item
    if count == 0 or _is_row_major(shape, strides):
        return StoredTensor(info, source, start)
    return StridedTensor(info, source, start, strides, span * item)


def _is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _require_no_repeats(stored: StridedTensor) -> None:
    """A view with stride 0 can claim any size from a few bytes."""
    if stored.info.nbytes > stored.source.size:
        raise UnsafeFileError(
            "a tensor that is larger than its file",
            where=f"{stored.source.name}, tensor {stored.info.name}",
            expected=f"at most {stored.source.size} bytes",
            got=f"{stored.info.nbytes} bytes, by repeating elements",
            next_step="load it with torch and save it as safetensors, if you trust it",
        )


def contradiction(where: str, expected: str, got: str) -> CorruptFileError:
    """The error for a tensor that cannot lie where the file says."""
    return CorruptFileError(
        "a tensor's description contradicts the file",
        where=where,
        expected=expected,
        got=got,
        next_step=FETCH_AGAIN,
    )
