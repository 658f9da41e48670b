"""What a tokenizer's own file says about how frequent its tokens are.

Every order gives one key per id: the smaller, the more frequent. Keys are computed only when asked for,
because going through several hundred thousand merges costs as much as reading the rest of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from huref.errors import TokenizerError


class Order(Protocol):
    """Evidence of frequency."""

    def keys(self, n: int) -> np.ndarray:
        """float64 (n,): one key per id, ascending from most to least frequent."""
        ...


@dataclass(frozen=True)
class IdOrder:
    """The id itself: tiktoken ranks, WordPiece and word-level vocabularies are numbered by frequency."""

    def keys(self, n: int) -> np.ndarray:
        """float64 (n,): 0, 1, 2, ..."""
        return np.arange(n, dtype=np.float64)


@dataclass(frozen=True)
class ScoreOrder:
    """Log-probabilities (unigram) or negated merge ranks (SentencePiece BPE), descending.

    Attributes:
        scores: by id; -inf for tokens that the tokenizer never scores, such as byte fallbacks.
    """

    scores: Sequence[float]

    def keys(self, n: int) -> np.ndarray:
        """float64 (n,): the negated score; ids past the scores come last."""
        keys = np.full(n, np.inf)
        given = np.asarray(self.scores[:n], dtype=np.float64)
        keys[: given.size] = -given
        return keys


@dataclass(frozen=True)
class MergeOrder:
    """The position of the merge that makes a token.

    Attributes:
        ids: id by token, in the tokenizer's own notation.
        merges: `"left right"` strings or `[left, right]` pairs, first merge first.
        alphabet_first: single characters come before all merges (byte-level BPE); otherwise after them, as
            in SentencePiece, which appends the characters it was told to cover to the end of its list.
        prefix: continuing-word prefix that a merge removes from its right half.
        source: the file, for the error message.
    """

    ids: Mapping[str, int]
    merges: Sequence[Any]
    alphabet_first: bool
    prefix: str = ""
    source: str = ""

    def keys(self, n: int) -> np.ndarray:
        """float64 (n,): merge position; tokens that are neither merged nor single characters come last.

        Raises:
            TokenizerError: a merge is not a pair of strings.
        """
        keys = np.full(n, float(len(self.merges) + 1))
        alphabet = [i for piece, i in self.ids.items() if len(piece) == 1]
        keys[alphabet] = -1.0 if self.alphabet_first else float(len(self.merges))
        made = np.array([self.ids.get(piece, -1) for piece in self._results()], dtype=np.int64)
        ranks = np.nonzero(made >= 0)[0][::-1]
        keys[made[ranks]] = ranks  # reversed, so that the first of several merges is written last
        return keys

    def _results(self) -> list[str]:
        try:
            if self.prefix:
                return [a + b.removeprefix(self.prefix) for a, b in map(self._pair, self.merges)]
            if self.merges and isinstance(self.merges[0], str):
                return [merge.replace(" ", "", 1) for merge in self.merges]
            joined = [a + b for a, b in self.merges]  # lists and numbers can be added as well
            others = [type(item).__name__ for item in joined if type(item) is not str]
            if others:
                raise TypeError(f"a merge that makes a {others[0]}")
            return joined
        except (TypeError, ValueError, AttributeError) as error:
            raise TokenizerError(
                "a merge is not a pair of tokens",
                where=self.source,
                expected='"left right" or ["left", "right"]',
                got=str(error),
            ) from error

    @staticmethod
    def _pair(merge: Any) -> tuple[str, str]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        return left, right
