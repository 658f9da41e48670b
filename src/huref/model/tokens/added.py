"""Tokens that a repository adds to a vocabulary in files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huref.errors import TokenizerError
from huref.model.tokens.files import expect, read_json
from huref.model.tokens.special import is_special
from huref.model.tokens.vocabulary import check_ids


@dataclass(frozen=True)
class AddedToken:
    """One added token: raw text, not in the tokenizer's own notation."""

    id: int
    content: str
    special: bool


def parse_added(entries: Sequence[Any], where: str) -> list[AddedToken]:
    """Added tokens from `tokenizer.json`'s `added_tokens` list.

    Raises:
        TokenizerError: an entry is malformed, or two have one id.
    """
    added = [_parse_entry(expect(entry, dict, where), where) for entry in entries]
    check_ids([token.id for token in added], where)
    return added


def read_added(folder: Path) -> list[AddedToken]:
    """Added tokens from `tokenizer_config.json` (`added_tokens_decoder`) and, older, `added_tokens.json`."""
    found: dict[int, AddedToken] = {}
    for entry in (*_from_mapping(folder / "added_tokens.json"), *_from_config(folder / "tokenizer_config.json")):
        found[entry.id] = entry
    return [found[i] for i in sorted(found)]


def apply_added(tokens: list[bytes | None], special: set[int], added: Sequence[AddedToken], marker: str) -> None:
    """Put added tokens into `tokens` and `special`, both changed in place; the added content wins."""
    for token in added:
        tokens.extend([None] * (token.id + 1 - len(tokens)))
        try:
            tokens[token.id] = (token.content.replace(marker, " ") if marker else token.content).encode()
        except UnicodeEncodeError as error:
            raise TokenizerError("an added token is not text", where=f"id {token.id}", got=str(error)) from error
        if token.special:
            special.add(token.id)


def _parse_entry(entry: Mapping[str, Any], where: str) -> AddedToken:
    content = expect(entry.get("content"), str, f"{where}: added token")
    is_marked = bool(entry.get("special", False))
    return AddedToken(entry.get("id", -1), content, is_marked or is_special(content))


def _from_mapping(path: Path) -> list[AddedToken]:
    if not path.is_file():
        return []
    entries = [{"content": content, "id": i} for content, i in read_json(path).items()]
    return parse_added(entries, str(path))


def _from_config(path: Path) -> list[AddedToken]:
    if not path.is_file():
        return []
    table = expect(read_json(path).get("added_tokens_decoder") or {}, dict, str(path))
    entries = [{**expect(entry, dict, str(path)), "id": _parse_id(key, str(path))} for key, entry in table.items()]
    return parse_added(entries, str(path))


def _parse_id(key: str, where: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 12):
        raise TokenizerError("a token id is not an integer", where=where, expected="digits", got=key[:60])
    return int(key)
