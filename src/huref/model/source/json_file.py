"""JSON in and beside weight files: objects only, of limited size, every failure as huref's own error."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huref.errors import CorruptFileError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, describe_head, open_source

CONFIG_LIMIT = 16 << 20
"""Bytes of a `config.json`; real ones have a few thousand."""


def parse_object(text: bytes, where: str, *, allow_repeats: bool = True) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: UTF-8; of a hand-edited file also with a byte order mark, or UTF-16, as editors on Windows write.
        where: for messages.
        allow_repeats: whether the last of several equal keys counts, as people's hand-edited files rely on;
            otherwise a repeated key is an error, and so is a byte order mark.

    Raises:
        CorruptFileError: not UTF-8, not JSON, not an object, nested too deeply, or a repeated key.
    """
    try:
        value = json.loads(
            _decoded(text, is_strict=not allow_repeats), object_pairs_hook=None if allow_repeats else _without_repeats
        )
    except (ValueError, RecursionError) as error:
        raise _not_an_object(where, f"{error}; {describe_head(text)}") from error
    if not isinstance(value, dict):
        raise _not_an_object(where, f"a JSON {type(value).__name__}")
    return value


def _decoded(text: bytes, *, is_strict: bool) -> str:
    if is_strict:
        return text.decode("utf-8")
    is_wide = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return text.decode("utf-16" if is_wide else "utf-8-sig")


def read_object(path: Path, limit: int) -> dict[str, Any]:
    """Read a JSON file of at most `limit` bytes that holds one object.

    Raises:
        MissingFileError: no such file.
        UnsafeFileError: larger than `limit`.
        CorruptFileError: as `parse_object`.
    """
    source = open_source(path)
    try:
        if source.size > limit:
            raise UnsafeFileError(
                "JSON file too large",
                where=str(path),
                expected=f"at most {limit} bytes",
                got=f"{source.size} bytes",
                next_step="check that this is the file its name says; huref does not read it",
            )
        text = source.read(0, source.size)
    finally:
        source.close()
    return parse_object(text, str(path))


def read_config(folder: Path) -> Mapping[str, Any]:
    """The folder's `config.json`, or an empty mapping when it has none."""
    path = folder / "config.json"
    return read_object(path, CONFIG_LIMIT) if path.is_file() else {}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {name!r} occurs {count} times")
    return result


def _not_an_object(where: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "not a readable JSON object",
        where=where,
        expected="one JSON object",
        got=got,
        next_step=FETCH_AGAIN,
    )
