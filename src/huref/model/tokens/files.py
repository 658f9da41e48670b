"""Reading the files beside a checkpoint, with their sizes capped before anything is allocated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from huref.errors import TokenizerError
from huref.model.source.byte_source import describe_head

MAX_BYTES = 256 << 20
"""Largest tokenizer file read; the largest known (256k entries with merges) is about 35 MB."""


def read_capped(path: Path, limit: int = MAX_BYTES, what: str = "a tokenizer file") -> bytes:
    """All bytes of a file.

    Raises:
        TokenizerError: it cannot be read, or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise TokenizerError(f"{what} cannot be read", where=str(path), got=error.strerror or str(error)) from error
    if max(size, len(content)) > limit:
        raise TokenizerError(
            f"{what} is too large", where=str(path), expected=f"at most {limit} bytes", got=f"{size} bytes"
        )
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        TokenizerError: unreadable, too large, not JSON, or JSON of another kind than an object.
    """
    content = read_capped(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(
            "a tokenizer file is not valid JSON",
            where=str(path),
            expected="JSON in UTF-8",
            got=f"{error}; {describe_head(content[:32])}",
            next_step="fetch the file again",
        ) from error
    document: dict[str, Any] = expect(value, dict, str(path))
    return document


def expect(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    """`value` if it is of `kind`.

    Raises:
        TokenizerError: it is of another type.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise TokenizerError(
            "a tokenizer file has a value of the wrong type",
            where=where,
            expected=" or ".join(k.__name__ for k in kinds),
            got=type(value).__name__,
        )
    return value
