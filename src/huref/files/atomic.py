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
        require_regular(path)
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
            next_step="choose another place, or make room on the disk",
        ) from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a user's output folder, where there is none: before long work, which is not to end at a closed door.

    Args:
        mode: of a folder that is made, less what the umask takes; its parents get the usual one.

    Raises:
        OutputError: it cannot be made.
    """
    require_folder(folder)
    try:
        folder.mkdir(mode, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "cannot make the output folder",
            where=str(folder),
            expected="a folder, or a place where one can be made",
            got=_reason(error),
            next_step="choose another --out",
        ) from None


def require_folder(folder: Path) -> None:
    """Refuse a user's folder that is missing with the one around it, or would be made at the disk's root.

    A slip of the keyboard, or a variable that is empty, is not to grow a tree of folders somewhere.

    Raises:
        OutputError: it is so.
    """
    home = folder.absolute().parent
    if not folder.exists() and (not home.exists() or home == home.parent):
        raise OutputError(
            "the folder is not there",
            where=str(folder),
            expected="a folder that exists, or a new one in it",
            got=f"no folder {home}" if home != home.parent else "a new one at the root of the disk",
            next_step=f"check the path, or make it: mkdir -p {folder}",
        )


def require_regular(path: Path) -> None:
    """Refuse to replace a device or a pipe by a file: `/dev/stdout` is not ours to rename over.

    Raises:
        OutputError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(
            "not a place for a file", where=str(path), expected="the name of a file", got="a device or a pipe"
        )


def require_place(path: Path, *beginnings: bytes) -> None:
    """Refuse, before long work, a path that cannot be written in the end, or that holds something else.

    Args:
        beginnings: how a file may begin that is there already and will be replaced; none asks for nothing.

    Raises:
        OutputError: a folder, a device, a folder in which nothing can be made, or a file of another kind.
    """
    require_regular(path)
    if beginnings and path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            found = file.read(max(map(len, beginnings)))
        if not found.startswith(beginnings):
            raise OutputError(
                "a file of another kind is in the way",
                where=str(path),
                expected="a free name, or an earlier file of the same kind",
                got="something else, which is not replaced",
                next_step="name another file, or move that one away",
            )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            "cannot write a file",
            where=str(path),
            expected="a file in a folder that can be written",
            got="a folder" if path.is_dir() else f"{folder} cannot be written to",
            next_step="name another file",
        )
    require_folder(path.absolute().parent)


def _reason(error: Exception) -> str:
    """The first line of what is wrong."""
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return said.splitlines()[0][:200]
