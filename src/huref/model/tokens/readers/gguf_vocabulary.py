"""The vocabulary inside a GGUF file's metadata (`tokenizer.ggml.*`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from huref.errors import TokenizerError
from huref.model.tokens.encoders import EncoderSpec, byte_level_spec
from huref.model.tokens.order import IdOrder, MergeOrder, ScoreOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.readers.sentencepiece_model import spell_model
from huref.model.tokens.sentencepiece_proto import (
    BPE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    frequency_scores,
    write_model,
)
from huref.model.tokens.special import special_ids
from huref.model.tokens.spelling import METASPACE, Notation
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

_PREFIX = "tokenizer.ggml."
_SENTENCEPIECE = {"llama": BPE, "t5": UNIGRAM}
_MODELS = ("gpt2", *_SENTENCEPIECE, "bert")


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in the metadata, or None when it holds none."""
    metadata = checkpoint.metadata
    if _PREFIX + "tokens" not in metadata:
        return None
    source = f"{_PREFIX}tokens"
    name = _model_name(metadata)
    if name in _SENTENCEPIECE:
        model = _sentencepiece(metadata)
        tokens, special = spell_model(model, source)
        order = ScoreOrder(frequency_scores(model.types, model.scores))
        return Vocabulary(tuple(tokens), frozenset(special), _kind(name), source, order)
    pieces, types = _pieces(metadata), _types(metadata)
    if name == "bert":
        # llama.cpp marks word beginnings with a visible space and drops the `##`.
        spellings = Notation(marker=METASPACE).spell(pieces, source)
        return Vocabulary(tuple(spellings), _special(pieces, types), "wordpiece", source, IdOrder())
    spellings = _spell_gpt2(pieces, types, source)
    ids = {piece: i for i, piece in enumerate(pieces) if types[i] == NORMAL}
    merges = MergeOrder(ids, _strings(metadata, "merges"), alphabet_first=True, source=_PREFIX + "merges")
    return Vocabulary(tuple(spellings), _special(pieces, types), "bpe", source, merges)


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """An encoder put together from the metadata.

    Raises:
        TokenizerError: the metadata does not hold enough to tokenise text.
    """
    metadata = checkpoint.metadata
    if _PREFIX + "tokens" not in metadata:
        return None
    name = _model_name(metadata)
    if name in _SENTENCEPIECE:
        charsmap = np.asarray(metadata.get(_PREFIX + "precompiled_charsmap", ()), dtype=np.int64)
        has_prefix = bool(metadata.get(_PREFIX + "add_space_prefix", True))
        content = write_model(
            _sentencepiece(metadata),
            add_dummy_prefix=has_prefix,
            charsmap=charsmap.astype(np.uint8).tobytes(),
        )
        return EncoderSpec("sentencepiece", content)
    merges = _strings(metadata, "merges")
    if name == "bert" or not merges:
        raise TokenizerError(
            "this GGUF file does not hold enough to tokenise text",
            where=_PREFIX + "model",
            expected="gpt2 with merges, llama or t5",
            got=name,
            next_step="count with the original model's tokenizer files instead",
        )
    types = _types(metadata)
    ordinary = {p: i for i, p in enumerate(_pieces(metadata)) if types[i] == NORMAL}
    return byte_level_spec(ordinary, merges)


def _kind(name: str) -> str:
    return "bpe" if _SENTENCEPIECE[name] == BPE else "unigram"


def _model_name(metadata: Mapping[str, Any]) -> str:
    name = metadata.get(_PREFIX + "model")
    if not isinstance(name, str) or name not in _MODELS:
        raise TokenizerError(
            "an unknown kind of GGUF vocabulary",
            where=_PREFIX + "model",
            expected=", ".join(_MODELS),
            got=repr(name)[:60],
        )
    return str(name)


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    value = metadata.get(_PREFIX + key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TokenizerError(
            "a GGUF list does not hold text",
            where=_PREFIX + key,
            expected="an array of strings",
            got=type(value).__name__,
        )
    return value


def _pieces(metadata: Mapping[str, Any]) -> list[str]:
    pieces = _strings(metadata, "tokens")
    if not 0 < len(pieces) <= MAX_IDS:
        raise TokenizerError(
            "a vocabulary of absurd size",
            where=_PREFIX + "tokens",
            expected=f"1 to {MAX_IDS} tokens",
            got=str(len(pieces)),
        )
    return pieces


def _numbers(metadata: Mapping[str, Any], key: str, default: float) -> np.ndarray:
    """float64, as many as there are tokens; `default` for each when the key is missing."""
    n_tokens = len(_pieces(metadata))
    if _PREFIX + key not in metadata:
        return np.full(n_tokens, default)
    try:
        numbers = np.asarray(metadata[_PREFIX + key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TokenizerError("a GGUF list does not hold numbers", where=_PREFIX + key, got=str(error)) from error
    if numbers.shape != (n_tokens,) or not np.isfinite(numbers).all():
        raise TokenizerError(
            "a GGUF list does not fit the vocabulary",
            where=_PREFIX + key,
            expected=f"{n_tokens} finite numbers",
            got=f"shape {numbers.shape}",
        )
    return numbers


def _types(metadata: Mapping[str, Any]) -> list[int]:
    types: list[int] = _numbers(metadata, "token_type", NORMAL).astype(np.int64).tolist()
    return types


def _special(pieces: list[str], types: list[int]) -> frozenset[int]:
    marked = {i for i, kind in enumerate(types) if kind in (UNKNOWN, CONTROL, UNUSED)}
    return frozenset(marked | special_ids((piece, i) for i, piece in enumerate(pieces)))


def _spell_gpt2(pieces: list[str], types: list[int], source: str) -> list[bytes]:
    spellings = Notation(byte_level=True).spell(pieces, source)
    for i, kind in enumerate(types):
        if kind in (USER_DEFINED, CONTROL, UNKNOWN, UNUSED):  # stored as they read, not byte-level
            spellings[i] = pieces[i].encode()
    return spellings


def _sentencepiece(metadata: Mapping[str, Any]) -> SentencePieceModel:
    scores = _numbers(metadata, "scores", 0.0).tolist()
    model_type = _SENTENCEPIECE[_model_name(metadata)]
    return SentencePieceModel(tuple(_pieces(metadata)), tuple(scores), tuple(_types(metadata)), model_type)


READER = Reader(priority=10, looks_for=f"GGUF metadata {_PREFIX}tokens", read=read, encoder=encoder)
