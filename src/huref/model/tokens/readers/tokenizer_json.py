"""`tokenizer.json`, the format of the `tokenizers` library: BPE, Unigram, WordPiece, word level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huref.errors import TokenizerError
from huref.model.tokens.added import apply_added, parse_added
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import expect, read_capped, read_json
from huref.model.tokens.order import IdOrder, MergeOrder, Order, ScoreOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.special import special_ids
from huref.model.tokens.spelling import BYTE_TOKENS, METASPACE, Notation
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary, place_tokens

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

FILE = "tokenizer.json"
_KINDS = {"BPE": "bpe", "Unigram": "unigram", "WordPiece": "wordpiece", "WordLevel": "wordlevel"}


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in `tokenizer.json`, or None when there is no such file."""
    path = Path(checkpoint.folder) / FILE
    return parse_tokenizer(read_json(path), FILE) if path.is_file() else None


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """The file itself: the `tokenizers` library reads it."""
    path = Path(checkpoint.folder) / FILE
    return EncoderSpec("tokenizers", read_capped(path)) if path.is_file() else None


def parse_tokenizer(document: Mapping[str, Any], source: str) -> Vocabulary:
    """The vocabulary of a parsed `tokenizer.json`.

    Args:
        document: the file's JSON object.
        source: what to call the file in messages.

    Raises:
        TokenizerError: an unknown model type, or a value of the wrong type or range.
    """
    model = expect(document.get("model"), dict, f"{source}: model")
    kind = _model_kind(model, source)
    pieces, ids = _entries(model, kind, source)
    by_piece = dict(zip(pieces, ids, strict=True))
    notation = find_notation(document, model, by_piece)
    tokens = place_tokens(ids, notation.spell(pieces, source), source)
    special = special_ids(by_piece.items())
    added = expect(document.get("added_tokens") or [], list, f"{source}: added_tokens")
    apply_added(tokens, special, parse_added(added, source), notation.marker)
    order = _order(model, kind, notation, by_piece, source)
    return Vocabulary(tuple(tokens), frozenset(special), _KINDS[kind], source, order)


def find_notation(document: Mapping[str, Any], model: Mapping[str, Any], ids: Mapping[str, int]) -> Notation:
    """How the file spells its tokens, from its own decoder, pre-tokenizer and normalizer."""
    parts = [part for key in ("decoder", "pre_tokenizer", "normalizer") for part in _components(document.get(key))]
    types = [part.get("type") for part in parts]  # no set: a hostile file may hold a list here
    complete = all(piece in ids for piece in BYTE_TOKENS)
    prefix = model.get("continuing_subword_prefix") if _is_wordpiece(model) else None
    return Notation(
        byte_level="ByteLevel" in types,
        marker=_marker(parts),
        byte_fallback=bool(model.get("byte_fallback")) or "ByteFallback" in types or complete,
        word_prefix=expect(prefix or "", str, "continuing_subword_prefix"),
        word_suffix=expect(model.get("end_of_word_suffix") or "", str, "end_of_word_suffix"),
    )


def _components(value: Any) -> Iterator[Mapping[str, Any]]:
    # Sequences nest; a loop, because a hostile file may nest deeper than Python recurses.
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            for key in ("decoders", "pretokenizers", "normalizers"):
                waiting.extend(part[key] if isinstance(part.get(key), list) else ())


def _marker(parts: list[Mapping[str, Any]]) -> str:
    for part in parts:
        if part.get("type") == "Metaspace":
            return expect(part.get("replacement", METASPACE), str, "Metaspace replacement") or METASPACE
    # Converted SentencePiece models say the same thing as two replacements.
    is_replaced = any(
        part.get("type") == "Replace"
        and METASPACE in (part.get("content"), (part.get("pattern") or {}).get("String"))
        for part in parts
        if isinstance(part.get("pattern"), dict)
    )
    return METASPACE if is_replaced else ""


def _model_kind(model: Mapping[str, Any], source: str) -> str:
    kind = model.get("type")
    if kind is None:  # files of `tokenizers` before 0.9 do not say
        if "merges" in model:
            return "BPE"
        if isinstance(model.get("vocab"), list):
            return "Unigram"
        return "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"
    if not isinstance(kind, str) or kind not in _KINDS:
        raise TokenizerError(
            "an unknown kind of tokenizer model", where=source, expected=", ".join(_KINDS), got=repr(kind)[:60]
        )
    return str(kind)


def _is_wordpiece(model: Mapping[str, Any]) -> bool:
    return "continuing_subword_prefix" in model and "merges" not in model


def _entries(model: Mapping[str, Any], kind: str, source: str) -> tuple[list[str], list[int]]:
    where = f"{source}: model.vocab"
    if kind != "Unigram":
        vocab = expect(model.get("vocab"), dict, where)
        return list(vocab), list(vocab.values())
    entries = expect(model.get("vocab"), list, where)
    if len(entries) > MAX_IDS:
        raise TokenizerError("a vocabulary is too large", where=where, expected=f"at most {MAX_IDS} tokens")
    if not all(isinstance(e, list) and len(e) == 2 and isinstance(e[0], str) for e in entries):
        raise TokenizerError("a vocabulary entry is malformed", where=where, expected='["piece", score]')
    return [entry[0] for entry in entries], list(range(len(entries)))


def _order(model: Mapping[str, Any], kind: str, notation: Notation, ids: Mapping[str, int], source: str) -> Order:
    if kind == "BPE":
        merges = expect(model.get("merges") or [], list, f"{source}: model.merges")
        prefix = expect(model.get("continuing_subword_prefix") or "", str, f"{source}: model")
        return MergeOrder(ids, merges, not notation.byte_fallback, prefix, source)
    if kind == "Unigram":
        return ScoreOrder(_scores(model["vocab"], notation, source))
    return IdOrder()


def _scores(entries: list[list[Any]], notation: Notation, source: str) -> list[float]:
    try:
        scores = np.array([score for _, score in entries], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TokenizerError("a score is not a number", where=f"{source}: model.vocab", got=str(error)) from error
    if not np.isfinite(scores).all():
        raise TokenizerError("a score is not finite", where=f"{source}: model.vocab")
    is_byte = [notation.byte_fallback and piece in BYTE_TOKENS for piece, _ in entries]
    return list(np.where(is_byte, -np.inf, scores))


READER = Reader(priority=20, looks_for=FILE, read=read, encoder=encoder)
