"""From a tokenizer's own notation to the bytes that a token stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huref.errors import TokenizerError

METASPACE = "\u2581"
"""SentencePiece's visible space."""


def byte_alphabet() -> list[str]:
    """The printable character that byte-level BPE writes for each of the 256 bytes.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for U+0100 upward
    (Radford et al. 2019, the published GPT-2 encoder).
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(b) if b in visible else chr(next(hidden)) for b in range(256)]


BYTE_TOKENS = {f"<0x{b:02X}>": bytes([b]) for b in range(256)}
"""Byte-fallback tokens of SentencePiece and the byte each one stands for."""

_BYTE_OF_CHARACTER = np.full(0x200, 0xFFFF, dtype=np.uint16)
_BYTE_OF_CHARACTER[[ord(c) for c in byte_alphabet()]] = np.arange(256)


@dataclass(frozen=True)
class Notation:
    """How a tokenizer writes its tokens down.

    Attributes:
        byte_level: through the byte alphabet above.
        marker: the visible space, or "" where a space is a space.
        byte_fallback: `<0x0A>` means a byte.
        word_prefix: continuing-word prefix (`##`); tokens without it begin a word.
        word_suffix: end-of-word suffix (`</w>`); it stands for a space.
    """

    byte_level: bool = False
    marker: str = ""
    byte_fallback: bool = False
    word_prefix: str = ""
    word_suffix: str = ""

    def spell(self, pieces: Sequence[str], where: str) -> list[bytes]:
        """Bytes of each piece.

        Raises:
            TokenizerError: a piece is no text that UTF-8 can write.
        """
        try:
            if self.byte_level:
                return spell_byte_level(pieces)
            if self.word_prefix:
                return [_spell_word(piece, self.word_prefix) for piece in pieces]
            spellings = [piece.encode() for piece in self._spaced(pieces)]
        except (UnicodeEncodeError, AttributeError, TypeError) as error:
            raise TokenizerError(
                "a token is not text", where=where, expected="strings of Unicode text", got=str(error)
            ) from error
        if self.byte_fallback:
            for i, piece in enumerate(pieces):
                if piece in BYTE_TOKENS:
                    spellings[i] = BYTE_TOKENS[piece]
        return spellings

    def _spaced(self, pieces: Sequence[str]) -> Sequence[str]:
        if self.marker:
            return [piece.replace(self.marker, " ") for piece in pieces]
        if self.word_suffix:
            return [_end_word(piece, self.word_suffix) for piece in pieces]
        return pieces


def spell_byte_level(pieces: Sequence[str]) -> list[bytes]:
    """Bytes of byte-level pieces; one with a character outside the alphabet is raw text, as in decoders."""
    # One table look-up over all characters at once: a character is a byte, so lengths carry over.
    codes = np.frombuffer("".join(pieces).encode("utf-32-le"), dtype=np.uint32)
    values = _BYTE_OF_CHARACTER[np.minimum(codes, 0x1FF)]
    values[codes > 0x1FF] = 0xFFFF
    text = values.astype(np.uint8).tobytes()
    ends = np.cumsum(np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces)))
    bounds = [0, *ends.tolist()]
    spellings = [text[a:b] for a, b in itertools.pairwise(bounds)]
    for i in set(np.searchsorted(ends, np.nonzero(values > 0xFF)[0], side="right").tolist()):
        spellings[i] = pieces[i].encode()
    return spellings


def _spell_word(piece: str, prefix: str) -> bytes:
    return piece[len(prefix) :].encode() if piece.startswith(prefix) else b" " + piece.encode()


def _end_word(piece: str, suffix: str) -> str:
    return piece.removesuffix(suffix) + " " if piece.endswith(suffix) else piece
