"""What a commitment says about itself: matrices, terms, recipe, sizes. proof-v1, section 5.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from huref.fingerprints.recipe import Recipe
from huref.proof.arithmetic.field import ORDER

SCHEMA = "huref.commitment/1"
PROJECTIONS = 192
MOST_ROWS = 1 << 22
MOST_TOKENS = 1 << 17
MOST_WIDTH = 1 << 15
BITS = tuple(range(12, 17))
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Matrix:
    """A committed matrix of `rows` rows; the real weights are about its integers times `2^-exponent`."""

    name: str
    rows: int
    exponent: int


@dataclass(frozen=True)
class Term:
    """An invariant term: `M = X L^T R X^T`, L and R matrices, or sums of their heads.

    Attributes:
        key: `LAYER.KIND`.
        left, right: names of matrices.
        groups: heads of `left` and of `right` that are summed to one; (1, 1) for none.
        head_dim: rows of a head, 0 where none are summed.
    """

    key: str
    left: str
    right: str
    groups: tuple[int, int] = (1, 1)
    head_dim: int = 0

    @property
    def layer(self) -> int:
        """Index from 0."""
        return int(self.key.split(".", 1)[0])

    @property
    def kind(self) -> str:
        """`qk`, `vo`, ..."""
        return self.key.split(".", 1)[1]


@dataclass(frozen=True)
class Layout:
    """The header of a commitment.

    Attributes:
        model, architecture: claims.
        recipe: which tokens, terms and signs.
        n_layers: of the model.
        width: d, entries of a row.
        bits: no honest integer needs more, signed.
        norm: beta, a bound on the length of every column.
        matrices: in the order of the points; the first is the embedding of the tokens.
        terms: in the order of the sketches.

    Raises:
        ValueError: sizes that contradict each other or the caps, or products that might wrap around.
    """

    model: str
    architecture: str
    recipe: Recipe
    n_layers: int
    width: int
    bits: int
    norm: int
    matrices: tuple[Matrix, ...]
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        _require(self.recipe.encoder == "sketch", "only sketches can be proved")
        _require(1 <= self.width <= MOST_WIDTH, "the width is out of range")
        _require(self.bits in BITS and self.n_layers >= 1 and self.norm >= 1, "bits, layers or norm out of range")
        names = [matrix.name for matrix in self.matrices]
        _require(names[:1] == [EMBEDDING] and len(set(names)) == len(names), "matrices without names of their own")
        _require(all(m.rows >= 1 and abs(m.exponent) < 256 for m in self.matrices), "matrix sizes")
        _require(self.n_rows <= MOST_ROWS and self.n_tokens <= MOST_TOKENS, "too many rows or tokens")
        keys = [term.key for term in self.terms]
        _require(bool(keys) and len(set(keys)) == len(keys), "terms without keys of their own")
        for term in self.terms:
            self._require_term(term)
        used = sum(self.rows(term.left) + self.rows(term.right) for term in self.terms)
        _require(used <= 4 * self.n_rows, "matrices in too many terms")

    @property
    def n_rows(self) -> int:
        """N: rows, and so points, of all matrices."""
        return sum(matrix.rows for matrix in self.matrices)

    @property
    def n_tokens(self) -> int:
        """K."""
        return self.matrices[0].rows

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """First row among all rows, and number of rows, by a matrix' name."""
        starts = np.cumsum([0, *(matrix.rows for matrix in self.matrices)]).tolist()
        return {matrix.name: (start, matrix.rows) for matrix, start in zip(self.matrices, starts, strict=False)}

    @property
    def mask_bound(self) -> int:
        """M of section 7: masks are uniform in [-M, M]."""
        return PROJECTIONS * self.width * self.sum_bound

    @property
    def sum_bound(self) -> int:
        """T of section 7: an honest projection is not larger, but with probability below 2^-68."""
        return 8 * self.norm

    def start(self, name: str) -> int:
        """Index of a matrix' first row among all rows."""
        return self._places[name][0]

    def rows(self, name: str) -> int:
        """Rows of a matrix."""
        return self._places[name][1]

    def rank(self, term: Term) -> int:
        """r_t: rows of a term's factors."""
        return self.rows(term.left) // term.groups[0]

    def spread(self, term: Term, side: int, values: np.ndarray) -> np.ndarray:
        """Coefficients of a factor's rows (r,) as coefficients of the committed rows behind them."""
        groups, head = term.groups[side], term.head_dim
        if groups == 1:
            return values
        row = np.arange(values.size * groups)
        spread: np.ndarray = values[row // (groups * head) * head + row % head]
        return spread

    def is_free_of_wraps(self) -> bool:
        """Inequality (4) for every term."""
        shared = 2 * self.n_tokens**3 * self.width**2 * (9 * self.mask_bound) ** 4
        return all(shared * t.groups[0] * t.groups[1] < ORDER for t in self.terms)

    def to_dict(self) -> dict[str, Any]:
        """The header as JSON has it."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "architecture": self.architecture,
            "recipe": self.recipe.to_dict(),
            "n_layers": self.n_layers,
            "width": self.width,
            "bits": self.bits,
            "norm": self.norm,
            "matrices": [{"name": m.name, "rows": m.rows, "exponent": m.exponent} for m in self.matrices],
            "terms": [
                {"key": t.key, "left": t.left, "right": t.right, "groups": list(t.groups), "head_dim": t.head_dim}
                for t in self.terms
            ],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Layout:
        """The inverse of `to_dict`.

        Raises:
            ValueError, KeyError, TypeError, UsageError: it says something impossible.
        """
        matrices = tuple(
            Matrix(_text(m["name"]), _whole(m["rows"]), _whole(m["exponent"])) for m in document["matrices"]
        )
        terms = tuple(
            Term(
                _text(t["key"]),
                _text(t["left"]),
                _text(t["right"]),
                (_whole(t["groups"][0]), _whole(t["groups"][1])),
                _whole(t["head_dim"]),
            )
            for t in document["terms"]
        )
        sizes = (_whole(document[name]) for name in ("n_layers", "width", "bits", "norm"))
        n_layers, width, bits, norm = sizes
        made = cls(
            _text(document["model"]),
            _text(document["architecture"]),
            _recipe(document["recipe"]),
            n_layers,
            width,
            bits,
            norm,
            matrices,
            terms,
        )
        _require(made.to_dict() == dict(document), "keys that nothing claims, or another schema")
        return made

    def _require_term(self, term: Term) -> None:
        _require(EMBEDDING not in (term.left, term.right), "a term of the embedding alone")
        left, right = self.rows(term.left), self.rows(term.right)
        g_left, g_right = term.groups
        _require(min(term.groups) >= 1 and left % g_left == 0 and right % g_right == 0, "a term's groups")
        _require(left // g_left == right // g_right, "factors of different ranks")
        head = term.head_dim
        is_fit = head >= 1 and left % (g_left * head) == 0 and right % (g_right * head) == 0
        _require((head == 0) if g_left == g_right == 1 else is_fit, "a term's heads")
        _require(0 <= term.layer < self.n_layers and _is_word(term.kind), "a term's key")
        _require(term.key == f"{term.layer}.{term.kind}", "a term's key")


def is_plain(layers: str) -> bool:
    """Whether a recipe's layers are written as section 9 wants them."""
    return layers in ("all", "last2") or re.fullmatch("-?[0-9]{1,9}(,-?[0-9]{1,9})*", layers) is not None


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise ValueError(what)


def _is_word(text: str) -> bool:
    return text.isascii() and text.isidentifier()


def _recipe(document: Mapping[str, Any]) -> Recipe:
    """A recipe of texts and whole numbers."""
    for name, value in document.items():
        (_whole if name in ("n_tokens", "sketch_rows") else _text)(value)
    return Recipe.from_dict(document)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise TypeError("a text expected")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 62:
        raise TypeError("a whole number expected")
    return value
