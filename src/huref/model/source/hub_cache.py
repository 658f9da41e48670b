"""Folders of the hub's own cache: a repository's, which holds snapshots by commit."""

from __future__ import annotations

from pathlib import Path

CACHED = "models--"
"""How the folder of a repository begins."""


def snapshot_of(folder: Path) -> Path | None:
    """The snapshot of `main` (else the only one) in a repository's folder of the hub's cache, or None."""
    snapshots = folder / "snapshots"
    if not is_repository(folder):
        return None
    main = folder / "refs" / "main"
    if main.is_file() and main.stat().st_size < 256:
        named = main.read_text("utf-8", "replace").strip()
        if named not in ("", ".", "..") and "/" not in named and (snapshots / named).is_dir():
            return snapshots / named
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    return found[0] if len(found) == 1 else None


def is_repository(folder: Path) -> bool:
    """Whether a folder is a repository's in the hub's cache."""
    return folder.name.startswith(CACHED) and (folder / "snapshots").is_dir()
