"""Where bytes come from. One class per transport; everything above asks for (offset, length) only."""

from __future__ import annotations

import abc
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from huref.errors import CorruptFileError, InputError, MissingFileError

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
                raise beyond_the_end(self, offset, length)
            self._fill(offset, buffer)
            self._count_read(length)

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes; nothing is allocated before the range is checked.

        Raises:
            CorruptFileError: the range reaches beyond the end of the file.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise beyond_the_end(self, offset, length)
        buffer = bytearray(length)
        self.read_into([(offset, memoryview(buffer))])
        return bytes(buffer)

    def announce(self, spans: Iterable[tuple[int, int]]) -> None:  # noqa: B027 a disk is near enough
        """Say which spans (offset, length) will be read soon, in that order: one with latency may begin to fetch."""

    def close(self) -> None:  # noqa: B027 not every transport holds something
        """Release what the transport holds."""

    def _count_read(self, length: int) -> None:
        with _counting:
            self.bytes_read += length
            ByteSource.total_read += length


@dataclass(frozen=True)
class StandIn:
    """A file elsewhere that a small file on this disk stands for.

    Attributes:
        open: its bytes, under the name that messages use.
        size: bytes of the file.
        sha256: of its contents, hexadecimal, where whoever published it says so.
    """

    open: Callable[[str], ByteSource]
    size: int
    sha256: str | None


STAND_INS: dict[str, StandIn] = {}
"""By absolute path. Only what was found in this process is in it: a file on disk cannot make itself one."""


def open_source(path: Path, name: str = "") -> ByteSource:
    """A file of this machine, or the one elsewhere that it stands for.

    Raises:
        MissingFileError: nothing there.
        InputError: not a file that can be read.
    """
    found = STAND_INS.get(os.path.abspath(path)) if STAND_INS else None  # noqa: PTH100 (links are not followed)
    return LocalFile(path, name) if found is None else found.open(name or path.name)


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
                raise beyond_the_end(self, offset, len(buffer))
            done += count

    def _read_at(self, offset: int, buffer: memoryview) -> int:
        if sys.platform == "win32":
            with _counting:
                self._file.seek(offset)
                return self._file.readinto(buffer) or 0
        return os.preadv(self._descriptor, (buffer,), offset)

    def close(self) -> None:
        self._file.close()


def missing_file(path: Path) -> MissingFileError:
    """The error for a file that was asked for and is not there."""
    is_pair = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) is not None
    return MissingFileError(
        "no such file",
        where=str(path),
        expected="an existing file",
        got="nothing at that path",
        next_step="check the spelling, or fetch the file" + (f"; hf://{path} is the hub's" if is_pair else ""),
    )


def describe_head(head: bytes) -> str:
    """Say what a file that is not what it claims to be looks like, from its first bytes."""
    for start, meaning in _HEADS.items():
        if head.startswith(start):
            return meaning
    return f"a file that starts with {head[:8].hex(' ')}" if head else "an empty file"


_HEADS = {
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull`",
    b"huref: this stands for": "what huref leaves where a file elsewhere is read: name the model itself",
    b"<": "a web page or XML, perhaps a saved error page",
    b"GGUF": "a GGUF file",
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"\x80": "a pickle",
}


def beyond_the_end(source: ByteSource, offset: int, length: int) -> CorruptFileError:
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
