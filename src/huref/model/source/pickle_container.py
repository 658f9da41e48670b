"""Where torch.save put things: the zip container of today and the plain stream of torch before 1.6."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huref.errors import CorruptFileError, InputError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource, describe_head
from huref.model.source.pickle_records import BYTES, StorageRecord, checkpoint_rules
from huref.model.source.pickle_rules import PickleRules
from huref.model.source.pickle_stream import PickleStream
from huref.model.source.restricted_pickle import unpickle

PICKLE_LIMIT = 32 << 20
"""Bytes of pickled description; 300 bytes a tensor is usual."""

Rules = Callable[[dict[str, StorageRecord]], PickleRules]
"""Makes the rules under which the pickled object is read, and which fill the dictionary."""

_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass(frozen=True)
class Container:
    """A checkpoint's pickled object and the place of each storage: key to (offset, bytes)."""

    root: Any
    places: Mapping[str, tuple[int, int]]


def read_container(source: ByteSource, rules: Rules = checkpoint_rules) -> Container:
    """Read the description of the tensors; no tensor data.

    Args:
        rules: for the pickled object.

    Raises:
        UnsafeFileError: the pickle names anything but data, or is absurdly large.
        CorruptFileError: truncated, or not a torch checkpoint.
        InputError: written on a big-endian machine.
    """
    if source.read(0, min(4, source.size)) == b"PK\x03\x04":
        return _read_zip(source, rules)
    return _read_stream(source, rules)


def _read_zip(source: ByteSource, rules: Rules) -> Container:
    with _zip_errors(source), zipfile.ZipFile(_SourceStream(source)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise _corrupt(source, "each entry of the archive once", "an entry that occurs twice")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _corrupt(source, "one entry data.pkl in the archive", f"{len(pickles)} of them")
        prefix = pickles[0].removesuffix("data.pkl")
        if (mark := entries.get(f"{prefix}byteorder")) and _entry_bytes(source, archive, mark) != b"little":
            raise _big_endian(source)
        pickled = _Held(_entry_bytes(source, archive, entries[pickles[0]]), source.name)
        storages: dict[str, StorageRecord] = {}
        root = unpickle(PickleStream(pickled, PICKLE_LIMIT), rules(storages))
        places = {key: _zip_place(source, entries.get(f"{prefix}data/{key}"), key) for key in storages}
    return Container(root, places)


def _entry_bytes(source: ByteSource, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    _require_small(source, entry.file_size)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _corrupt(source, "entries stored without compression", f"{entry.filename} is compressed")
    return archive.read(entry)


def _zip_place(source: ByteSource, entry: zipfile.ZipInfo | None, key: str) -> tuple[int, int]:
    """Only the entry's own header says how long that header is."""
    if entry is None or entry.compress_type != zipfile.ZIP_STORED:
        raise _corrupt(source, f"storage {key}, uncompressed", "no such entry" if entry is None else "compressed")
    mark, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(source.read(entry.header_offset, _LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if mark != b"PK\x03\x04" or start + entry.file_size > source.size:
        raise _corrupt(source, f"storage {key}: {entry.file_size} bytes", f"no such entry at byte {start}")
    return start, entry.file_size


def _read_stream(source: ByteSource, rules: Rules) -> Container:
    """Magic number, protocol, machine, object, list of storage keys: five pickles; then the storages."""
    head = source.read(0, min(32, source.size))
    if not head.startswith(b"\x80"):
        raise _corrupt(source, "a zip archive or a pickle, as torch.save writes", describe_head(head))
    stream, plain = PickleStream(source, PICKLE_LIMIT), checkpoint_rules({})
    magic = unpickle(stream, plain)
    if magic != _MAGIC:
        raise _corrupt(source, "torch's magic number first", str(type(magic).__name__))
    unpickle(stream, plain)
    machine = unpickle(stream, plain)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise _big_endian(source)
    storages: dict[str, StorageRecord] = {}
    root = unpickle(stream, rules(storages))
    keys = unpickle(stream, plain)
    if not isinstance(keys, list):
        raise _corrupt(source, "a list of storage keys", type(keys).__name__)
    return Container(root, _stream_places(source, stream.position, keys, storages))


def _stream_places(
    source: ByteSource, position: int, keys: list[Any], storages: Mapping[str, StorageRecord]
) -> dict[str, tuple[int, int]]:
    """Storages follow each other, each after its number of elements in 8 bytes."""
    places: dict[str, tuple[int, int]] = {}
    for name in keys:
        key = str(name) if isinstance(name, str | int) else ""
        storage = storages.get(key)
        count = int.from_bytes(source.read(position, 8), "little")
        if storage is None or storage.count != count or storage.dtype not in BYTES:
            raise _corrupt(source, f"storage {key} with {storage and storage.count} elements", f"{count}")
        places[key] = (position + 8, count * BYTES[storage.dtype])
        position = sum(places[key])
    if position > source.size:
        raise _corrupt(source, f"{position} bytes", f"{source.size} bytes: the file is truncated")
    if missing := [key for key in storages if key not in places]:
        raise _corrupt(source, f"storage {missing[0]}", "no such storage in the file")
    return places


class _Held(ByteSource):
    """Bytes that were read, as a file."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self.size, self.name = data, len(data), name

    def _fill(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self._data[offset : offset + len(buffer)]


class _SourceStream(io.RawIOBase):
    """A byte source as the seekable stream that zipfile wants; no read exceeds the limit."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._end = source.size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        if base + offset < 0:
            raise ValueError("seek to before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._end - self._position, 0)
        length = left if size < 0 else min(size, left)
        _require_small(self._source, length)
        data = self._source.read(self._position, length)
        self._position += length
        return data


@contextmanager
def _zip_errors(source: ByteSource) -> Iterator[None]:
    """Everything zipfile is known to raise on damaged archives, as huref's own error."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        struct.error,
        ValueError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        raise _corrupt(source, "an intact zip archive", f"{type(error).__name__}: {error}"[:200]) from error


def _require_small(source: ByteSource, length: int) -> None:
    if length > PICKLE_LIMIT:
        raise UnsafeFileError(
            "the checkpoint's description is too large",
            where=source.name,
            expected=f"at most {PICKLE_LIMIT} bytes besides the tensors",
            got=f"{length} bytes",
            next_step="use a safetensors or GGUF copy of the model",
        )


def _big_endian(source: ByteSource) -> InputError:
    return InputError(
        "a checkpoint written on a big-endian machine",
        where=source.name,
        expected="little-endian data",
        got="another byte order",
        next_step="load it with torch and save it as safetensors",
    )


def _corrupt(source: ByteSource, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "not a readable torch checkpoint",
        where=source.name,
        expected=expected,
        got=got,
        next_step=FETCH_AGAIN,
    )
