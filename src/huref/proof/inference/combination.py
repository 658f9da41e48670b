"""Linear combinations of committed rows, and the products that a proof is about: proof-inference-v1, section 6.

A `Term` is a run of rows P_k and Q_k, each a public combination of committed rows of one group; its claim is the sum
of all `<P_k, Q_k>`. In a `weighted` term P_k carries the public weight of its column as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from huref.proof.arithmetic.field import ORDER, combine, integers, matmul
from huref.proof.inference.inventory import Inventory, Limbs

STREAM = "residual"
"""The residual stream before each norm: no block of its own, but sums of the embedding and of updates."""


class Sum:
    """`sum of weights times committed rows + ones (1, ..., 1) + vector`, of one group.

    Attributes:
        weights: for each block a field element per row.
        ones: of the all-ones vector.
        vector: any other public vector, or None.
    """

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.weights: dict[str, np.ndarray] = {}
        self.ones = 0
        self.vector: np.ndarray | None = None

    def add(self, block: str, index: np.ndarray, coefficients: np.ndarray) -> None:
        """Add coefficients (m,) of the rows `index` (m,) of a block; rows may repeat."""
        if block == STREAM:
            self._add_stream(index, coefficients)
            return
        rows = self.weights.setdefault(block, _zeros(row_count(self.inventory, block)))
        np.add.at(rows, index, coefficients % ORDER)

    def add_number(self, item: Limbs, index: np.ndarray, coefficients: np.ndarray) -> None:
        """Add multiples of numbers that are committed in limbs."""
        for i in range(item.count):
            self.add(item.block(i), index, coefficients << (item.limb * i))
        self.ones -= item.offset * int(coefficients.sum())

    def value(self, rows: Mapping[str, np.ndarray], width: int) -> np.ndarray:
        """The committed part, for those who know the rows: (width,) modulo p."""
        total = _zeros(width)
        for block, weights in self.weights.items():
            used = np.flatnonzero(weights % ORDER != 0)
            if used.size:
                total += combine(weights[used] % ORDER, rows[block][used])
        reduced: np.ndarray = total % ORDER
        return reduced

    def public(self, width: int) -> np.ndarray:
        """The public part: (width,) modulo p."""
        whole: np.ndarray = _zeros(width) + self.ones
        whole = whole if self.vector is None else whole + self.vector
        reduced: np.ndarray = whole % ORDER
        return reduced

    def _add_stream(self, index: np.ndarray, coefficients: np.ndarray) -> None:
        """Row (i, t): the embedding of token t plus the updates of all branches before norm i."""
        inventory = self.inventory
        n, layers = inventory.n, inventory.shape.layers
        table = _zeros(inventory.norms * n)
        np.add.at(table, index, coefficients % ORDER)
        later = table.reshape(-1, n)[::-1].cumsum(axis=0)[::-1] % ORDER  # over all norms from i on
        tokens = np.array(inventory.tokens, dtype=np.int64)
        self.add("embedding", tokens, later[0] * inventory.scales.embedding_factor)
        rows = np.arange(layers * n)
        self.add_number(inventory.limbs["o.y"], rows, later[1::2].ravel())
        self.add_number(inventory.limbs["down.y"], rows, later[2::2].ravel())


@dataclass(frozen=True)
class Piece:
    """Part of one side of a term.

    Attributes:
        block: whose rows.
        index: (R,) where `coefficients` is (R,): row k is one row times a number.
            (m,) where it is (R, m): row k is a combination of m rows.
        coefficients: field elements or smaller integers.
    """

    block: str
    index: np.ndarray
    coefficients: np.ndarray


@dataclass(frozen=True)
class Factor:
    """One side of a term: pieces that add up, (R,) multiples of all-ones rows, and a public (R, width) matrix."""

    pieces: tuple[Piece, ...]
    ones: np.ndarray | None = None
    matrix: np.ndarray | None = None

    def gather(self, into: Sum, weights: np.ndarray) -> None:
        """Add `sum_k weights_k row_k`."""
        for piece in self.pieces:
            if piece.coefficients.ndim == 1:
                into.add(piece.block, piece.index, piece.coefficients * weights % ORDER)
            else:
                into.add(piece.block, piece.index, weights @ piece.coefficients % ORDER)
        if self.ones is not None:
            into.ones += int(weights @ self.ones % ORDER)
        if self.matrix is not None:
            added = weights @ self.matrix
            into.vector = added if into.vector is None else into.vector + added

    def rows(self, values: Mapping[str, np.ndarray], count: int, width: int) -> np.ndarray:
        """The rows themselves, for those who know them: (R, width) modulo p."""
        total: np.ndarray = np.zeros((count, width), dtype=object)
        for piece in self.pieces:
            if piece.coefficients.ndim == 1:
                total += values[piece.block][piece.index] * piece.coefficients[:, None]
            else:
                used = values[piece.block][piece.index]
                total += matmul(piece.coefficients, used) if used.dtype != object else piece.coefficients @ used
        if self.ones is not None:
            total += self.ones[:, None]
        if self.matrix is not None:
            total += self.matrix
        total %= ORDER
        return total


@dataclass(frozen=True)
class Term:
    """R products of one group; `is_weighted` ones carry the column weights on their left side."""

    group: str
    count: int
    left: Factor
    right: Factor
    is_weighted: bool = False


@dataclass
class Claim:
    """`sum of all terms = value`."""

    terms: dict[str, list[Term]] = field(default_factory=dict)
    value: int = 0

    def add(self, term: Term) -> None:
        """One term more."""
        self.terms.setdefault(term.group, []).append(term)


def row_count(inventory: Inventory, block: str) -> int:
    """Rows of a committed block or matrix."""
    return _counts(inventory)[block]


def _counts(inventory: Inventory) -> Mapping[str, int]:
    cached: dict[str, int] | None = inventory.__dict__.get("_row_counts")
    if cached is None:
        cached = dict(inventory.shape.matrices())
        cached |= {block.name: block.rows for block in (*inventory.activations, *inventory.auxiliaries)}
        inventory.__dict__["_row_counts"] = cached
    return cached


def _zeros(count: int) -> np.ndarray:
    return integers([0] * count)
