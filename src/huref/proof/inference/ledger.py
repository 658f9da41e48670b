"""Where the equations of a claim are added up: proof-inference-v1, section 6."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from huref.proof.arithmetic.field import ORDER, integers, powers
from huref.proof.inference.challenges import Early, Late
from huref.proof.inference.combination import Claim, Factor, Piece, Sum, Term
from huref.proof.inference.inventory import Inventory
from huref.proof.inference.model import causal_pairs
from huref.proof.inference.tables import rope_tables


class Ledger:
    """Collects terms; linear parts are kept apart by group and functional until the end."""

    def __init__(self, inventory: Inventory, early: Early, late: Late, table: np.ndarray) -> None:
        self.inventory = inventory
        self.scales = inventory.scales
        self.shape = inventory.shape
        self.early = early
        self.late = late
        self.claim = Claim()
        self.linear: dict[tuple[str, str], Sum] = {}
        self.used = 0
        self.longest = max(inventory.widths.values())
        self.omega = powers(early.omega, self.longest, 1)
        self.theta = powers(late.theta, self.longest, 1)
        self.tau = powers(early.tau, inventory.n, 1)
        self.t, self.u = causal_pairs(inventory.n)
        self.table = table
        self.special = self._special()
        self.turned = self._turned()

    def fresh(self, count: int) -> np.ndarray:
        """The next unused powers of kappa."""
        values = powers(self.late.kappa, count, self.used + 1)
        self.used += count
        return values

    def functional(self, group: str, name: str) -> np.ndarray:
        """A public vector of a group's width: `omega`, `theta`, `one`, or one of the special ones."""
        width = self.inventory.widths[group]
        if name in self.special:
            return self.special[name]
        return {"omega": self.omega, "theta": self.theta, "one": integers([1] * width)}[name][:width]

    def on(self, group: str, name: str) -> Sum:
        """Where linear parts under a functional are added up."""
        return self.linear.setdefault((group, name), Sum(self.inventory))

    def number(self, group: str, functional: str, name: str, rows: np.ndarray, coefficients: np.ndarray) -> None:
        """Add a linear part with numbers that are committed in limbs."""
        self.on(group, functional).add_number(self.inventory.limbs[name], rows, coefficients)

    def plain(self, group: str, functional: str, block: str, rows: np.ndarray, coefficients: np.ndarray) -> None:
        """Add a linear part with rows of a block."""
        self.on(group, functional).add(block, rows, coefficients)

    def product(self, group: str, left: Factor, right: Factor, count: int, *, is_weighted: bool = False) -> None:
        """Add a term."""
        self.claim.add(Term(group, count, left, right, is_weighted))

    def factor(self, name: str, rows: np.ndarray) -> Factor:
        """The numbers `rows` of a name that is committed in limbs, as one side of a term."""
        item = self.inventory.limbs[name]
        one = integers([1] * rows.size)
        pieces = tuple(Piece(item.block(i), rows, one << (item.limb * i)) for i in range(item.count))
        return Factor(pieces, -item.offset * one if item.offset else None)

    def equals(self, amount: int) -> None:
        """Add to the right side of the claim."""
        self.claim.value = (self.claim.value + int(amount)) % ORDER

    def finished(self) -> Claim:
        """The claim, linear parts included."""
        for (group, name), total in self.linear.items():
            functional = self.functional(group, name)
            pieces = tuple(Piece(block, np.arange(w.size), (w % ORDER)[None]) for block, w in total.weights.items())
            self.product(group, Factor(pieces), Factor((), matrix=functional[None]), 1)
            self.equals(-total.ones * functional.sum())
        return self.claim

    def rounded(self, layer: int, group: str, names: tuple[str, str], shift: int, kappa: int) -> None:
        """Subtract `kappa sum_t tau_t <omega, 2^shift update + rest - half>` for one layer's updates."""
        n = self.inventory.n
        rows, by_token = np.arange(n) + layer * n, -kappa * self.tau % ORDER
        self.number(group, "omega", names[0], rows, by_token << shift)
        self.number(group, "omega", names[1], rows, by_token)
        half = 1 << (shift - 1)
        self.equals(by_token.sum() * half * self.omega[: self.inventory.widths[group]].sum())

    def weighted(self, group: str, kappa: np.ndarray, block: str, rows: np.ndarray, right: Factor) -> None:
        """Add `kappa_k sum_j theta_j block_kj right_kj` for each row k."""
        left = Factor((Piece(block, rows, kappa),))
        self.product(group, left, right, rows.size, is_weighted=True)

    def weighted_number(self, name: str, kappa: np.ndarray, right: Factor) -> None:
        item = self.inventory.limbs[name]
        rows = np.arange(kappa.size)
        pieces = tuple(Piece(item.block(i), rows, kappa << (item.limb * i)) for i in range(item.count))
        self.product(item.group, Factor(pieces), right, rows.size, is_weighted=True)

    def _turned(self) -> np.ndarray:
        """(n, e) objects: the functional omega of rotated heads, as one of heads that are not rotated yet."""
        cos, sin = (
            table.astype(object) for table in rope_tables(self.scales.precision, self.shape, self.inventory.n)
        )
        first, second = np.split(self.omega[: self.shape.head_dim], 2)
        turned: np.ndarray = np.concatenate([cos * first + sin * second, cos * second - sin * first], axis=1) % ORDER
        return turned

    def _special(self) -> Mapping[str, np.ndarray]:
        """Functionals over the pairs: `first` (theta of t), `sums` (of all pairs of t), `level` (kills constants)."""
        theta = self.theta[: self.t.size]
        sums = integers([0] * self.inventory.n)
        np.add.at(sums, self.t, theta)
        level = theta.copy()
        level[self.u == 0] = (theta[self.u == 0] - sums) % ORDER
        return {"first": self.theta[self.t], "sums": sums[self.t] % ORDER, "level": level}


def outer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(m,) and (k,) -> (m k,) products modulo p."""
    flat: np.ndarray = (first[:, None] * second[None, :]).ravel() % ORDER
    return flat
