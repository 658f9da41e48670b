"""Which files make up one checkpoint: a single file, numbered parts, or the shards an index names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huref.errors import CorruptFileError, MissingFileError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, missing_file
from huref.model.source.json_file import read_object

INDEX_LIMIT = 64 << 20
"""Bytes of an index; a model of 100,000 tensors has one of about 10 MB."""

INDEX_SUFFIX = ".index.json"
_FINGERPRINT = ".huref.safetensors"
"""Ending of the fingerprints that huref itself writes, often into the folder of the model."""

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.[A-Za-z]+)")


@dataclass(frozen=True)
class FileSet:
    """The weight files of one checkpoint.

    Attributes:
        folder: the directory that holds them all.
        names: file names in shard order.
        listed: which file holds which tensor, when an index says so; empty otherwise.
    """

    folder: Path
    names: tuple[str, ...]
    listed: Mapping[str, str] = field(default_factory=dict)


def file_set_of(path: Path) -> FileSet:
    """The set that a file belongs to: all shards of an index, all parts of a numbered file, or itself.

    Raises:
        MissingFileError: the file, or another of its set, is not there.
        UnsafeFileError: an index that names files outside its folder.
        CorruptFileError: an index that is not one.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return _indexed_set(path)
    if not path.is_file():
        raise missing_file(path)
    names = numbered_parts(path.name)
    _require(path.parent, names, path.name)
    return FileSet(path.parent, names)


def find_file_set(folder: Path, suffixes: Sequence[str], stems: Sequence[str], ignored: str) -> FileSet | None:
    """Choose a folder's weights of one format, or None when it has none.

    A file called after one of `stems` wins, as loaders have it, then an index; what is left is taken together
    as shards, which `RangedCheckpoint` refuses when two of them hold the same tensor.

    Args:
        folder: where to look, not deeper.
        suffixes: file endings of the format, with the dot.
        stems: names that the whole model goes by, most telling first.
        ignored: a regular expression for stems of files that are not the model, such as an optimizer's state.
    """
    for stem in stems:
        for suffix in suffixes:
            for path in (folder / f"{stem}{suffix}", folder / f"{stem}{suffix}{INDEX_SUFFIX}"):
                if path.is_file():
                    return file_set_of(path)
    indices = [path for suffix in suffixes for path in sorted(folder.glob(f"*{suffix}{INDEX_SUFFIX}"))]
    if len(indices) == 1:
        return file_set_of(indices[0])
    found = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes and path.is_file()]
    model = [p for p in found if not re.match(ignored, p.stem) and not p.name.endswith(_FINGERPRINT)]
    names = dict.fromkeys(name for path in model for name in file_set_of(path).names)
    return FileSet(folder, tuple(names)) if names else None


def numbered_parts(name: str) -> tuple[str, ...]:
    """All names of a set written as `stem-00001-of-00003.ext`, given one of them; else just the name."""
    match = _PART.fullmatch(name)
    if match is None:
        return (name,)
    stem, count, suffix = match["stem"], match["count"], match["suffix"]
    parts = tuple(f"{stem}-{number:05d}-of-{count}{suffix}" for number in range(1, int(count) + 1))
    return parts if name in parts else (name,)


def _indexed_set(path: Path) -> FileSet:
    listed = read_object(path, INDEX_LIMIT).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise CorruptFileError(
            "the index names no shards",
            where=str(path),
            expected="an object `weight_map` from tensor names to file names",
            got=type(listed).__name__ if not isinstance(listed, dict) else f"{len(listed)} unusable entries",
            next_step=FETCH_AGAIN,
        )
    names = tuple(sorted(set(listed.values())))
    for name in names:
        _require_plain(name, path)
    _require(path.parent, names, path.name)
    return FileSet(path.parent, names, listed)


def _require_plain(name: str, index: Path) -> None:
    """Shards lie beside their index; a path in an index could read any file of the machine."""
    if name in ("", ".", "..") or any(mark in name for mark in ("/", "\\", ":", "\0")):
        raise UnsafeFileError(
            "the index names a file outside its folder",
            where=str(index),
            expected="plain file names",
            got=repr(name),
            next_step="do not use this checkpoint unless you know why its index was changed",
        )


def _require(folder: Path, names: Sequence[str], said_by: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            there = [path.name for path in folder.iterdir()]
            near = difflib.get_close_matches(name, there, 1, 0.8)
            raise MissingFileError(
                f"shard {name} is missing",
                where=str(folder),
                expected=f"all {len(names)} files that {said_by} belongs to" if len(names) > 1 else name,
                got=f"no {name}" + (f"; the nearest name is {near[0]}" if near else ""),
                next_step="fetch the missing shard into the same folder",
            )
