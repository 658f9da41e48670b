"""A tokenizer's vocabulary, reduced to what a fingerprint needs: which bytes each id stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from huref.errors import TokenizerError
from huref.model.tokens.order import IdOrder, Order

MAX_IDS = 1 << 22
"""Ids beyond this are refused: four times the largest vocabulary known, and still a small allocation."""

_NO_TOKEN = 0xFFFFFFFF


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one tokenizer by id, spelled the same way whatever the tokenizer's own notation.

    Spelling: the UTF-8 bytes that the token adds to a decoded text, a leading space included. SentencePiece
    `▁the`, byte-level `Ġthe` and WordPiece `the` are all `b" the"`; WordPiece `##the` is `b"the"`; the
    byte-fallback token `<0x0A>` is `b"\\n"`; tiktoken's raw bytes stay as they are.

    Attributes:
        tokens: spelling by id; None where an id has no token.
        special: ids that stand for no text: control, unknown, padding, reserved and unused tokens.
        kind: `bpe`, `unigram`, `wordpiece` or `wordlevel`.
        source: the file the vocabulary was read from.
        order: the tokenizer's own evidence of frequency, evaluated when `frequency_order` asks.
        lender: what the vocabulary was borrowed from, as a result may name it; empty for the checkpoint's own.
        digest: sha256 (hex) over the id -> (spelling, special) list.
    """

    tokens: tuple[bytes | None, ...]
    special: frozenset[int]
    kind: str
    source: str
    order: Order = field(default=IdOrder(), repr=False, compare=False)
    lender: str = field(default="", compare=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self.tokens, self.special))

    def __len__(self) -> int:
        return len(self.tokens)

    def ordinary(self, n_rows: int | None = None) -> list[int]:
        """Ids, ascending, that stand for text: a token, not special, not empty, and below `n_rows`."""
        special = self.special
        return [i for i, token in enumerate(self.tokens[:n_rows]) if token and i not in special]

    def frequency_order(self) -> np.ndarray:
        """Ordinary ids (int64) from most to least frequent by the tokenizer's own order; ties by id.

        BPE: the base alphabet, then the rank of the merge that makes the token; with byte fallback (a
        converted SentencePiece model) merges, then single characters, then bytes, as its scores say.
        Unigram and SentencePiece: score, descending. tiktoken: rank.

        Raises:
            TokenizerError: the merges or scores are malformed.
        """
        ids = np.array(self.ordinary(), dtype=np.int64)
        keys = self.order.keys(len(self.tokens))
        return ids[np.argsort(keys[ids], kind="stable")]


def place_tokens(ids: Sequence[int], spellings: Iterable[bytes], where: str) -> list[bytes | None]:
    """Lay spellings out by id; gaps become None.

    Raises:
        TokenizerError: an id is no integer, out of range, or used twice.
    """
    check_ids(ids, where)
    tokens: list[bytes | None] = [None] * (max(ids, default=-1) + 1)
    for i, spelling in zip(ids, spellings, strict=True):
        tokens[i] = spelling
    return tokens


def check_ids(ids: Sequence[int], where: str) -> None:
    """Refuse token ids that are no integers, negative, absurdly large, or used twice."""
    wrong = [i for i in ids if type(i) is not int]
    if wrong:
        raise TokenizerError(
            "a token id is not an integer", where=where, expected="integers", got=repr(wrong[0])[:60]
        )
    if ids and (min(ids) < 0 or max(ids) >= MAX_IDS):
        raise TokenizerError(
            "a token id is out of range",
            where=where,
            expected=f"0 to {MAX_IDS - 1}",
            got=f"{min(ids)} to {max(ids)}",
        )
    if len(set(ids)) != len(ids):
        seen: set[int] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise TokenizerError("two tokens have one id", where=where, expected="unique ids", got=str(twice))


def _digest(tokens: Sequence[bytes | None], special: frozenset[int]) -> str:
    # The number of ids; per id 4 bytes of length (all ones: no token); per id 1 byte, special or not; the
    # spellings one after another. Little-endian.
    lengths = [_NO_TOKEN if token is None else len(token) for token in tokens]
    flags = np.zeros(len(tokens), dtype=np.uint8)
    flags[[i for i in special if i < len(tokens)]] = 1
    hasher = hashlib.sha256(b"huref/vocabulary/1" + len(tokens).to_bytes(8, "little"))
    hasher.update(np.array(lengths, dtype="<u4").tobytes())
    hasher.update(flags.tobytes())
    hasher.update(b"".join(token for token in tokens if token))
    return hasher.hexdigest()
