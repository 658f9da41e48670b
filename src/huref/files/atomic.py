"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from huref.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it into place.

    Raises:
        OutputError: the folder or the file cannot be written; what was at `path` before is untouched.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise OutputError(
            "cannot write a file",
            where=str(path),
            expected="a folder that can be written",
            got=error.strerror or str(error),
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
