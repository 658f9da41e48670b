"""From what the user wrote to an open checkpoint. Formats are the modules `*_format` of this folder."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol, cast

import huref.model.source
from huref.errors import InputError, MissingFileError
from huref.model.source.adapters import adapter_file
from huref.model.source.adapting import adapter_alone, note_beside, on_base, with_own_adapter
from huref.model.source.byte_source import missing_file, open_source
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.file_set import FileSet
from huref.model.source.layouts import inner_weights, refuse_known, refuse_shells
from huref.model.source.original import read_params
from huref.model.source.packed.unpacking import unpacked
from huref.model.source.parallel_parts import open_parts, parts_beside
from huref.model.source.passed_over import notes_about
from huref.model.source.place import path_of, split_reference


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
    """Open a model's weights, lazily; what is packed is presented as plain tensors.

    Args:
        reference: a folder, or one weight file; of several shards or splits any one will do. `ADAPTER::BASE` is a
            base with an adapter on it.

    Raises:
        UsageError: a remote reference, or a folder that holds more than one model.
        MissingFileError: nothing there, no weights in the folder, or a shard is missing.
        InputError: a file of a kind that no format module reads.
        CorruptFileError, UnsafeFileError: a header that cannot be trusted, or parts that contradict one another.
    """
    adapter, base = split_reference(reference)
    if base is None:
        return _closing(_open(str(reference)), with_own_adapter)
    under = open_checkpoint(base)
    return _closing(
        under, lambda under: _closing(_open_adapter(adapter), lambda over: on_base(str(reference), over, under))
    )


def _closing(checkpoint: Checkpoint, use: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
    """What becomes of a checkpoint, which is closed where nothing does."""
    try:
        return use(checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def _open(reference: str) -> Checkpoint:
    path = path_of(reference)
    if path.is_dir():
        checkpoint = _open_folder(reference, path)
    elif path.is_file():
        checkpoint = _open_file(reference, path)
    else:
        raise missing_file(path)
    return _closing(checkpoint, _as_found)


def _as_found(checkpoint: Checkpoint) -> Checkpoint:
    refuse_shells([info.shape for info in checkpoint.tensors.values()], checkpoint.reference)
    read_params(checkpoint)
    return unpacked(checkpoint)


def _open_adapter(reference: str) -> Checkpoint:
    """A folder's adapter goes before a model in it."""
    path = path_of(reference)
    return _open(str(adapter_file(path) or reference) if path.is_dir() else reference)


@functools.cache
def formats() -> tuple[Format, ...]:
    """All formats, the preferred first."""
    names = [module.name for module in pkgutil.iter_modules(huref.model.source.__path__, "huref.model.source.")]
    found = [importlib.import_module(name) for name in names if name.endswith("_format")]
    return tuple(sorted((cast(Format, module) for module in found), key=lambda module: module.PREFERENCE))


def _open_folder(reference: str, folder: Path) -> Checkpoint:
    for module in formats():
        if (files := module.find(folder)) is not None:
            checkpoint = _open_set(reference, module, files)
            checkpoint.notes = (*checkpoint.notes, *notes_about(checkpoint, known_endings()), *note_beside(folder))
            return checkpoint
    if (alone := adapter_alone(reference, folder)) is not None:
        raise alone
    pickles = _format_of("model.pt")
    if pickles is not None and (files := inner_weights(folder)) is not None:
        return pickles.open_files(reference, files)
    refuse_known(folder)
    present = sorted(path.name for path in folder.iterdir())
    raise MissingFileError(
        "no weights in this folder",
        where=reference,
        expected=f"a file ending in {_endings()}",
        got=", ".join(present[:8]) + (" ..." if len(present) > 8 else "") if present else "an empty folder",
        next_step="name the folder that holds the weight files themselves",
    )


def _open_file(reference: str, path: Path) -> Checkpoint:
    with closing(open_source(path)) as file:  # Ollama's blobs have no ending
        is_gguf = file.size >= 4 and file.read(0, 4) == b"GGUF"
    module = _format_of("model.gguf" if is_gguf else path.name)
    if module is not None:
        return _open_set(reference, module, module.file_set(path))
    raise InputError(
        "not a kind of weight file that huref reads",
        where=reference,
        expected=f"a file ending in {_endings()}",
        got=path.name,
        next_step="convert the model to safetensors",
    )


def _open_set(reference: str, module: Format, files: FileSet) -> Checkpoint:
    """The files of one model: shards, or parts of which each has a share of every matrix."""
    parts = parts_beside(files.folder / files.names[0])
    if len(parts) > 1:
        return open_parts(reference, files.folder, parts, module.open_files)
    return module.open_files(reference, files)


def _format_of(name: str) -> Format | None:
    return next((module for module in formats() if name.endswith(module.EXTENSIONS)), None)


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds a model's weights of any format, an adapter's aside."""
    return any(module.find(folder) is not None for module in formats())


def known_endings() -> tuple[str, ...]:
    """Of files of every format, the preferred first."""
    return tuple(ending for module in formats() for ending in module.EXTENSIONS)


def _endings() -> str:
    return ", ".join(ending for ending in known_endings() if not ending.endswith(".json"))
