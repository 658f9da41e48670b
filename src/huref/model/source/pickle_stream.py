"""The bytes that a pickle is read from: bounded before anything is allocated, long strings passed over unread."""

from __future__ import annotations

from dataclasses import dataclass

from huref.errors import UnsafeFileError
from huref.model.source.byte_source import ByteSource

_PAGE = 4096


@dataclass(frozen=True)
class Window:
    """A byte string or a long text that was passed over: where it lies in the source."""

    offset: int
    length: int


class PickleStream:
    """A source as the stream that a pickle is read from.

    Args:
        source: the file, or what holds the pickle.
        limit: bytes that may be read, one pickle after the other; what is skipped does not count.

    Attributes:
        where: the source's name, for messages.
        position: of the next byte.
    """

    def __init__(self, source: ByteSource, limit: int) -> None:
        self.where, self.position = source.name, 0
        self._source, self._limit = source, limit
        self._page, self._page_start, self._used = b"", 0, 0

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            EOFError: there are not so many.
            UnsafeFileError: more than the limit with those before.
        """
        left = self._source.size - self.position
        if size > left:
            raise EOFError(f"{size} bytes announced at byte {self.position}, {left} left")
        self._used += size
        if self._used > self._limit:
            raise UnsafeFileError(
                "the pickle's description is too large",
                where=self.where,
                expected=f"at most {self._limit} bytes besides arrays and long texts",
                got="more",
                next_step="distrust this file, or use a safetensors copy",
            )
        start = self.position - self._page_start
        if not 0 <= start <= len(self._page) - size:
            self._page = self._source.read(self.position, min(max(size, _PAGE), left))
            self._page_start, start = self.position, 0
        self.position += size
        return self._page[start : start + size]

    def readline(self) -> bytes:
        """The next bytes up to a line feed, with it."""
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)

    def skip(self, length: int) -> Window:
        """Pass over the next bytes, which are not read.

        Raises:
            EOFError: there are not so many.
        """
        left = self._source.size - self.position
        if length > left:
            raise EOFError(f"{length} bytes announced at byte {self.position}, {left} left")
        self.position += length
        return Window(self.position - length, length)
