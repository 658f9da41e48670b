"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from huref.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it into place.

    Raises:
        OutputError: the folder or the file cannot be written; what was at `path` before is untouched.
    """
    write_whole(path, lambda partial: partial.write_bytes(data))


def write_whole(
    path: Path, write: Callable[[Path], object], faults: tuple[type[Exception], ...] = (OSError,)
) -> None:
    """Let `write` fill a file beside `path`, then rename it into place: for files that memory should not hold twice.

    Args:
        faults: what `write` raises where the place cannot be written.

    Raises:
        OutputError: the folder or the file cannot be written; what was at `path` before is untouched.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        partial = Path(name)
        write(partial)
        partial.chmod(0o644)
        partial.replace(path)
    except faults as error:
        raise OutputError(
            "cannot write a file",
            where=str(path),
            expected="a folder that can be written",
            got=_reason(error),
            next_step="choose another --out, or make room on the disk",
        ) from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make an output folder, where there is none: before long work, which is not to end at a closed door.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "cannot make the output folder",
            where=str(folder),
            expected="a folder, or a place where one can be made",
            got=_reason(error),
            next_step="choose another --out",
        ) from None


def require_place(path: Path) -> None:
    """Refuse, before long work, a path that cannot be written in the end.

    Raises:
        OutputError: a folder, or a folder in which nothing can be made.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            "cannot write a file",
            where=str(path),
            expected="a file in a folder that can be written",
            got="a folder" if path.is_dir() else f"{folder} cannot be written to",
            next_step="name another file",
        )


def _reason(error: Exception) -> str:
    """The first line of what is wrong."""
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return said.splitlines()[0][:200]
