"""Where models, runs and captures are, and that the models are still those that were made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

HOME = Path(__file__).resolve().parents[3] / "runs" / "answers"
"""Of the checkout that this file is in, whichever tree is captured: the place is part of what commands say."""

MODELS, WORK = "models", "work"
_LIST = "SHA256"


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(models: Path) -> dict[str, str]:
    """The digest of every model's file by its place, but for the list of digests."""
    paths = (path for path in sorted(models.rglob("*")) if path.is_file() and path != models / _LIST)
    return {str(path.relative_to(models)): digest(path) for path in paths}


def write_digests(models: Path, found: dict[str, str]) -> None:
    """Say that the models are complete, and what they are."""
    (models / _LIST).write_text(json.dumps(found, indent=1) + "\n")


def require_models(models: Path) -> str:
    """The digest of the models' list, after every file was held against it."""
    if not (models / _LIST).is_file():
        raise SystemExit(
            f"no models in {models}, or not all: run make_models.py; remove what an interrupted run left"
        )
    wanted, found = json.loads((models / _LIST).read_text()), digests(models)
    changed = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
    if changed:
        raise SystemExit(f"models changed since they were made: {', '.join(changed[:5])}")
    return digest(models / _LIST)
