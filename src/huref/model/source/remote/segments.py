"""Blocks of files elsewhere, kept on disk: checked when they are read again, and let go of when room is wanted.

A file elsewhere has a folder here, and in it a segment for every process that read of it: records of a block's
number, its length and its CRC, then its bytes. A record that is cut short or damaged is none, so that nothing a crash
leaves behind is ever taken for data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huref.files.cache import is_off, limit_asked, usual_place

BLOCK = 1 << 16
"""Bytes of a block: a few rows of an embedding."""
LIMIT = "HUREF_BLOCKS_LIMIT"
"""Environment variable: the most bytes that are kept."""
USUAL_LIMIT = 20 * 10**9
"""Bytes: what some twenty models of seven billion weights need."""

_FOLDER, _ENDING, _NAME = "blocks", ".seg", "name.txt"
_OFTEN = 1 << 30
"""Bytes written after which room is looked for again."""
_RECORD = struct.Struct("<4sIII")
_MARK = b"hrb1"


@dataclass(frozen=True)
class _Where:
    segment: Path
    offset: int
    length: int
    crc: int


class Segments:
    """The blocks of one file elsewhere.

    Args:
        key: what tells this file, in this version, from every other; hexadecimal.
        shown: what people call it.
    """

    def __init__(self, key: str, shown: str = "") -> None:
        self._shown = shown
        self._folder = None if is_off() or not hasattr(os, "pread") else blocks_folder() / key
        self._lock = threading.Lock()
        self._known: dict[int, _Where] = {}
        self._open: dict[Path, int] = {}
        self._own: Path | None = None
        self._since_pruned = 0
        if self._folder is not None:
            for path in _segments(self._folder):
                self._known |= dict(_records(path))
                with contextlib.suppress(OSError):
                    os.utime(path)  # used last

    @property
    def is_kept(self) -> bool:
        """Whether blocks that are put here stay."""
        return self._folder is not None

    def __contains__(self, number: int) -> bool:
        return number in self._known

    def get(self, number: int) -> bytes | None:
        """A block; None where it is not kept, or is damaged."""
        where = self._known.get(number)
        if where is None:
            return None
        try:
            data = os.pread(self._descriptor(where.segment), where.length, where.offset)
        except OSError:
            data = b""
        if len(data) == where.length and zlib.crc32(data) == where.crc:
            return data
        self._known.pop(number, None)
        return None

    def put(self, first: int, data: memoryview) -> None:
        """Keep blocks that follow each other; where there is no room, they are not kept."""
        if self._folder is None:
            return
        try:
            with self._lock:
                path, descriptor = self._writing()
                offset = os.lseek(descriptor, 0, os.SEEK_END)
                for i, start in enumerate(range(0, len(data), BLOCK)):
                    piece = data[start : start + BLOCK]
                    crc = zlib.crc32(piece)
                    head = _RECORD.pack(_MARK, first + i, len(piece), crc)
                    if os.writev(descriptor, (head, piece)) != len(head) + len(piece):
                        raise OSError("no room")
                    self._known[first + i] = _Where(path, offset + len(head), len(piece), crc)
                    offset += len(head) + len(piece)
                self._since_pruned += len(data)
            if self._since_pruned > _OFTEN:
                self._since_pruned = 0
                prune(keep=self._folder)
        except OSError:  # a full disk: what was written is whole or is none
            self._folder = None

    def close(self) -> None:
        """Release what is open."""
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()
            self._known.clear()
            self._folder = self._own = None

    def _descriptor(self, path: Path) -> int:
        with self._lock:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            return self._open[path]

    def _writing(self) -> tuple[Path, int]:
        assert self._folder is not None
        if self._own is None:
            prune(keep=self._folder)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / _NAME).write_text(self._shown, "utf-8", "replace")
            self._own = self._folder / f"{os.getpid()}-{time.time_ns()}{_ENDING}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            self._open[self._own] = os.open(self._own, flags, 0o600)
        return self._own, self._open[self._own]


def blocks_folder() -> Path:
    """Where blocks are kept."""
    return usual_place() / _FOLDER


@dataclass(frozen=True)
class Kept:
    """A file elsewhere of which blocks are here: what people call it, their bytes, when it was used last."""

    shown: str
    size: int
    last_used: float
    folder: Path


def kept() -> list[Kept]:
    """Every file elsewhere of which blocks are here, what was used last in front."""
    found = [Kept(_name(folder), _size(folder), _used(folder), folder) for folder in _folders()]
    return sorted(found, key=lambda each: -each.last_used)


def most_bytes() -> int:
    """Bytes that blocks may take: HUREF_BLOCKS_LIMIT, or 20 GB.

    Raises:
        UsageError: it is no number of bytes.
    """
    return limit_asked(LIMIT, USUAL_LIMIT)


def prune(limit: int | None = None, keep: Path | None = None) -> int:
    """Let go of the files that were not used for longest, until `limit` bytes are left; how many went.

    Args:
        keep: one that stays.
    """
    limit = most_bytes() if limit is None else limit
    found = kept()
    total, gone = sum(each.size for each in found), 0
    for each in reversed(found):
        if total - gone <= limit:
            break
        if each.folder != keep:
            shutil.rmtree(each.folder, ignore_errors=True)
            gone += each.size
    return gone


def _name(folder: Path) -> str:
    with contextlib.suppress(OSError):
        text = (folder / _NAME).read_text("utf-8", "replace")[:500]
        return "".join(letter if letter.isprintable() else "?" for letter in text)
    return folder.name


def _folders() -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in blocks_folder().iterdir() if path.is_dir() and not path.is_symlink()]
    return []


def _segments(folder: Path) -> list[Path]:
    """Of this user alone, and never through a link."""
    if folder.is_symlink():
        return []
    with contextlib.suppress(OSError):
        found = (path for path in sorted(folder.iterdir()) if path.name.endswith(_ENDING) and not path.is_symlink())
        return [path for path in found if not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()]
    return []


def _records(path: Path) -> Iterator[tuple[int, _Where]]:
    try:
        with path.open("rb") as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset + _RECORD.size <= size:
                mark, number, length, crc = _RECORD.unpack(os.pread(file.fileno(), _RECORD.size, offset))
                end = offset + _RECORD.size + length
                if mark != _MARK or length > BLOCK or end > size:
                    return
                yield number, _Where(path, offset + _RECORD.size, length, crc)
                offset = end
    except (OSError, struct.error):
        return


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0


def _used(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
    return 0.0
