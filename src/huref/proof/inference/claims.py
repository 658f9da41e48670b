"""The equations that make a run of the integer model, as one sum of products: proof-inference-v1, section 6.

The prover and the verifier build the same `Claim`; neither needs to know a secret for it. The numbers in brackets are
those of the specification. `fresh` powers of one challenge keep the equations apart.
"""

from __future__ import annotations

import numpy as np

from huref.proof.arithmetic.field import ORDER, integers
from huref.proof.inference.challenges import Early, Late, table_inverses
from huref.proof.inference.combination import STREAM, Claim, Factor, Piece
from huref.proof.inference.inventory import Inventory
from huref.proof.inference.ledger import Ledger, outer


def build_claim(
    inventory: Inventory, logits: np.ndarray, early: Early, late: Late, inverses: np.ndarray | None = None
) -> Claim:
    """All equations of one statement.

    Args:
        inverses: `table_inverses` for these challenges, where they are at hand.
    """
    table = table_inverses(inventory, early) if inverses is None else inverses
    book = Ledger(inventory, early, late, table)
    _lookups(book)
    _embed(book)
    _norms(book)
    for layer in range(inventory.shape.layers):
        _project(book, layer)
        _score(book, layer)
        _softmax(book, layer)
        _mix(book, layer)
        _project_out(book, layer)
        _gate_and_up(book, layer)
        _project_down(book, layer)
    _answer(book, logits)
    return book.finished()


def _lookups(book: Ledger) -> None:
    """(L1) inverse (alpha + beta tag + entry + gamma partner) = 1; (L2) inverses and counts add up."""
    early, theta = book.early, book.theta
    total = book.fresh(1)[0]
    for lookup in book.inventory.lookups:
        group, count = lookup.inverse.group, lookup.inverse.rows
        rows, kappa, one = np.arange(count), book.fresh(count), integers([1] * count)
        pieces = [Piece(lookup.block, rows, one)]
        if lookup.partner:
            pieces.append(Piece(lookup.partner, rows, early.gamma * one))
        shift = early.alpha + lookup.tags.astype(object) * early.beta
        left = Factor((Piece(lookup.inverse.name, rows, kappa),))
        book.product(group, left, Factor(tuple(pieces), shift % ORDER), count, is_weighted=True)
        book.equals(kappa.sum() * theta[: book.inventory.widths[group]].sum())
        book.plain(group, "one", lookup.inverse.name, rows, total * one)
    width = book.inventory.widths["f"]
    count = -(-book.table.size // width)
    padded = integers([0] * (count * width))
    padded[: book.table.size] = book.table
    left = Factor((Piece("counts", np.arange(count), integers([-total % ORDER] * count)),))
    book.product("f", left, Factor((), matrix=padded.reshape(count, width)), count)


def _embed(book: Ledger) -> None:
    """(E1) the tokens' rows of the embedding are numbers of 16 bits."""
    tokens = np.array(book.inventory.tokens, dtype=np.int64)
    kappa = book.fresh(tokens.size)
    book.plain("d", "theta", "embedding", tokens, kappa)
    book.number("d", "theta", "token", np.arange(tokens.size), -kappa)


def _norms(book: Ledger) -> None:
    """(N1) to (N6): every norm of the run."""
    inventory, scales, n = book.inventory, book.scales, book.inventory.n
    norms, theta = inventory.norms, book.theta[: book.inventory.n]
    rows, index = np.arange(norms), np.arange(norms * n)
    k1, k2, k3, k4, k5, k6 = (book.fresh(norms) for _ in range(6))
    book.plain("n", "theta", "norm.u", rows, k1)  # N1
    book.plain("d", "omega", STREAM, index, outer(-k1, theta))
    book.weighted("n", k2, "norm.u", rows, book.factor("root", rows))  # N2
    by_token = outer(-k2, theta)
    book.number("d", "omega", "norm.y", index, by_token << scales.norm_shift)
    book.number("d", "omega", "norm.r", index, by_token)
    half = 1 << (scales.norm_shift - 1)
    book.equals(by_token.sum() * half * book.omega[: book.shape.width].sum())
    every = integers([1] * index.size)
    left = Factor((Piece(STREAM, index, outer(k3, theta)),))
    book.product("d", left, Factor((Piece(STREAM, index, every),)), index.size)  # N3
    book.plain("n", "theta", "squares", rows, -k3)
    one = integers([1] * norms)
    shifted = Factor((Piece("squares", rows, one),), scales.epsilon * one)
    book.weighted_number("root", k4, shifted)  # N4
    book.plain("n", "theta", "product", rows, -k4)
    book.weighted_number("root", k5, Factor((Piece("product", rows, one),)))  # N5
    book.number("n", "theta", "low", rows, k5)
    book.equals(k5.sum() * scales.root_target * theta.sum())
    for name in ("high", "low"):  # N6
        book.number("n", "theta", name, rows, k6)
    book.plain("n", "theta", "product", rows, -2 * k6)
    book.plain("n", "theta", "squares", rows, -k6)
    book.equals(k6.sum() * (scales.epsilon - 1) * theta.sum())


def _project(book: Ledger, layer: int) -> None:
    """(A1) q, k and v are the rotated projections of the normed activation."""
    shape, n, e = book.shape, book.inventory.n, book.shape.head_dim
    plain = np.tile(book.omega[:e], (n, 1))
    pieces = []
    for role, heads, per_row in (
        ("q", shape.heads, book.turned),
        ("k", shape.groups, book.turned),
        ("v", shape.groups, plain),
    ):
        kappa = book.fresh(heads)
        rows = np.arange(n * heads) + layer * n * heads  # (t, head)
        book.plain("e", "omega", role, rows, outer(book.tau, kappa))
        coefficients = -(book.tau[:, None, None] * kappa[None, :, None] % ORDER) * per_row[:, None, :] % ORDER
        pieces.append(Piece(f"layers.{layer}.{role}", np.arange(heads * e), coefficients.reshape(n, -1)))
    normed = book.factor("norm.y", np.arange(n) + 2 * layer * n)
    book.product("d", Factor(tuple(pieces)), normed, n)


def _score(book: Ledger, layer: int) -> None:
    """(A2) products of queries and keys, rounded, are the top score less a distance."""
    shape, scales, n = book.shape, book.scales, book.inventory.n
    heads, groups = shape.heads, shape.groups
    kappa, omega = book.fresh(heads), book.omega[: book.t.size]
    per_group = heads // groups
    for group in range(groups):
        members = np.arange(per_group) + group * per_group
        table = np.zeros((n, n, per_group), dtype=object)  # u, t, head
        for place, head in enumerate(members):
            table[book.u, book.t, place] = kappa[head] * omega % ORDER * scales.score_factor % ORDER
        queries = ((np.arange(n) + layer * n)[:, None] * heads + members).ravel()
        keys = (np.arange(n) + layer * n) * groups + group
        left = Factor((Piece("q", queries, table.reshape(n, -1)),))
        book.product("e", left, Factor((Piece("k", keys, integers([1] * n)),)), n)
    rows, shift = np.arange(heads) + layer * heads, scales.score_shift(layer)
    book.number("t", "omega", "top", rows, -kappa << shift)
    book.plain("t", "omega", "distance", rows, kappa << shift)
    book.number("t", "omega", "score.r", rows, -kappa)
    book.equals(-kappa.sum() * (1 << (shift - 1)) * omega.sum())


def _softmax(book: Ledger, layer: int) -> None:
    """(A3) to (A8): the top score is one of the row's and the largest; weights are rounded quotients."""
    heads, p = book.shape.heads, book.scales.precision
    rows = np.arange(heads) + layer * heads
    one = integers([1] * heads)
    theta = book.theta[: book.t.size]
    k3, k4, k5, k6, k7, k8 = (book.fresh(heads) for _ in range(6))
    book.weighted("t", k3, "peak.0", rows, Factor((Piece("distance", rows, one),)))  # A3
    book.plain("t", "first", "peak.0", rows, k4)  # A4
    book.equals(k4.sum() * book.theta[: book.inventory.n].sum())
    book.number("t", "level", "top", rows, k5)  # A5
    book.plain("t", "theta", "total", rows, k6)  # A6
    book.plain("t", "sums", "exp", rows, -k6)
    book.weighted("t", 2 * k7, "total", rows, book.factor("weight", rows))  # A7
    book.number("t", "theta", "left", rows, k7)
    book.plain("t", "theta", "total", rows, -k7)
    book.plain("t", "theta", "exp", rows, -k7 << (p.prob_scale + 1))
    for name in ("left", "right"):  # A8
        book.number("t", "theta", name, rows, k8)
    book.plain("t", "theta", "total", rows, -2 * k8)
    book.equals(-k8.sum() * theta.sum())


def _mix(book: Ledger, layer: int) -> None:
    """(A9) values in the attention's proportions; (A10) what the auxiliary rows are."""
    heads, groups, n = book.shape.heads, book.shape.groups, book.inventory.n
    kappa, per_group = book.fresh(heads), heads // groups
    rows = np.arange(n * heads) + layer * n * heads
    book.plain("e", "omega", "mixed", rows, outer(book.tau, kappa))
    item = book.inventory.limbs["weight"]
    table = np.zeros((groups, heads), dtype=object)
    table[np.arange(heads) // per_group, np.arange(heads)] = -kappa
    of_layer = np.arange(heads) + layer * heads
    pieces = [Piece(item.block(i), of_layer, table << (item.limb * i)) for i in range(item.count)]
    helpers = np.arange(groups) + layer * groups
    right = Factor((Piece("mixed.u", helpers, integers([1] * groups)),))
    book.product("t", Factor(tuple(pieces)), right, groups)
    kappa = book.fresh(groups)
    book.plain("t", "theta", "mixed.u", helpers, kappa)
    per_key = integers([0] * n)
    np.add.at(per_key, book.u, book.theta[: book.t.size] * book.tau[book.t] % ORDER)
    book.plain("e", "omega", "v", np.arange(n * groups) + layer * n * groups, outer(-per_key, kappa))


def _project_out(book: Ledger, layer: int) -> None:
    """(A11) the output projection, rounded; (A12) what the auxiliary rows are."""
    heads, n, e = book.shape.heads, book.inventory.n, book.shape.head_dim
    kappa = book.fresh(1)[0]
    helpers = np.arange(heads) + layer * heads
    table = np.zeros((heads, n, heads), dtype=object)
    for head in range(heads):
        table[head, :, head] = book.tau
    left = Factor((Piece("o.u", helpers, integers([kappa] * heads)),))
    mixed = Piece("mixed", np.arange(n * heads) + layer * n * heads, table.reshape(heads, -1))
    book.product("e", left, Factor((mixed,)), heads)
    book.rounded(layer, "d", ("o.y", "o.r"), book.scales.o_shift(layer), kappa)
    kappas = book.fresh(heads)
    book.plain("e", "theta", "o.u", helpers, kappas)
    book.plain("d", "omega", f"layers.{layer}.o", np.arange(heads * e), outer(-kappas, book.theta[:e]))


def _gate_and_up(book: Ledger, layer: int) -> None:
    """(F1) the gate's projection, rounded; (F2) the other one; (F3) their product."""
    n, f = book.inventory.n, book.shape.hidden
    k1, k2 = book.fresh(2)
    index, tokens = np.arange(f), np.arange(n) + layer * n
    weights = tuple(
        Piece(f"layers.{layer}.{role}", index, (k * book.omega[:f] % ORDER)[None])
        for role, k in (("gate", k1), ("up", k2))
    )
    item = book.inventory.limbs["norm.y"]
    rows = np.arange(n) + (2 * layer + 1) * n
    pieces = tuple(Piece(item.block(i), rows, (book.tau << (item.limb * i))[None]) for i in range(item.count))
    right = Factor(pieces, integers([-item.offset * int(book.tau.sum())]))
    book.product("d", Factor(weights), right, 1)
    shift, half = book.scales.gate_shift(layer), 1 << (book.scales.precision.gate_bits - 1)
    book.plain("f", "omega", "gate.y", tokens, -k1 * book.tau << shift)
    book.number("f", "omega", "gate.r", tokens, -k1 * book.tau)
    book.plain("f", "omega", "up", tokens, -k2 * book.tau)
    offset = -(half << shift) - (1 << (shift - 1))
    book.equals(k1 * int(book.tau.sum()) * offset * int(book.omega[:f].sum()))
    k3, one = book.fresh(n), integers([1] * n)
    book.weighted("f", k3, "silu", tokens, Factor((Piece("up", tokens, one),)))
    book.plain("f", "theta", "inner", tokens, -k3)


def _project_down(book: Ledger, layer: int) -> None:
    """(F4) the down projection, rounded; (F5) what the auxiliary row is."""
    n, f = book.inventory.n, book.shape.hidden
    kappa, helper = book.fresh(1)[0], np.array([layer])
    inner = Piece("inner", np.arange(n) + layer * n, book.tau[None])
    book.product("f", Factor((Piece("down.u", helper, integers([kappa])),)), Factor((inner,)), 1)
    book.rounded(layer, "d", ("down.y", "down.r"), book.scales.down_shift(layer), kappa)
    kappas = book.fresh(1)
    book.plain("f", "theta", "down.u", helper, kappas)
    book.plain("d", "omega", f"layers.{layer}.down", np.arange(f), -kappas[0] * book.theta[:f])


def _answer(book: Ledger, logits: np.ndarray) -> None:
    """(O1) the final gain; (O2) the logits, rounded."""
    inventory, shape, scales = book.inventory, book.shape, book.scales
    d, kappa = shape.width, book.fresh(1)
    last = np.array([inventory.norms * inventory.n - 1])
    book.weighted("d", kappa, "final_norm", np.array([0]), book.factor("norm.y", last))
    book.plain("d", "theta", "hidden", np.array([0]), -kappa)
    rows = -(-logits.size // d)
    kappas = book.fresh(rows)
    each = outer(kappas, book.omega[:d])[: logits.size]
    left = Factor((Piece(shape.unembedding, np.arange(logits.size), each[None]),))
    book.product("d", left, Factor((Piece("hidden", np.array([0]), integers([1])),)), 1)
    book.number("d", "omega", "logit.r", np.arange(rows), -kappas)
    rounded = (logits.astype(object) << scales.logit_shift) - (1 << (scales.logit_shift - 1))
    book.equals(each @ rounded)
