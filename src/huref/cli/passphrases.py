"""Passphrases of openings: from the environment, or typed. Never an option: those are seen by other users."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

VARIABLE = "HUREF_PASSPHRASE"


def to_set(folder: Path, secret: Path | None = None) -> str:
    """A passphrase for a new opening, typed twice; or for the one of an interrupted run, typed once."""
    from huref.proof.files.opening import find_opening

    if find_opening(folder, secret).exists():
        return to_open(folder, secret) or ""
    return os.environ.get(VARIABLE) or _typed(is_new=True)


def to_open(folder: Path, secret: Path | None = None) -> str | None:
    """The passphrase of a commitment's opening, None where it has none or there is no opening.

    Raises:
        InputError: a file that is no opening.
        UsageError: it asks for one and nobody can be asked.
    """
    from huref.proof.files.opening import find_opening, is_encrypted

    path = find_opening(folder, secret)
    if not path.exists() or not is_encrypted(path):
        return None
    return os.environ.get(VARIABLE) or _typed(is_new=False)


def _typed(*, is_new: bool) -> str:
    from huref.errors import UsageError

    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask at",
            where="the opening",
            expected=f"a terminal, or the environment variable {VARIABLE}",
            got="neither",
            next_step=f"set {VARIABLE}",
        )
    typed: str = typer.prompt("Passphrase of the opening", hide_input=True, confirmation_prompt=is_new, err=True)
    return typed
