"""SentencePiece's model file, read and written as protocol-buffer bytes.

Only the fields that matter here, by the numbers of `sentencepiece_model.proto`. Read in Python rather than by
the native library, because the file comes from strangers, and because the library does not say which pieces
are user-defined nor which kind of model it is.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huref.errors import TokenizerError
from huref.files.protobuf import fields
from huref.model.tokens.vocabulary import MAX_IDS

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of pieces; GGUF's `token_type` uses the same numbers."""

UNIGRAM, BPE = 1, 2
"""Kinds of models (`TrainerSpec.model_type`); WORD and CHAR are 3 and 4."""

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # ModelProto
_PIECE, _SCORE, _TYPE = 1, 2, 3  # SentencePiece
_MODEL_TYPE, _BYTE_FALLBACK = 3, 35  # TrainerSpec
_NAME, _CHARSMAP, _DUMMY_PREFIX, _EXTRA_SPACES = 1, 2, 3, 4  # NormalizerSpec


@dataclass(frozen=True)
class SentencePieceModel:
    """A vocabulary as SentencePiece stores it.

    Attributes:
        pieces: by id, with the visible space.
        scores: by id.
        types: by id: NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED or BYTE.
        model_type: UNIGRAM, BPE, WORD (3) or CHAR (4).
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    model_type: int


def parse_model(content: bytes, source: str) -> SentencePieceModel:
    """Read a SentencePiece model file.

    Raises:
        TokenizerError: the bytes are no such model, or hold absurdly many pieces.
    """
    model_type = UNIGRAM
    pieces: list[str] = []
    scores: list[bytes] = []
    types: list[int] = []
    try:
        for number, value in fields(content):
            if number == _PIECES and isinstance(value, bytes):
                piece, score, kind = _parse_piece(value)
                pieces.append(piece.decode())
                scores.append(score)
                types.append(kind)
            elif number == _TRAINER and isinstance(value, bytes):
                model_type = next((int(v) for n, v in fields(value) if n == _MODEL_TYPE), UNIGRAM)
        if not 0 < len(pieces) <= MAX_IDS:
            raise ValueError(f"{len(pieces)} pieces")
    except (ValueError, IndexError, struct.error) as error:
        raise TokenizerError(
            "not a SentencePiece model",
            where=source,
            expected="a serialised sentencepiece ModelProto",
            got=str(error),
            next_step="check that the file was downloaded whole and is no Git LFS pointer",
        ) from error
    floats = np.frombuffer(b"".join(scores), dtype="<f4")
    if np.isnan(floats).any():
        raise TokenizerError("a score is not a number", where=source, got="NaN")
    return SentencePieceModel(tuple(pieces), tuple(floats.tolist()), tuple(types), model_type)


def write_model(model: SentencePieceModel, *, add_dummy_prefix: bool, charsmap: bytes = b"") -> bytes:
    """Serialise a model so that the `sentencepiece` library can load it (identity or given normaliser).

    Args:
        model: the vocabulary.
        add_dummy_prefix: whether text gets a space in front.
        charsmap: SentencePiece's compiled normalisation table; empty for none.
    """
    entries = zip(model.pieces, model.scores, model.types, strict=True)
    body = [_block(_PIECES, _write_piece(piece, score, kind)) for piece, score, kind in entries]
    fallback = int(BYTE in model.types)
    body.append(_block(_TRAINER, _number(_MODEL_TYPE, model.model_type) + _number(_BYTE_FALLBACK, fallback)))
    normalizer = _block(_NAME, b"identity") + _block(_CHARSMAP, charsmap)
    normalizer += _number(_DUMMY_PREFIX, int(add_dummy_prefix)) + _number(_EXTRA_SPACES, 0)
    body.append(_block(_NORMALIZER, normalizer))
    return b"".join(body)


def _parse_piece(entry: bytes) -> tuple[bytes, bytes, int]:
    """Piece, score (4 bytes) and type. Nearly every entry has the layout tried first."""
    if entry[0] == 0x0A and entry[1] < 0x80:
        end = 2 + entry[1]
        rest = entry[end:]
        if len(rest) == 5 and rest[0] == 0x15:
            return entry[2:end], rest[1:], NORMAL
        if len(rest) == 7 and rest[0] == 0x15 and rest[5] == 0x18:
            return entry[2:end], rest[1:5], rest[6]
    piece, score, kind = b"", bytes(4), NORMAL
    for number, value in fields(entry):
        if number == _PIECE and isinstance(value, bytes):
            piece = value
        elif number == _SCORE and isinstance(value, bytes) and len(value) == 4:
            score = value
        elif number == _TYPE and isinstance(value, int):
            kind = value
    return piece, score, kind


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _write_varint(field << 3) + _write_varint(value)


def _block(field: int, content: bytes) -> bytes:
    return _write_varint(field << 3 | 2) + _write_varint(len(content)) + content


def _write_piece(piece: str, score: float, kind: int) -> bytes:
    content = _block(_PIECE, piece.encode()) + _write_varint(_SCORE << 3 | 5) + struct.pack("<f", score)
    return content + _number(_TYPE, kind)


def frequency_scores(types: Sequence[int], scores: Sequence[float]) -> list[float]:
    """Scores with the pieces that the model never scores (bytes, user-defined) put last.

    Their stored score is 0, the best of all, although they are used only where nothing else fits.
    """
    return [-np.inf if kind in (BYTE, USER_DEFINED) else s for kind, s in zip(types, scores, strict=True)]
