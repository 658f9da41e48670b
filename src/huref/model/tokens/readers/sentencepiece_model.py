"""SentencePiece models: `tokenizer.model` (Llama, Mistral, Baichuan, Gemma, InternLM), `spiece.model` and others.

Some tokenizers count from elsewhere than the file: fairseq's (`sentencepiece.bpe.model`: XLM-R, mBART, NLLB) put four
tokens of their own first, and ChatGLM-6B's (`ice_text.model`) leaves room for pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huref.errors import TokenizerError
from huref.model.tokens.added import apply_added, read_added
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import read_capped, read_json
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
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

_FAIRSEQ, _CHATGLM = "sentencepiece.bpe.model", "ice_text.model"
_NAMES = ("tokenizer.model", "spiece.model", "spm.model", _FAIRSEQ, _CHATGLM)
_VERSIONED = "tokenizer.model.v*"
_OWN = ("<s>", "<pad>", "</s>", "<unk>")
_CAMEMBERT = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>")
_PICTURES = 20_000
"""Places that ChatGLM-6B's tokenizer leaves for pictures, unless its configuration says otherwise."""


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in a SentencePiece model file, or None when there is none."""
    path = _find(Path(checkpoint.folder))
    if path is None:
        return None
    model = parse_model(read_capped(path), path.name)
    tokens, special = spell_model(model, path.name)
    tokens, special, first = _moved(tokens, special, path, checkpoint.config)
    apply_added(tokens, special, read_added(path.parent), METASPACE)
    kind = "bpe" if model.model_type == BPE else "unigram"
    order = ScoreOrder([*[-np.inf] * first, *frequency_scores(model.types, model.scores)])
    return Vocabulary(tuple(tokens), frozenset(special), kind, path.name, order)


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """The file itself: the `sentencepiece` library reads it."""
    path = _find(Path(checkpoint.folder))
    if path is None or path.name in (_FAIRSEQ, _CHATGLM):  # the library knows nothing of ids that were moved
        return None
    return EncoderSpec("sentencepiece", read_capped(path))


def spell_model(model: SentencePieceModel, source: str) -> tuple[list[bytes | None], set[int]]:
    """Spelling by id, and the special ids, of a SentencePiece vocabulary (from its own file or from GGUF)."""
    spellings = Notation(marker=METASPACE, byte_fallback=True).spell(model.pieces, source)
    special = {i for i, kind in enumerate(model.types) if kind in (UNKNOWN, CONTROL, UNUSED)}
    special |= special_ids((piece, i) for i, piece in enumerate(model.pieces))
    return [*spellings], special


def _moved(
    tokens: list[bytes | None], special: set[int], path: Path, config: Mapping[str, Any]
) -> tuple[list[bytes | None], set[int], int]:
    """Tokens and special ids as the embedding counts them, and how many places stand in front of the file's own."""
    if path.name == _CHATGLM:
        n = _pictures(path.parent)
        return [*[None] * n, *tokens], {i + n for i in special}, n
    if path.name != _FAIRSEQ:
        return tokens, special, 0
    is_camembert = config.get("model_type") == "camembert"
    own = _CAMEMBERT if is_camembert else _OWN
    first = 4 if is_camembert else 1  # the file's own first three, <unk>, <s> and </s>, give way to fairseq's four
    moved = [*[None] * first, *tokens]
    moved[: len(own)] = [token.encode() for token in own]
    return moved, {*range(len(own)), *(i + first for i in special)}, first


def _pictures(folder: Path) -> int:
    path = folder / "tokenizer_config.json"
    told = read_json(path).get("num_image_tokens", _PICTURES) if path.is_file() else _PICTURES
    if type(told) is not int or not 0 <= told < MAX_IDS // 2:
        raise TokenizerError("an impossible number of picture tokens", where=str(path), got=repr(told)[:60])
    return told


def _find(folder: Path) -> Path | None:
    paths = (*(folder / name for name in _NAMES), *sorted(folder.glob(_VERSIONED), reverse=True))
    return next((path for path in paths if path.is_file() and not is_rank_file(path)), None)


READER = Reader(priority=30, looks_for=", ".join((*_NAMES, _VERSIONED)), read=read, encoder=encoder)
