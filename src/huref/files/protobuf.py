"""Protocol-buffer messages, read field by field: for files of strangers, of which only a few fields matter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Buffer = TypeVar("Buffer", bytes, memoryview)


def fields(buffer: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    """Field number and value of a message: an integer, or a slice of the buffer, also for numbers of fixed width.

    Raises:
        ValueError, IndexError: bytes that are no message.
    """
    position = 0
    while position < len(buffer):
        key, position = _varint(buffer, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(buffer, position)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(wire, -1)
        if wire == 2:
            size, position = _varint(buffer, position)
        if size < 0 or position + size > len(buffer):
            raise ValueError(f"a field of {size} bytes at byte {position} of {len(buffer)}")
        yield key >> 3, buffer[position : position + size]
        position += size


def varints(buffer: bytes | memoryview) -> Iterator[int]:
    """The integers of a packed field.

    Raises:
        ValueError, IndexError: bytes that are none.
    """
    position = 0
    while position < len(buffer):
        value, position = _varint(buffer, position)
        yield value


def _varint(buffer: bytes | memoryview, position: int) -> tuple[int, int]:
    """An integer, seven bits a byte, and the position behind it."""
    value = shift = 0
    while True:
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {position}")
