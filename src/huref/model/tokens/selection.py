"""Which K tokens a fingerprint looks at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from huref.errors import TokenizerError
from huref.model.tokens.common_strings import common_strings
from huref.model.tokens.ranking import Ranking
from huref.model.tokens.vocabulary import Vocabulary

MIN_TOKENS = 256
"""Fewer tokens than this carry no fingerprint."""

_SAMPLE_DOMAIN = b"huref/token-sample/1"
_DIGEST_DOMAIN = b"huref/token-selection/1"


@dataclass(frozen=True)
class TokenSelection:
    """K embedding rows, in the order in which they enter the invariant terms.

    Attributes:
        ids: int64 (k,): rows of this model's embedding.
        strings: (k,) the tokens' spellings.
        method: `rarest`, `rarest by own order`, `sampled`, `common` or `shared`.
        requested: how many were asked for; k is smaller when the vocabulary has fewer.
        digest: sha256 (hex) over the spellings, in order, each with its length in front.
    """

    ids: np.ndarray
    strings: tuple[bytes, ...]
    method: str
    requested: int
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self.strings))

    def __len__(self) -> int:
        return len(self.strings)

    def first(self, n: int) -> TokenSelection:
        """The first n of the tokens, or all where there are no more."""
        return self if len(self) <= n else TokenSelection(self.ids[:n], self.strings[:n], self.method, n)


def rarest(vocabulary: Vocabulary, ranking: Ranking | None, k: int, n_rows: int | None = None) -> TokenSelection:
    """The paper's choice: the last K of a frequency ranking, special tokens left out (section 4.2).

    Args:
        vocabulary: the model's.
        ranking: most frequent first; None for the tokenizer's own order as a stand-in.
        k: how many.
        n_rows: rows of the embedding; ids beyond are left out.

    Raises:
        TokenizerError: fewer than 256 usable tokens.
    """
    ids = vocabulary.frequency_order() if ranking is None else ranking.ids
    usable = np.zeros(max(len(vocabulary), int(ids.max(initial=-1)) + 1), dtype=bool)
    usable[vocabulary.ordinary(n_rows)] = True
    method = "rarest by own order" if ranking is None else "rarest"
    chosen = ids[usable[ids]]
    if ranking is not None and len(chosen) < MIN_TOKENS:
        raise TokenizerError(
            "too few usable tokens in the ranking",
            where=ranking.source,
            expected=f"at least {MIN_TOKENS}",
            got=f"{len(chosen)} of {len(ids)} lines",
            next_step="rank the tokens of a longer text: huref tokens rank",
        )
    return _select(vocabulary, chosen[max(chosen.size - k, 0) :].tolist(), method, k)


def sampled(vocabulary: Vocabulary, k: int, n_rows: int | None = None) -> TokenSelection:
    """The K strings whose SHA-256 is smallest (bottom-k min-hash): a choice that belongs to the strings.

    Two vocabularies choose alike as far as they share strings, whatever their ids, and a vocabulary that is
    extended keeps all of its choice but what the new strings displace (Broder 1997).

    Args:
        vocabulary: the model's.
        k: how many.
        n_rows: rows of the embedding; ids beyond are left out.

    Raises:
        TokenizerError: fewer than 256 usable tokens.
    """
    ids = _by_string(vocabulary, n_rows)
    return _select(vocabulary, [ids[token] for token in _smallest(ids, k)], "sampled", k)


def common(vocabulary: Vocabulary, k: int, n_rows: int | None = None) -> TokenSelection:
    """K strings that most vocabularies have: those of a public list by its order, then the rest as `sampled`.

    Two vocabularies choose alike far beyond what they share by chance: the list holds 16,384 strings, the most widely
    shared of 24 vocabularies first (docs/decisions/2026-11-29-common-tokens.md). A vocabulary that is extended keeps
    all of its choice but what new strings of the list, or of a smaller hash among the rest, displace. Of two ids with
    one string the higher counts: where bytes have tokens of their own, as a fallback, text has the later ones.

    Args:
        vocabulary: the model's.
        k: how many.
        n_rows: rows of the embedding; ids beyond are left out.

    Raises:
        TokenizerError: fewer than 256 usable tokens.
    """
    ids = _by_string(vocabulary, n_rows, is_last=True)
    return _select(vocabulary, [ids[token] for token in _most_common(ids.keys(), k)], "common", k)


def shared(
    a: Vocabulary,
    b: Vocabulary,
    k: int,
    n_rows: tuple[int | None, int | None] = (None, None),
    *,
    is_common: bool = False,
) -> tuple[TokenSelection, TokenSelection]:
    """`sampled` over the strings that two vocabularies share: the same strings, in the same order.

    Args:
        a, b: the two models' vocabularies.
        k: how many.
        n_rows: rows of their two embeddings; ids beyond are left out.
        is_common: `common` in place of `sampled`.

    Raises:
        TokenizerError: fewer than 256 strings are shared.
    """
    ids_a, ids_b = (_by_string(v, n, is_last=is_common) for v, n in zip((a, b), n_rows, strict=True))
    both = ids_a.keys() & ids_b.keys()
    strings = tuple(_most_common(both, k) if is_common else _smallest(both, k))
    if len(strings) < MIN_TOKENS:
        raise TokenizerError(
            "the two vocabularies share too few tokens to compare the models",
            where=f"{a.source} ({len(ids_a)} tokens) and {b.source} ({len(ids_b)} tokens)",
            expected=f"at least {MIN_TOKENS} tokens in common",
            got=str(len(strings)),
        )
    return (
        TokenSelection(_rows(ids_a, strings), strings, "shared", k),
        TokenSelection(_rows(ids_b, strings), strings, "shared", k),
    )


def _by_string(vocabulary: Vocabulary, n_rows: int | None, *, is_last: bool = False) -> dict[bytes, int]:
    """Id by spelling over the ordinary tokens; the lowest id where a spelling occurs twice, or the highest."""
    tokens, ids = vocabulary.tokens, vocabulary.ordinary(n_rows)
    return {tokens[i] or b"": i for i in (ids if is_last else reversed(ids))}


def _most_common(strings: Set[bytes], k: int) -> list[bytes]:
    """The first k: those of the public list by its order, then the rest by hash."""
    chosen = [token for token in common_strings() if token in strings][: max(k, 0)]
    return chosen + _smallest(strings - set(chosen), k - len(chosen))


def _smallest(strings: Iterable[bytes], k: int) -> list[bytes]:
    """The k strings of smallest hash, ascending: only those that the hashes' first 8 bytes let in are sorted."""
    tokens, sha256 = list(strings), hashlib.sha256
    if not tokens or k <= 0:
        return []
    keys = [sha256(_SAMPLE_DOMAIN + len(token).to_bytes(8, "little") + token).digest() for token in tokens]
    heads = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 4)[:, 0].astype(np.uint64)
    last = np.partition(heads, min(k, len(tokens)) - 1)[min(k, len(tokens)) - 1]
    near = sorted(np.flatnonzero(heads <= last).tolist(), key=keys.__getitem__)
    return [tokens[i] for i in near[:k]]


def _rows(ids: dict[bytes, int], strings: Sequence[bytes]) -> np.ndarray:
    return np.array([ids[token] for token in strings], dtype=np.int64)


def _select(vocabulary: Vocabulary, ids: list[int], method: str, requested: int) -> TokenSelection:
    if len(ids) < MIN_TOKENS:
        raise TokenizerError(
            "too few usable tokens for a fingerprint",
            where=vocabulary.source,
            expected=f"at least {MIN_TOKENS}",
            got=str(len(ids)),
            next_step="special tokens and ids without an embedding row do not count",
        )
    strings = tuple(vocabulary.tokens[i] or b"" for i in ids)
    return TokenSelection(np.array(ids, dtype=np.int64), strings, method, requested)


def _digest(strings: Sequence[bytes]) -> str:
    return hashlib.sha256(
        _DIGEST_DOMAIN + b"".join(len(token).to_bytes(8, "little") + token for token in strings)
    ).hexdigest()
