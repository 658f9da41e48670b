"""The equations that make a run of the integer model, as one sum of products: proof-inference-v1, section 6.

The prover and the verifier build the same `Claim`; neither needs to know a secret for it. Each method is one numbered
equation of the specification. `fresh` powers of one challenge keep the equations apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from huref.proof.field import ORDER, integers, powers
from huref.proof.inference.combination import STREAM, Claim, Factor, Piece, Sum, Term
from huref.proof.inference.inventory import Inventory, table_entries
from huref.proof.inference.model import causal_pairs
from huref.proof.inference.tables import rope_tables


@dataclass(frozen=True)
class Early:
    """Challenges after the activations: of lookups (alpha, beta, gamma), of columns (omega), of positions (tau)."""

    alpha: int
    beta: int
    gamma: int
    omega: int
    tau: int


@dataclass(frozen=True)
class Late:
    """Challenges after the auxiliary rows: of equations (kappa), of columns (theta)."""

    kappa: int
    theta: int


def build_claim(
    inventory: Inventory, logits: np.ndarray, early: Early, late: Late, inverses: np.ndarray | None = None
) -> Claim:
    """All equations of one statement.

    Args:
        inverses: `table_inverses` for these challenges, where they are at hand.
    """
    table = table_inverses(inventory, early) if inverses is None else inverses
    equations = _Equations(inventory, early, late, table)
    equations.lookups()
    equations.embed()
    equations.norms()
    for layer in range(inventory.shape.layers):
        equations.project(layer)
        equations.score(layer)
        equations.softmax(layer)
        equations.mix(layer)
        equations.project_out(layer)
        equations.gate_and_up(layer)
        equations.project_down(layer)
    equations.answer(logits)
    return equations.finished()


class _Equations:
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

    def lookups(self) -> None:
        """(L1) inverse (alpha + beta tag + entry + gamma partner) = 1; (L2) inverses and counts add up."""
        early, theta = self.early, self.theta
        total = self.fresh(1)[0]
        for lookup in self.inventory.lookups:
            group, count = lookup.inverse.group, lookup.inverse.rows
            rows, kappa, one = np.arange(count), self.fresh(count), integers([1] * count)
            pieces = [Piece(lookup.block, rows, one)]
            if lookup.partner:
                pieces.append(Piece(lookup.partner, rows, early.gamma * one))
            shift = early.alpha + lookup.tags.astype(object) * early.beta
            left = Factor((Piece(lookup.inverse.name, rows, kappa),))
            self.product(group, left, Factor(tuple(pieces), shift % ORDER), count, is_weighted=True)
            self.equals(kappa.sum() * theta[: self.inventory.widths[group]].sum())
            self.plain(group, "one", lookup.inverse.name, rows, total * one)
        width = self.inventory.widths["f"]
        count = -(-self.table.size // width)
        padded = integers([0] * (count * width))
        padded[: self.table.size] = self.table
        left = Factor((Piece("counts", np.arange(count), integers([-total % ORDER] * count)),))
        self.product("f", left, Factor((), matrix=padded.reshape(count, width)), count)

    def embed(self) -> None:
        """(E1) the tokens' rows of the embedding are numbers of 16 bits."""
        tokens = np.array(self.inventory.tokens, dtype=np.int64)
        kappa = self.fresh(tokens.size)
        self.plain("d", "theta", "embedding", tokens, kappa)
        self.number("d", "theta", "token", np.arange(tokens.size), -kappa)

    def norms(self) -> None:
        """(N1) to (N6): every norm of the run."""
        inventory, scales, n = self.inventory, self.scales, self.inventory.n
        norms, theta = inventory.norms, self.theta[: self.inventory.n]
        rows, index = np.arange(norms), np.arange(norms * n)
        k1, k2, k3, k4, k5, k6 = (self.fresh(norms) for _ in range(6))
        self.plain("n", "theta", "norm.u", rows, k1)  # N1
        self.plain("d", "omega", STREAM, index, _outer(-k1, theta))
        self._weighted("n", k2, "norm.u", rows, self.factor("root", rows))  # N2
        by_token = _outer(-k2, theta)
        self.number("d", "omega", "norm.y", index, by_token << scales.norm_shift)
        self.number("d", "omega", "norm.r", index, by_token)
        half = 1 << (scales.norm_shift - 1)
        self.equals(by_token.sum() * half * self.omega[: self.shape.width].sum())
        every = integers([1] * index.size)
        left = Factor((Piece(STREAM, index, _outer(k3, theta)),))
        self.product("d", left, Factor((Piece(STREAM, index, every),)), index.size)  # N3
        self.plain("n", "theta", "squares", rows, -k3)
        one = integers([1] * norms)
        shifted = Factor((Piece("squares", rows, one),), scales.epsilon * one)
        self._weighted_number("root", k4, shifted)  # N4
        self.plain("n", "theta", "product", rows, -k4)
        self._weighted_number("root", k5, Factor((Piece("product", rows, one),)))  # N5
        self.number("n", "theta", "low", rows, k5)
        self.equals(k5.sum() * scales.root_target * theta.sum())
        for name in ("high", "low"):  # N6
            self.number("n", "theta", name, rows, k6)
        self.plain("n", "theta", "product", rows, -2 * k6)
        self.plain("n", "theta", "squares", rows, -k6)
        self.equals(k6.sum() * (scales.epsilon - 1) * theta.sum())

    def project(self, layer: int) -> None:
        """(A1) q, k and v are the rotated projections of the normed activation."""
        shape, n, e = self.shape, self.inventory.n, self.shape.head_dim
        plain = np.tile(self.omega[:e], (n, 1))
        pieces = []
        for role, heads, per_row in (
            ("q", shape.heads, self.turned),
            ("k", shape.groups, self.turned),
            ("v", shape.groups, plain),
        ):
            kappa = self.fresh(heads)
            rows = np.arange(n * heads) + layer * n * heads  # (t, head)
            self.plain("e", "omega", role, rows, _outer(self.tau, kappa))
            coefficients = -(self.tau[:, None, None] * kappa[None, :, None] % ORDER) * per_row[:, None, :] % ORDER
            pieces.append(Piece(f"layers.{layer}.{role}", np.arange(heads * e), coefficients.reshape(n, -1)))
        normed = self.factor("norm.y", np.arange(n) + 2 * layer * n)
        self.product("d", Factor(tuple(pieces)), normed, n)

    def score(self, layer: int) -> None:
        """(A2) products of queries and keys, rounded, are the top score less a distance."""
        shape, scales, n = self.shape, self.scales, self.inventory.n
        heads, groups = shape.heads, shape.groups
        kappa, omega = self.fresh(heads), self.omega[: self.t.size]
        coefficients = np.zeros((n, groups, n, heads), dtype=object)  # (u, g), (t, h)
        for head in range(heads):
            value = kappa[head] * omega % ORDER * scales.score_factor % ORDER
            coefficients[self.u, head // (heads // groups), self.t, head] = value
        left = Piece("q", np.arange(n * heads) + layer * n * heads, coefficients.reshape(n * groups, n * heads))
        right = Piece("k", np.arange(n * groups) + layer * n * groups, integers([1] * (n * groups)))
        self.product("e", Factor((left,)), Factor((right,)), n * groups)
        rows, shift = np.arange(heads) + layer * heads, scales.score_shift(layer)
        self.number("t", "omega", "top", rows, -kappa << shift)
        self.plain("t", "omega", "distance", rows, kappa << shift)
        self.number("t", "omega", "score.r", rows, -kappa)
        self.equals(-kappa.sum() * (1 << (shift - 1)) * omega.sum())

    def softmax(self, layer: int) -> None:
        """(A3) to (A8): the top score is one of the row's and the largest; weights are rounded quotients."""
        heads, p = self.shape.heads, self.scales.precision
        rows = np.arange(heads) + layer * heads
        one = integers([1] * heads)
        theta = self.theta[: self.t.size]
        k3, k4, k5, k6, k7, k8 = (self.fresh(heads) for _ in range(6))
        self._weighted("t", k3, "peak.0", rows, Factor((Piece("distance", rows, one),)))  # A3
        self.plain("t", "first", "peak.0", rows, k4)  # A4
        self.equals(k4.sum() * self.theta[: self.inventory.n].sum())
        self.number("t", "level", "top", rows, k5)  # A5
        self.plain("t", "theta", "total", rows, k6)  # A6
        self.plain("t", "sums", "exp", rows, -k6)
        self._weighted("t", 2 * k7, "total", rows, self.factor("weight", rows))  # A7
        self.number("t", "theta", "left", rows, k7)
        self.plain("t", "theta", "total", rows, -k7)
        self.plain("t", "theta", "exp", rows, -k7 << (p.prob_scale + 1))
        for name in ("left", "right"):  # A8
            self.number("t", "theta", name, rows, k8)
        self.plain("t", "theta", "total", rows, -2 * k8)
        self.equals(-k8.sum() * theta.sum())

    def mix(self, layer: int) -> None:
        """(A9) values in the attention's proportions; (A10) what the auxiliary rows are."""
        heads, groups, n = self.shape.heads, self.shape.groups, self.inventory.n
        kappa, per_group = self.fresh(heads), heads // groups
        rows = np.arange(n * heads) + layer * n * heads
        self.plain("e", "omega", "mixed", rows, _outer(self.tau, kappa))
        item = self.inventory.limbs["weight"]
        table = np.zeros((groups, heads), dtype=object)
        table[np.arange(heads) // per_group, np.arange(heads)] = -kappa
        of_layer = np.arange(heads) + layer * heads
        pieces = [Piece(item.block(i), of_layer, table << (item.limb * i)) for i in range(item.count)]
        helpers = np.arange(groups) + layer * groups
        right = Factor((Piece("mixed.u", helpers, integers([1] * groups)),))
        self.product("t", Factor(tuple(pieces)), right, groups)
        kappa = self.fresh(groups)
        self.plain("t", "theta", "mixed.u", helpers, kappa)
        per_key = integers([0] * n)
        np.add.at(per_key, self.u, self.theta[: self.t.size] * self.tau[self.t] % ORDER)
        self.plain("e", "omega", "v", np.arange(n * groups) + layer * n * groups, _outer(-per_key, kappa))

    def project_out(self, layer: int) -> None:
        """(A11) the output projection, rounded; (A12) what the auxiliary rows are."""
        heads, n, e = self.shape.heads, self.inventory.n, self.shape.head_dim
        kappa = self.fresh(1)[0]
        helpers = np.arange(heads) + layer * heads
        table = np.zeros((heads, n, heads), dtype=object)
        for head in range(heads):
            table[head, :, head] = self.tau
        left = Factor((Piece("o.u", helpers, integers([kappa] * heads)),))
        mixed = Piece("mixed", np.arange(n * heads) + layer * n * heads, table.reshape(heads, -1))
        self.product("e", left, Factor((mixed,)), heads)
        self._rounded(layer, "d", ("o.y", "o.r"), self.scales.o_shift(layer), kappa)
        kappas = self.fresh(heads)
        self.plain("e", "theta", "o.u", helpers, kappas)
        self.plain("d", "omega", f"layers.{layer}.o", np.arange(heads * e), _outer(-kappas, self.theta[:e]))

    def gate_and_up(self, layer: int) -> None:
        """(F1) the gate's projection, rounded; (F2) the other one; (F3) their product."""
        n, f = self.inventory.n, self.shape.hidden
        k1, k2 = self.fresh(2)
        index, tokens = np.arange(f), np.arange(n) + layer * n
        weights = tuple(
            Piece(f"layers.{layer}.{role}", index, (k * self.omega[:f] % ORDER)[None])
            for role, k in (("gate", k1), ("up", k2))
        )
        item = self.inventory.limbs["norm.y"]
        rows = np.arange(n) + (2 * layer + 1) * n
        pieces = tuple(Piece(item.block(i), rows, (self.tau << (item.limb * i))[None]) for i in range(item.count))
        right = Factor(pieces, integers([-item.offset * int(self.tau.sum())]))
        self.product("d", Factor(weights), right, 1)
        shift, half = self.scales.gate_shift(layer), 1 << (self.scales.precision.gate_bits - 1)
        self.plain("f", "omega", "gate.y", tokens, -k1 * self.tau << shift)
        self.number("f", "omega", "gate.r", tokens, -k1 * self.tau)
        self.plain("f", "omega", "up", tokens, -k2 * self.tau)
        offset = -(half << shift) - (1 << (shift - 1))
        self.equals(k1 * int(self.tau.sum()) * offset * int(self.omega[:f].sum()))
        k3, one = self.fresh(n), integers([1] * n)
        self._weighted("f", k3, "silu", tokens, Factor((Piece("up", tokens, one),)))
        self.plain("f", "theta", "inner", tokens, -k3)

    def project_down(self, layer: int) -> None:
        """(F4) the down projection, rounded; (F5) what the auxiliary row is."""
        n, f = self.inventory.n, self.shape.hidden
        kappa, helper = self.fresh(1)[0], np.array([layer])
        inner = Piece("inner", np.arange(n) + layer * n, self.tau[None])
        self.product("f", Factor((Piece("down.u", helper, integers([kappa])),)), Factor((inner,)), 1)
        self._rounded(layer, "d", ("down.y", "down.r"), self.scales.down_shift(layer), kappa)
        kappas = self.fresh(1)
        self.plain("f", "theta", "down.u", helper, kappas)
        self.plain("d", "omega", f"layers.{layer}.down", np.arange(f), -kappas[0] * self.theta[:f])

    def answer(self, logits: np.ndarray) -> None:
        """(O1) the final gain; (O2) the logits, rounded."""
        inventory, shape, scales = self.inventory, self.shape, self.scales
        d, kappa = shape.width, self.fresh(1)
        last = np.array([inventory.norms * inventory.n - 1])
        self._weighted("d", kappa, "final_norm", np.array([0]), self.factor("norm.y", last))
        self.plain("d", "theta", "hidden", np.array([0]), -kappa)
        rows = -(-logits.size // d)
        kappas = self.fresh(rows)
        each = _outer(kappas, self.omega[:d])[: logits.size]
        left = Factor((Piece(shape.unembedding, np.arange(logits.size), each[None]),))
        self.product("d", left, Factor((Piece("hidden", np.array([0]), integers([1])),)), 1)
        self.number("d", "omega", "logit.r", np.arange(rows), -kappas)
        rounded = (logits.astype(object) << scales.logit_shift) - (1 << (scales.logit_shift - 1))
        self.equals(each @ rounded)

    def finished(self) -> Claim:
        """The claim, linear parts included."""
        for (group, name), total in self.linear.items():
            functional = self.functional(group, name)
            pieces = tuple(Piece(block, np.arange(w.size), (w % ORDER)[None]) for block, w in total.weights.items())
            self.product(group, Factor(pieces), Factor((), matrix=functional[None]), 1)
            self.equals(-total.ones * functional.sum())
        return self.claim

    def _rounded(self, layer: int, group: str, names: tuple[str, str], shift: int, kappa: int) -> None:
        """Subtract `kappa sum_t tau_t <omega, 2^shift update + rest - half>` for one layer's updates."""
        n = self.inventory.n
        rows, by_token = np.arange(n) + layer * n, -kappa * self.tau % ORDER
        self.number(group, "omega", names[0], rows, by_token << shift)
        self.number(group, "omega", names[1], rows, by_token)
        half = 1 << (shift - 1)
        self.equals(by_token.sum() * half * self.omega[: self.inventory.widths[group]].sum())

    def _weighted(self, group: str, kappa: np.ndarray, block: str, rows: np.ndarray, right: Factor) -> None:
        """Add `kappa_k sum_j theta_j block_kj right_kj` for each row k."""
        left = Factor((Piece(block, rows, kappa),))
        self.product(group, left, right, rows.size, is_weighted=True)

    def _weighted_number(self, name: str, kappa: np.ndarray, right: Factor) -> None:
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


def table_inverses(inventory: Inventory, early: Early) -> np.ndarray:
    """`1 / (alpha + beta tag + entry + gamma partner)` of the entries of all tables, in order: objects.

    Raises:
        ValueError: one of them has no inverse; that happens with probability below 2^-230.
    """
    values = []
    for tag, _ in inventory.tables:
        first, second = table_entries(inventory, tag)
        shifted = first.astype(object) + (early.alpha + early.beta * tag)
        values.append(shifted if second is None else shifted + early.gamma * second.astype(object))
    return inverses(np.concatenate(values) % ORDER)


def inverses(values: np.ndarray) -> np.ndarray:
    """Modulo p, all at once (Montgomery's trick): (n,) objects.

    Raises:
        ValueError: a zero.
    """
    prefix, total = [], 1
    for value in values.tolist():
        prefix.append(total)
        total = total * value % ORDER
    inverse = pow(total, -1, ORDER)
    out = [0] * len(prefix)
    for i in range(len(prefix) - 1, -1, -1):
        out[i] = inverse * prefix[i] % ORDER
        inverse = inverse * values[i] % ORDER
    return integers(out)


def _outer(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(m,) and (k,) -> (m k,) products modulo p."""
    flat: np.ndarray = (first[:, None] * second[None, :]).ravel() % ORDER
    return flat
