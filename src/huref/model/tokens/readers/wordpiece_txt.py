"""`vocab.txt`: WordPiece as BERT published it, a token a line, its number the id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from huref.errors import TokenizerError
from huref.model.tokens.added import apply_added, read_added
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import read_capped, read_json
from huref.model.tokens.order import IdOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.special import special_ids
from huref.model.tokens.spelling import Notation
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary, place_tokens

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

FILE = "vocab.txt"
_PREFIX = "##"
_CONTROL = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in `vocab.txt`, or None when there is none."""
    path = Path(checkpoint.folder) / FILE
    if not path.is_file():
        return None
    ids = _ids(path)
    tokens = place_tokens(list(ids.values()), Notation(word_prefix=_PREFIX).spell(list(ids), FILE), FILE)
    special = special_ids(ids.items())
    for piece in _CONTROL & ids.keys():  # no words: tokenizer.json has them as added tokens, as they are written
        tokens[ids[piece]] = piece.encode()
    apply_added(tokens, special, read_added(path.parent), marker="")
    return Vocabulary(tuple(tokens), frozenset(special), "wordpiece", FILE, IdOrder())


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """A `tokenizers` model put together from the list."""
    path = Path(checkpoint.folder) / FILE
    if not path.is_file():
        return None
    settings = path.parent / "tokenizer_config.json"
    is_lower = read_json(settings).get("do_lower_case", True) is True if settings.is_file() else True
    model = {
        "type": "WordPiece",
        "vocab": _ids(path),
        "unk_token": "[UNK]",
        "continuing_subword_prefix": _PREFIX,
        "max_input_chars_per_word": 100,
    }
    cleaning = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": is_lower}
    whole = {
        "version": "1.0",
        "normalizer": {"type": "BertNormalizer", **cleaning},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": model,
    }
    return EncoderSpec("tokenizers", json.dumps(whole).encode())


def _ids(path: Path) -> dict[str, int]:
    """The id of each token; of a token that stands twice the last, as BERT's own reader has it."""
    try:
        lines = read_capped(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            "a tokenizer file is not text", where=str(path), expected="UTF-8", got=str(error)
        ) from error
    lines = lines[:-1] if not lines[-1] else lines
    if not 0 < len(lines) <= MAX_IDS:
        raise TokenizerError(
            "no list of tokens", where=str(path), expected=f"1 to {MAX_IDS} lines", got=str(len(lines))
        )
    return {line.rstrip("\r"): i for i, line in enumerate(lines)}


READER = Reader(priority=70, looks_for=FILE, read=read, encoder=encoder)
