"""safetensors: an 8-byte length, a JSON header, then the tensors' bytes without gaps.

Format: the README of the `safetensors` project. The header is parsed here rather than by that library so that
every byte read is counted, and so that one parser serves local and, later, remote files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from huref.errors import CorruptFileError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource, describe_head
from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.file_set import FileSet, file_set_of, find_file_set
from huref.model.source.json_file import parse_object, read_config
from huref.model.source.ranged_checkpoint import RangedCheckpoint, Shard, StoredTensor, element_count, open_all

NAME = "safetensors"
PREFERENCE = 1
EXTENSIONS = (".safetensors", ".safetensors.index.json")

HEADER_LIMIT = 100_000_000
"""Bytes; the format's own limit."""

_BITS = {
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class SafetensorsCheckpoint(RangedCheckpoint):
    """Tensors of one or more safetensors files; `metadata` is the first header's `__metadata__`."""

    format = NAME


def find(folder: Path) -> FileSet | None:
    """The folder's safetensors weights, or None."""
    return find_file_set(
        folder, EXTENSIONS[:1], ("model", "consolidated"), ignored="(optimizer|training|rng|adapter_model)"
    )


def file_set(path: Path) -> FileSet:
    """The shards that the file, or index, belongs to."""
    return file_set_of(path)


def open_files(reference: str, files: FileSet) -> Checkpoint:
    """Open the shards and check their headers; no tensor is read."""
    config = read_config(files.folder)
    return open_all(files, parse_shard, lambda shards: SafetensorsCheckpoint(reference, files, shards, config))


def parse_shard(source: ByteSource) -> Shard:
    """Parse and check a header.

    Raises:
        CorruptFileError: a header that is not JSON or contradicts itself or the file's size.
        UnsafeFileError: a header larger than the format allows.
    """
    header, start = _read_header(source)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _contradiction(source, "__metadata__", "an object of strings", type(metadata).__name__)
    tensors = [_parse_entry(source, name, entry, start) for name, entry in header.items()]
    tensors.sort(key=lambda stored: (stored.offset, stored.info.nbytes))
    _require_seamless(source, tensors, start)
    return Shard(source, tensors, metadata)


def _read_header(source: ByteSource) -> tuple[dict[str, Any], int]:
    """The parsed header, and where the data start."""
    head = source.read(0, min(8, source.size))
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > source.size - 8:
        raise CorruptFileError(
            "the header is longer than the file",
            where=source.name,
            expected="a safetensors header, its length in the first 8 bytes",
            got=f"{source.size} bytes, {describe_head(source.read(0, min(32, source.size)))}",
            next_step=FETCH_AGAIN,
        )
    if length > HEADER_LIMIT:
        raise UnsafeFileError(
            "the header is too large",
            where=source.name,
            expected=f"at most {HEADER_LIMIT} bytes, the limit of the format",
            got=f"{length} bytes",
            next_step="do not use this file; fetch it again if you trust its publisher",
        )
    return parse_object(source.read(8, length), f"header of {source.name}", allow_repeats=False), 8 + length


def _parse_entry(source: ByteSource, name: str, entry: Any, start: int) -> StoredTensor:
    where = f"{source.name}, tensor {name}"
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, span = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (isinstance(dtype, str) and _is_integers(shape) and _is_integers(span) and len(span) == 2):
        raise _contradiction(source, name, "dtype, shape and data_offsets", str(entry)[:80])
    begin, end = span
    bits = element_count(shape, where) * _BITS.get(dtype, 0)
    # The size of an unknown type cannot be checked; such a tensor is refused only when it is read.
    if not 0 <= begin <= end or (dtype in _BITS and bits != 8 * (end - begin)):
        raise _contradiction(source, name, f"{bits / 8:g} bytes for {dtype} {shape}", f"data_offsets {span}")
    info = TensorInfo(name, tuple(shape), dtype, end - begin, source.name)
    return StoredTensor(info, source, start + begin)


def _require_seamless(source: ByteSource, tensors: list[StoredTensor], start: int) -> None:
    """The format has neither holes nor overlaps nor bytes after the last tensor."""
    for stored in tensors:
        if stored.offset != start:
            got = f"byte {stored.offset}, which {'overlaps' if stored.offset < start else 'leaves a hole after'}"
            raise _contradiction(source, stored.info.name, f"data from byte {start}", f"{got} the tensor before")
        start += stored.info.nbytes
    if start != source.size:
        raise CorruptFileError(
            "the file is truncated" if start > source.size else "the file has bytes that no tensor owns",
            where=source.name,
            expected=f"{start} bytes",
            got=f"{source.size} bytes",
            next_step=FETCH_AGAIN,
        )


def _is_integers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _contradiction(source: ByteSource, name: str, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "the header contradicts itself",
        where=f"{source.name}, tensor {name}" if name != "__metadata__" else f"{source.name}, {name}",
        expected=expected,
        got=got,
        next_step=FETCH_AGAIN,
    )
