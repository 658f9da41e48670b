"""Reading a GGUF header: key-values and tensor descriptions, each count checked before it is allocated.

Format: docs/gguf.md of the `ggml` project; versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.errors import CorruptFileError, InputError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource, describe_head

HEADER_LIMIT = 256 << 20
"""Bytes; a vocabulary of 262,144 tokens takes about 12 MB."""

CHUNK = 256 << 10
"""Bytes fetched at a time: the header does not say how long it is."""

_LISTS_LIMIT = 1 << 16
_DEPTH_LIMIT = 4
_AXES_LIMIT = 8
_SMALLEST_PAIR = 8 + 4 + 1
_SMALLEST_TENSOR = 8 + 4 + 4 + 8

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TensorEntry:
    """A tensor's description as written: axes fastest first, type number, offset in the data section."""

    name: str
    axes: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """Everything before the tensor data; `data_start` is where the data section begins."""

    metadata: dict[str, Any]
    entries: list[TensorEntry]
    data_start: int
    alignment: int


def parse_header(source: ByteSource) -> GgufHeader:
    """Parse a header.

    Numbers become int, float or bool; arrays of numbers numpy arrays; arrays of strings lists. Strings are
    UTF-8, with U+FFFD for bytes that are not, so that no later step trips over them.

    Raises:
        InputError: a version or byte order that is not supported.
        CorruptFileError: not GGUF, truncated, repeated keys or names, a value of unknown type.
        UnsafeFileError: counts or lengths that no honest file has.
    """
    cursor = _Cursor(source)
    _require_version(cursor)
    n_tensors, n_pairs = cursor.scalar("Q"), cursor.scalar("Q")
    cursor.require_room(n_tensors, _SMALLEST_TENSOR, "tensors")
    cursor.require_room(n_pairs, _SMALLEST_PAIR, "key-values")
    metadata: dict[str, Any] = {}
    for _ in range(n_pairs):
        key = cursor.string()
        if key in metadata:
            raise cursor.corrupt("a key occurs twice", "each key once", key)
        metadata[key] = cursor.value(cursor.scalar("I"))
    entries = [_parse_entry(cursor) for _ in range(n_tensors)]
    alignment = _alignment(cursor, metadata)
    return GgufHeader(metadata, entries, -(-cursor.position // alignment) * alignment, alignment)


def _require_version(cursor: _Cursor) -> None:
    if cursor.take(4) != b"GGUF":
        head = cursor.source.read(0, min(32, cursor.source.size))
        cursor.position = 0
        raise cursor.corrupt("not a GGUF file", "a file that starts with GGUF", describe_head(head))
    version = cursor.scalar("I")
    if version in (2, 3):
        return
    is_swapped = version & 0xFFFF == 0 and version != 0
    raise InputError(
        "a big-endian GGUF file" if is_swapped else f"GGUF version {version}",
        where=cursor.source.name,
        expected="little-endian GGUF, version 2 or 3",
        got="big-endian" if is_swapped else f"version {version}",
        next_step="convert the original checkpoint again with a current llama.cpp",
    )


def _parse_entry(cursor: _Cursor) -> TensorEntry:
    name = cursor.string()
    n_axes = cursor.scalar("I")
    if n_axes > _AXES_LIMIT:
        raise cursor.corrupt("impossible shape", f"at most {_AXES_LIMIT} axes for {name}", f"{n_axes} axes")
    axes = struct.unpack(f"<{n_axes}Q", cursor.take(8 * n_axes))
    return TensorEntry(name, axes, cursor.scalar("I"), cursor.scalar("Q"))


def _alignment(cursor: _Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
        raise cursor.corrupt("impossible alignment", "a power of two", repr(alignment)[:80])
    return alignment


class _Cursor:
    """A position in a header that is fetched as far as it is needed."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.position = 0
        self._buffer = bytearray()
        self._n_lists = 0

    def take(self, length: int) -> bytearray:
        """The next `length` bytes."""
        start, self.position = self.position, self._reach(self.position, length)
        return self._buffer[start : self.position]

    def scalar(self, code: str) -> Any:
        """The next number, by its struct code."""
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self.take(size))[0]

    def string(self) -> str:
        """The next string: a 64-bit length, then UTF-8."""
        return self.take(self.scalar("Q")).decode("utf-8", "replace")

    def value(self, type_id: int, depth: int = 0) -> Any:
        """The next value of a key or an array."""
        if type_id in _SCALARS:
            return self.scalar(_SCALARS[type_id])
        if type_id == _STRING:
            return self.string()
        if type_id == _ARRAY:
            return self._array(depth + 1)
        raise self.corrupt("a value of unknown type", "a type number from 0 to 12", str(type_id))

    def _array(self, depth: int) -> Any:
        type_id, count = self.scalar("I"), self.scalar("Q")
        self._n_lists += 1
        if depth > _DEPTH_LIMIT or self._n_lists > _LISTS_LIMIT:
            expected = f"arrays at most {_DEPTH_LIMIT} deep and {_LISTS_LIMIT} in all"
            raise self._unsafe("too many nested arrays", expected, f"depth {depth}, array {self._n_lists}")
        if type_id in _SCALARS:
            return self._numbers(_SCALARS[type_id], count)
        if type_id == _STRING:
            return self._strings(count)
        self.require_room(count, 12, "arrays in an array")
        return [self.value(type_id, depth) for _ in range(count)]

    def _numbers(self, code: str, count: int) -> np.ndarray:
        dtype = np.dtype("u1" if code == "?" else code).newbyteorder("<")
        self.require_room(count, dtype.itemsize, "numbers in an array")
        numbers = np.frombuffer(bytes(self.take(count * dtype.itemsize)), dtype)
        return numbers != 0 if code == "?" else numbers

    def _strings(self, count: int) -> list[str]:
        """Vocabularies have 10^5 strings and more, hence one flat loop."""
        self.require_room(count, 8, "strings in an array")
        strings: list[str] = []
        buffer, have, position = self._buffer, len(self._buffer), self.position
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(count):
            start = position + 8
            if start > have:
                self._reach(position, 8)
                have = len(buffer)
            (length,) = length_at(buffer, position)
            position = start + length
            if position > have:
                self._reach(start, length)
                have = len(buffer)
            strings.append(buffer[start:position].decode("utf-8", "replace"))
        self.position = position
        return strings

    def require_room(self, count: int, smallest: int, noun: str) -> None:
        """Refuse a count whose items, at their smallest, would not fit; nothing is allocated before."""
        if count * smallest > HEADER_LIMIT:
            expected = f"a header of at most {HEADER_LIMIT} bytes"
            raise self._unsafe("an absurd count", expected, f"{count} {noun}")
        if self.position + count * smallest > self.source.size:
            raise self.corrupt("the file is truncated", f"{count} {noun}", self._left())

    def _reach(self, start: int, length: int) -> int:
        """Fetch up to `start + length` and return that position."""
        end = start + length
        if end <= len(self._buffer):
            return end
        if end > HEADER_LIMIT:
            expected = f"a header of at most {HEADER_LIMIT} bytes"
            raise self._unsafe("an absurd length", expected, f"an item of {length} bytes")
        if end > self.source.size:
            raise self.corrupt("the file is truncated", f"an item of {length} bytes", self._left())
        have = len(self._buffer)
        self._buffer += self.source.read(have, min(max(end - have, CHUNK), self.source.size - have))
        return end

    def _left(self) -> str:
        return f"{self.source.size - self.position} bytes left in the file"

    def corrupt(self, what: str, expected: str, got: str) -> CorruptFileError:
        """An error at the present position."""
        where = f"{self.source.name}, byte {self.position}"
        return CorruptFileError(what, where=where, expected=expected, got=got, next_step=FETCH_AGAIN)

    def _unsafe(self, what: str, expected: str, got: str) -> UnsafeFileError:
        return UnsafeFileError(
            what,
            where=f"{self.source.name}, byte {self.position}",
            expected=expected,
            got=got,
            next_step="do not use this file; fetch it again if you trust its publisher",
        )
