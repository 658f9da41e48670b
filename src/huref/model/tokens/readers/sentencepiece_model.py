"""SentencePiece models: `tokenizer.model` (Llama, Mistral, Baichuan, Gemma, InternLM) and `spiece.model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huref.model.tokens.added import apply_added, read_added
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import read_capped
from huref.model.tokens.order import ScoreOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.readers.tiktoken_file import is_rank_file
from huref.model.tokens.sentencepiece_proto import (
    BPE,
    CONTROL,
    UNKNOWN,
    UNUSED,
    SentencePieceModel,
    frequency_scores,
    parse_model,
)
from huref.model.tokens.special import special_ids
from huref.model.tokens.spelling import METASPACE, Notation
from huref.model.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

_NAMES = ("tokenizer.model", "spiece.model")


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in a SentencePiece model file, or None when there is none."""
    path = _find(Path(checkpoint.folder))
    if path is None:
        return None
    model = parse_model(read_capped(path), path.name)
    tokens, special = spell_model(model, path.name)
    apply_added(tokens, special, read_added(path.parent), METASPACE)
    kind = "bpe" if model.model_type == BPE else "unigram"
    order = ScoreOrder(frequency_scores(model.types, model.scores))
    return Vocabulary(tuple(tokens), frozenset(special), kind, path.name, order)


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """The file itself: the `sentencepiece` library reads it."""
    path = _find(Path(checkpoint.folder))
    return None if path is None else EncoderSpec("sentencepiece", read_capped(path))


def spell_model(model: SentencePieceModel, source: str) -> tuple[list[bytes | None], set[int]]:
    """Spelling by id, and the special ids, of a SentencePiece vocabulary (from its own file or from GGUF)."""
    spellings = Notation(marker=METASPACE, byte_fallback=True).spell(model.pieces, source)
    special = {i for i, kind in enumerate(model.types) if kind in (UNKNOWN, CONTROL, UNUSED)}
    special |= special_ids((piece, i) for i, piece in enumerate(model.pieces))
    return [*spellings], special


def _find(folder: Path) -> Path | None:
    paths = (folder / name for name in _NAMES)
    return next((path for path in paths if path.is_file() and not is_rank_file(path)), None)


READER = Reader(priority=30, looks_for=" or ".join(_NAMES), read=read, encoder=encoder)
