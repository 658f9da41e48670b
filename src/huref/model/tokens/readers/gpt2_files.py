"""`vocab.json` with `merges.txt`: byte-level BPE as GPT-2 published it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huref.errors import TokenizerError
from huref.model.tokens.added import apply_added, read_added
from huref.model.tokens.encoders import EncoderSpec, byte_level_spec
from huref.model.tokens.files import read_capped, read_json
from huref.model.tokens.order import MergeOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.special import special_ids
from huref.model.tokens.spelling import Notation
from huref.model.tokens.vocabulary import Vocabulary, place_tokens

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

VOCAB, MERGES = "vocab.json", "merges.txt"


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in `vocab.json`, ordered by `merges.txt`, or None when either is missing."""
    folder = Path(checkpoint.folder)
    if not _is_here(folder):
        return None
    ids = read_json(folder / VOCAB)
    pieces = list(ids)
    tokens = place_tokens(list(ids.values()), Notation(byte_level=True).spell(pieces, VOCAB), VOCAB)
    special = special_ids(ids.items())
    apply_added(tokens, special, read_added(folder), marker="")
    order = MergeOrder(ids, _merges(folder), alphabet_first=True, source=MERGES)
    return Vocabulary(tuple(tokens), frozenset(special), "bpe", VOCAB, order)


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """A `tokenizers` model put together from the two files."""
    folder = Path(checkpoint.folder)
    return byte_level_spec(read_json(folder / VOCAB), _merges(folder)) if _is_here(folder) else None


def _is_here(folder: Path) -> bool:
    return (folder / VOCAB).is_file() and (folder / MERGES).is_file()


def _merges(folder: Path) -> list[str]:
    try:
        lines = read_capped(folder / MERGES).decode().split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            "a tokenizer file is not text", where=MERGES, expected="UTF-8", got=str(error)
        ) from error
    return [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]


READER = Reader(priority=40, looks_for=f"{VOCAB} with {MERGES}", read=read, encoder=encoder)
