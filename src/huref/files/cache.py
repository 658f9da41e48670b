"""Results kept on disk for next time: bytes by key, of limited size; what was not used for longest goes first.

One file an entry, in a folder of this user alone. An entry says which key it is of and what its digest is; whatever
is damaged, a link, or somebody else's is no entry. Nothing here ever stops a command: where nothing can be kept, the
reason stands in `trouble`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huref.errors import HurefError, UsageError
from huref.files.atomic import write_atomically

HOME, LIMIT, OFF = "HUREF_HOME", "HUREF_CACHE_LIMIT", "HUREF_NO_CACHE"
"""Environment variables: the place, its most bytes, and not to use it at all."""

USUAL_LIMIT = 2 * 10**9
"""Bytes."""

_FOLDER, _ENDING, _MAGIC = "results", ".kept", b"huref-kept/1"
_NAME = re.compile(r"[0-9a-f]{64}\.kept")
_LEFTOVER = re.compile(r"\.[0-9a-f]{64}\.kept\..+")
_LARGEST = 1 << 28
_HOUR = 3600.0
_FULL = 0.9
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Usage:
    """What is kept.

    Attributes:
        place: the folder.
        entries: how many results.
        size: their bytes.
        limit: bytes that they may take.
        last_used: of the entry used last, seconds since 1970, or None.
    """

    place: str
    entries: int
    size: int
    limit: int
    last_used: float | None = None


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float


class Cache:
    """Results on disk; threads and processes may share a place.

    Attributes:
        place: the folder of huref on this machine: HUREF_HOME, or the platform's usual place for caches.
        limit: most bytes, HUREF_CACHE_LIMIT or 2 GB.
        is_confirmed: take a result only where the SHA-256 of every file is that of the files it was computed from:
            for what will be published. Else a file is known by size, times, inode and both of its ends.
        n_kept: results that were taken from here.
        n_made: results that were not here.
        trouble: why nothing can be kept, or empty.
    """

    def __init__(
        self, place: str | Path | None = None, limit: int | None = None, *, is_confirmed: bool = False
    ) -> None:
        self.place = usual_place() if place is None else Path(place)
        self.limit = limit_asked(LIMIT, USUAL_LIMIT) if limit is None else limit
        self.is_confirmed = is_confirmed
        self.n_kept = self.n_made = 0
        self.trouble = ""
        self._size: int | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, asked: Cache | bool) -> Cache | None:
        """The cache that a parameter `cache` means; None where HUREF_NO_CACHE is set."""
        if asked is False or is_off():
            return None
        return cls() if asked is True else asked

    def get(self, key: str) -> bytes | None:
        """The bytes kept under a key, which is one line; None where there are none."""
        path = self._path(key)
        if not self._is_ours():
            return None
        try:
            found = _read(path)
        except FileNotFoundError:
            return None
        except OSError:  # a link, a folder, somebody else's
            found = b""
        payload = _payload(found, key)
        if payload is None:
            self.drop(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Keep bytes under a key; where that fails, `trouble` says why."""
        body = key.encode() + b"\n" + payload
        data = _MAGIC + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        if len(data) > min(_LARGEST, self.limit) or self.trouble:
            return
        try:
            with self._lock:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not self._is_ours():
                    self.trouble = f"{self._folder} is a link, or others may write there"
                    return
                self._make_room(len(data))
                write_atomically(self._path(key), data)
        except HurefError as error:
            self.trouble = f"{error.where}: {error.got}"
        except OSError as error:
            self.trouble = f"{self._folder}: {error.strerror or error}"

    def drop(self, key: str) -> None:
        """Let go of what is kept under a key."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def usage(self) -> Usage:
        """What is kept now."""
        entries = list(self._entries())
        last = max((entry.used for entry in entries), default=None)
        return Usage(str(self._folder), len(entries), sum(entry.size for entry in entries), self.limit, last)

    def clear(self) -> Usage:
        """Let go of everything; what there was. Files that are none of huref's stay."""
        before = self.usage()
        for entry in self._entries():
            with contextlib.suppress(OSError):
                entry.path.unlink(missing_ok=True)
        self._size = None
        return before

    @property
    def _folder(self) -> Path:
        return self.place / _FOLDER

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}{_ENDING}"

    def _is_ours(self) -> bool:
        """Whether the folder is one that nobody else can put results into."""
        try:
            found = self._folder.lstat()
        except OSError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return False
        return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)

    def _entries(self) -> Iterator[_Entry]:
        """Every entry; what an interrupted process left half-written goes."""
        if not self._is_ours():
            return
        with contextlib.suppress(OSError), os.scandir(self._folder) as listed:
            for item in listed:
                with contextlib.suppress(OSError):
                    found = item.stat(follow_symlinks=False)
                    if _NAME.fullmatch(item.name):
                        yield _Entry(Path(item.path), found.st_size, found.st_mtime)
                    elif _LEFTOVER.fullmatch(item.name) and time.time() - found.st_mtime > _HOUR:
                        Path(item.path).unlink(missing_ok=True)

    def _make_room(self, more: int) -> None:
        """Let go of what was not used for longest, where `more` bytes would not fit."""
        if self._size is None or self._size + more > self.limit:
            entries = sorted(self._entries(), key=lambda entry: entry.used)
            self._size = sum(entry.size for entry in entries)
            room = self.limit if self._size + more <= self.limit else int(_FULL * self.limit)
            for entry in entries:
                if self._size + more <= room:
                    break
                with contextlib.suppress(OSError):
                    entry.path.unlink(missing_ok=True)
                    self._size -= entry.size
        self._size += more


def is_off() -> bool:
    """Whether HUREF_NO_CACHE asks for no cache."""
    return os.environ.get(OFF, "") not in ("", "0")


def usual_place() -> Path:
    """HUREF_HOME, or `huref` in the platform's usual place for caches."""
    if home := os.environ.get(HOME):
        return Path(home)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path("~").expanduser()) / "huref"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return (named if named.is_absolute() else Path(os.path.expanduser(usual))) / "huref"  # noqa: PTH111 never raises


def limit_asked(variable: str, usual: int) -> int:
    """Bytes that an environment variable names, `500M` or `2G` too.

    Raises:
        UsageError: it names none.
    """
    asked = os.environ.get(variable, "")
    if not asked:
        return usual
    found = re.fullmatch(r"\s*([0-9]{1,15})\s*([KMGT]?)B?\s*", asked.upper())
    if found is None:
        raise UsageError(
            "no number of bytes", where=variable, expected="bytes, or a number such as 500M or 2G", got=asked[:80]
        )
    return int(found[1]) * _UNITS[found[2]]


def _read(path: Path) -> bytes:
    """A file of this user's own, never through a link.

    Raises:
        OSError: it is none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        is_own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISREG(found.st_mode) or not is_own or found.st_size > _LARGEST:
            raise OSError("no entry")
        return file.read(_LARGEST)


def _payload(data: bytes, key: str) -> bytes | None:
    """What an entry holds; None where it is damaged, or of another key."""
    head, _, body = data.partition(b"\n")
    if head != _MAGIC + b" " + hashlib.sha256(body).hexdigest().encode():
        return None
    found, _, payload = body.partition(b"\n")
    return payload if found == key.encode() else None
