"""`tekken.json`, Mistral's tokenizer file: special tokens first, then BPE ranks as base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huref.errors import TokenizerError
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import expect, read_json
from huref.model.tokens.order import IdOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

FILE = "tekken.json"


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in `tekken.json`, or None when there is no such file."""
    path = Path(checkpoint.folder) / FILE
    if not path.is_file():
        return None
    document = read_json(path)
    n_special = _special_count(document)
    names: list[bytes | None] = [None] * n_special
    for entry in expect(document.get("special_tokens") or [], list, f"{FILE}: special_tokens"):
        rank, name = expect(entry, dict, FILE).get("rank"), entry.get("token_str")
        if type(rank) is int and 0 <= rank < n_special and isinstance(name, str):
            names[rank] = name.encode("utf-8", "replace")
    tokens = [*names, *_ranked(document, n_special)]
    return Vocabulary(tuple(tokens), frozenset(range(n_special)), "bpe", FILE, IdOrder())


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """The ranks as a tiktoken file, shifted by the special tokens in front."""
    path = Path(checkpoint.folder) / FILE
    if not path.is_file():
        return None
    document = read_json(path)
    n_special = _special_count(document)
    lines = (base64.b64encode(t) + b" %d" % i for i, t in enumerate(_ranked(document, n_special)))
    return EncoderSpec("tiktoken", b"\n".join(lines), offset=n_special)


def _special_count(document: Mapping[str, Any]) -> int:
    config = expect(document.get("config"), dict, f"{FILE}: config")
    count = expect(config.get("default_num_special_tokens"), int, f"{FILE}: default_num_special_tokens")
    if not 0 <= count < MAX_IDS:
        raise TokenizerError("a count is out of range", where=f"{FILE}: default_num_special_tokens", got=str(count))
    return int(count)


def _ranked(document: Mapping[str, Any], n_special: int) -> list[bytes]:
    """Spellings by rank; the file lists more than the model has rows for."""
    config = expect(document.get("config"), dict, f"{FILE}: config")
    size = expect(config.get("default_vocab_size"), int, f"{FILE}: default_vocab_size")
    entries = expect(document.get("vocab"), list, f"{FILE}: vocab")[: max(size - n_special, 0)]
    spellings = []
    for rank, entry in enumerate(entries):
        try:
            if entry["rank"] != rank:
                raise ValueError(f"rank {entry['rank']!r}")
            spellings.append(binascii.a2b_base64(entry["token_bytes"], strict_mode=True))
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError(
                "a vocabulary entry is malformed",
                where=f"{FILE}: vocab[{rank}]",
                expected="its rank, in order, and token_bytes in base64",
                got=str(error)[:80],
            ) from error
    return spellings


READER = Reader(priority=60, looks_for=FILE, read=read, encoder=encoder)
