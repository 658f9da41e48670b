"""Options that several commands share, named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Layers = Annotated[str, typer.Option(help="last2, all, or a list such as 0,5,-1.")]
NTokens = Annotated[int, typer.Option("--n-tokens", help="Vocabulary rows to use (K).")]
TokensFile = Annotated[
    Path | None, typer.Option("--tokens", help="Token ranking, one id a line, most frequent first.")
]
ArchFile = Annotated[Path | None, typer.Option("--arch-file", help="An architecture file of your own (YAML).")]
EncoderWeights = Annotated[
    Path | None, typer.Option("--encoder-weights", help="Weights of the CNN encoder (safetensors).")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]


def require_there(*references: str | Path) -> None:
    """Refuse references to nothing before anything is loaded or computed.

    Raises:
        UsageError: a remote model.
        MissingFileError: nothing at that path.
    """
    from huref.model.source import require_there as require

    require(*references)


def hexadecimal(text: str, where: str) -> bytes:
    """Bytes that were written in hexadecimal.

    Raises:
        UsageError: they were not.
    """
    from huref.errors import UsageError

    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("no hexadecimal number", where=where, expected="digits 0-9 and a-f", got=text[:80]) from None


def whole_numbers(text: str, where: str) -> tuple[int, ...]:
    """Numbers that were written with commas between them.

    Raises:
        UsageError: they were not.
    """
    from huref.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError("no list of whole numbers", where=where, expected="12,345,6", got=text[:80])
    return tuple(map(int, parts))
