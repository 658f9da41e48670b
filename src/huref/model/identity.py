"""By what a model on disk is known without reading it: the files that shape it, their sizes and times, their ends."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huref.errors import HurefError, InputError
from huref.model.source.file_set import INDEX_SUFFIX, numbered_parts
from huref.model.source.layouts import inner_weights
from huref.model.source.place import path_of
from huref.model.source.remote.naming import is_stand_in

SETTLED = 2_000_000_000
"""Nanoseconds after which a second change of a file gets another time, on the coarsest file systems."""

_HEAD, _TAIL, _BLOCK = 8 << 20, 64 << 10, 1 << 22
_HEADER_LIMIT = 100_000_000
_SMALL = 64 << 20
_MOST_FILES = 4096

_PRINT = ".huref.safetensors"
_BESIDE = (".json", ".model", ".tiktoken", ".txt")
"""Endings of what readers open beside a weight file: configuration, index, tokenizer."""

_NO_PART = (_PRINT, ".png", ".svg", ".jpg", ".html", ".sarif", ".md")
"""Endings of what huref and people put into a model's folder and no reader opens; every other file there counts."""


@dataclass(frozen=True)
class _File:
    """A file: `ends` is a digest of its header and its last bytes."""

    name: str
    size: int
    modified: int
    changed: int
    inode: int
    ends: str


@dataclass(frozen=True)
class Identity:
    """The files behind a reference, at one moment.

    Attributes:
        place: the path, absolute, links not followed.
        files: every file that may shape the model, by name.
        taken: when, nanoseconds since 1970.
    """

    place: str
    files: tuple[_File, ...]
    taken: int = field(compare=False)

    @property
    def is_settled(self) -> bool:
        """Whether any change after this moment is sure to show in a file's times."""
        if is_stand_in(self.place):  # of one version for ever, and checked when it was laid out
            return True
        newest = max((max(file.modified, file.changed) for file in self.files), default=0)
        return self.taken - newest > SETTLED

    def is_still(self) -> bool:
        """Whether the files are now as they were, by sizes and times; their contents are not looked at again."""
        try:
            now = [(path.name, path.stat()) for path in _files(Path(self.place))]
        except OSError:
            return False
        return [(name, *_stamp(found)) for name, found in now] == [
            (file.name, file.size, file.modified, file.changed, file.inode) for file in self.files
        ]

    def to_dict(self) -> dict[str, Any]:
        """What tells it from every other."""
        return {"place": self.place, "files": [asdict(file) for file in self.files]}

    def contents(self) -> str:
        """Hexadecimal SHA-256 over names, sizes and contents of all files, every byte read.

        Raises:
            OSError: one cannot be read any more.
        """
        state = hashlib.sha256()
        for path in _files(Path(self.place)):
            state.update(f"{path.name!a} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    state.update(block)
        return state.hexdigest()


def identify(reference: str | Path) -> Identity | None:
    """What a folder or a file is known by; None where it cannot be read, or has no files."""
    taken = time.time_ns()
    try:
        place = Path(os.path.abspath(path_of(reference)))  # noqa: PTH100 (resolve() would follow links)
        files = tuple(_seen(path) for path in _files(place))
    except (OSError, HurefError):
        return None
    return Identity(str(place), files, taken) if 0 < len(files) <= _MOST_FILES else None


def digest_of(path: Path) -> str | None:
    """By what a file that options name is known: its contents; of a folder those of what describes a tokenizer.

    Of a large file, times and ends. None where it cannot be read.
    """
    state = hashlib.sha256()
    try:
        for file in [p for p in _listed(path) if p.name.endswith(_BESIDE)] if path.is_dir() else [path]:
            is_small = file.stat().st_size <= _SMALL
            state.update(f"{file.name!a} {file.stat().st_size}\n".encode())
            state.update(file.read_bytes() if is_small else repr(_seen(file)).encode())
    except OSError:
        return None
    return state.hexdigest()


def _files(place: Path) -> list[Path]:
    """Of a folder all that may count; of a weight file its parts and what is read beside them."""
    if place.name.endswith(_PRINT):
        return [place]
    if place.is_dir():
        return [path for path in _listed(place) if not path.name.endswith(_NO_PART)] + _inside(place)
    if place.name.endswith(INDEX_SUFFIX):
        return [path for path in _listed(place.parent) if not path.name.endswith(_NO_PART)]
    own = numbered_parts(place.name)
    return [path for path in _listed(place.parent) if path.name in own or path.name.endswith(_BESIDE)]


def _inside(place: Path) -> list[Path]:
    """Weights that a training run keeps in a folder of this one."""
    try:
        inner = inner_weights(place)
    except InputError:
        return []
    return [] if inner is None else [path for name in inner.names if (path := place / name).parent != place]


def _listed(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.is_file()]


def _seen(path: Path) -> _File:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        state = hashlib.blake2b(digest_size=32)
        length = _HEAD
        if path.name.endswith(".safetensors"):
            length = 8 + min(int.from_bytes(file.read(8), "little"), _HEADER_LIMIT)
            file.seek(0)
        state.update(file.read(length))
        file.seek(max(0, found.st_size - _TAIL))
        state.update(file.read(_TAIL))
    return _File(path.name, *_stamp(found), state.hexdigest())


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
