"""From what the user wrote to an open checkpoint. Formats are the modules `*_format` of this folder."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path
from typing import Protocol, cast

import huref.model.source
from huref.errors import InputError, MissingFileError
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.file_set import FileSet
from huref.model.source.place import nothing_there


class Format(Protocol):
    """What a module named `*_format` offers; there is no other place to register it.

    Attributes:
        NAME: the value of `Checkpoint.format`.
        PREFERENCE: which format a folder that holds several is read in; the lowest wins.
        EXTENSIONS: endings of files that belong to the format, with the dot.
    """

    NAME: str
    PREFERENCE: int
    EXTENSIONS: tuple[str, ...]

    def find(self, folder: Path) -> FileSet | None:
        """The folder's weights in this format, or None."""

    def file_set(self, path: Path) -> FileSet:
        """The files that make up the checkpoint to which `path` belongs."""

    def open_files(self, reference: str, files: FileSet) -> Checkpoint:
        """Open the files and check their headers, reading no tensor."""


def open_checkpoint(reference: str | Path) -> Checkpoint:
    """Open a model's weights, lazily.

    Args:
        reference: a folder, or one weight file; of several shards or splits any one will do.

    Raises:
        UsageError: a remote reference, or a folder that holds more than one model.
        MissingFileError: nothing there, no weights in the folder, or a shard is missing.
        InputError: a file of a kind that no format module reads.
        CorruptFileError, UnsafeFileError: a header that cannot be trusted.
    """
    path = Path(reference)
    if path.is_dir():
        return _open_folder(str(reference), path)
    if path.is_file():
        return _open_file(str(reference), path)
    raise nothing_there(str(reference), path)


@functools.cache
def formats() -> tuple[Format, ...]:
    """All formats, the preferred first."""
    names = [module.name for module in pkgutil.iter_modules(huref.model.source.__path__, "huref.model.source.")]
    found = [importlib.import_module(name) for name in names if name.endswith("_format")]
    return tuple(sorted((cast(Format, module) for module in found), key=lambda module: module.PREFERENCE))


def _open_folder(reference: str, folder: Path) -> Checkpoint:
    for module in formats():
        if (files := module.find(folder)) is not None:
            return module.open_files(reference, files)
    present = sorted(path.name for path in folder.iterdir())
    raise MissingFileError(
        "no weights in this folder",
        where=reference,
        expected=f"a file ending in {_endings()}",
        got=", ".join(present[:8]) + (" ..." if len(present) > 8 else "") if present else "an empty folder",
        next_step="name the folder that holds the weight files themselves",
    )


def _open_file(reference: str, path: Path) -> Checkpoint:
    for module in formats():
        if path.name.endswith(module.EXTENSIONS):
            return module.open_files(reference, module.file_set(path))
    raise InputError(
        "not a kind of weight file that huref reads",
        where=reference,
        expected=f"a file ending in {_endings()}",
        got=path.name,
        next_step="convert the model to safetensors",
    )


def known_endings() -> tuple[str, ...]:
    """Of files of every format, the preferred first."""
    return tuple(ending for module in formats() for ending in module.EXTENSIONS)


def _endings() -> str:
    return ", ".join(ending for ending in known_endings() if not ending.endswith(".json"))
