"""Whether anything is where a reference points: seen before numpy or a format is loaded."""

from __future__ import annotations

import re
from pathlib import Path

from huref.errors import MissingFileError, UsageError

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?(:[\w./-]+)?")


ON = "::"
"""Between an adapter and its base, in one reference."""


def split_reference(reference: str | Path) -> tuple[str, str | None]:
    """An adapter and its base, of a reference `ADAPTER::BASE`; any other reference and None."""
    text = str(reference)
    adapter, mark, base = text.partition(ON)
    return (adapter, base) if mark and adapter and base and not Path(text).exists() else (text, None)


def require_there(*references: str | Path) -> None:
    """Refuse what is no path of this machine.

    Raises:
        UsageError: a remote reference.
        MissingFileError: nothing there.
    """
    for reference in (part for whole in references for part in _parts(whole)):
        path = Path(reference)
        if not path.exists():
            raise nothing_there(str(reference), path)


def _parts(reference: str | Path) -> list[str]:
    first, base = split_reference(reference)
    return [first] if base is None else [first, *_parts(base)]


def missing_file(path: Path) -> MissingFileError:
    """The error for a file that was asked for and is not there."""
    return MissingFileError(
        "no such file",
        where=str(path),
        expected="an existing file",
        got="nothing at that path",
        next_step="check the spelling, or fetch the file",
    )


def nothing_there(reference: str, path: Path) -> UsageError | MissingFileError:
    """The error for a reference to nothing: a missing file, or a model elsewhere, which is not read."""
    is_remote = _REMOTE.fullmatch(reference) is not None
    if not is_remote and not _is_hub_name(reference, path):
        return missing_file(path)
    repository = re.sub(r"^hf://|[@:][\w./-]+$", "", reference) if not reference.startswith("http") else ""
    return UsageError(
        "remote models are not read by this version",
        where=reference,
        expected="a folder or a weight file on this machine",
        got="a URL" if is_remote else "no such path, but what looks like the name of a model on a hub",
        next_step=f"download it first: hf download {repository} --local-dir DIR"
        if repository
        else "download it first, then name the local folder",
    )


def _is_hub_name(reference: str, path: Path) -> bool:
    """Whether `org/name` is likelier meant than a local path, which would have an existing parent or an ending."""
    if _HUB_NAME.fullmatch(reference) is None or path.parent.exists():
        return False
    from huref.model.source.opening import known_endings

    return ":" in reference or not path.name.endswith(known_endings())
