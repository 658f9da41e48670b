"""Where bytes come from. One class per transport; everything above asks for (offset, length) only."""

from __future__ import annotations

import abc
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from huref.errors import CorruptFileError, InputError
from huref.model.source.place import missing_file

Piece = tuple[int, memoryview]
"""An offset in the file and the caller's buffer to fill from there."""

_counting = threading.Lock()
"""Two threads may read one file."""

FETCH_AGAIN = "fetch the file again and compare its size and checksum with the publisher's"


class ByteSource(abc.ABC):
    """A file of known size that can be read at any offset, into the caller's memory.

    Attributes:
        name: the file's name relative to its folder, for messages.
        size: bytes in the file.
        bytes_read: bytes asked for so far.
        total_read: the same of all files of this process.
    """

    name: str
    size: int
    bytes_read: int = 0
    total_read: ClassVar[int] = 0

    @abc.abstractmethod
    def _fill(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; the range has been checked against `size`."""

    def read_into(self, pieces: Iterable[Piece]) -> None:
        """Fill every buffer. A transport with latency can override this to overlap the requests.

        Raises:
            CorruptFileError: a piece reaches beyond the end of the file.
        """
        for offset, buffer in pieces:
            length = len(buffer)
            if offset < 0 or offset + length > self.size:
                raise _beyond_the_end(self, offset, length)
            self._fill(offset, buffer)
            with _counting:
                self.bytes_read += length
                ByteSource.total_read += length

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes; nothing is allocated before the range is checked.

        Raises:
            CorruptFileError: the range reaches beyond the end of the file.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise _beyond_the_end(self, offset, length)
        buffer = bytearray(length)
        self.read_into([(offset, memoryview(buffer))])
        return bytes(buffer)

    def close(self) -> None:  # noqa: B027 not every transport holds something
        """Release what the transport holds."""


class LocalFile(ByteSource):
    """A file on disk, read by position. It is not mapped, so resident memory is what callers hold."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.name = name or path.name
        try:
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise missing_file(path) from error
        except OSError as error:
            raise _unreadable(self.name, error) from error
        self._descriptor = self._file.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def _fill(self, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            try:
                count = self._read_at(offset + done, buffer[done:])
            except OSError as error:
                raise _unreadable(self.name, error) from error
            if count == 0:  # the file shrank after it was opened
                raise _beyond_the_end(self, offset, len(buffer))
            done += count

    def _read_at(self, offset: int, buffer: memoryview) -> int:
        if sys.platform == "win32":
            with _counting:
                self._file.seek(offset)
                return self._file.readinto(buffer) or 0
        return os.preadv(self._descriptor, (buffer,), offset)

    def close(self) -> None:
        self._file.close()


def describe_head(head: bytes) -> str:
    """Say what a file that is not what it claims to be looks like, from its first bytes."""
    for start, meaning in _HEADS.items():
        if head.startswith(start):
            return meaning
    return f"a file that starts with {head[:8].hex(' ')}" if head else "an empty file"


_HEADS = {
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull`",
    b"<": "a web page or XML, perhaps a saved error page",
    b"GGUF": "a GGUF file",
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x80": "a pickle",
}


def _beyond_the_end(source: ByteSource, offset: int, length: int) -> CorruptFileError:
    return CorruptFileError(
        "the file ends before the data it announces",
        where=f"{source.name}, byte {offset}",
        expected=f"{length} bytes there",
        got=f"a file of {source.size} bytes",
        next_step=FETCH_AGAIN,
    )


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(
        "the file cannot be read",
        where=name,
        expected="a regular file that this user may read",
        got=error.strerror or type(error).__name__,
        next_step="check its permissions and the disk",
    )
