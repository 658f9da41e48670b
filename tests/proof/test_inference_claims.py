"""The equations of section 6, without commitments: honest runs satisfy them, and no single number is free.

`residual` is what the one claim misses by, for random challenges: zero if all equations hold, and else but by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from huref.model.arch.canonical import Geometry
from huref.proof.arithmetic.field import ORDER, random_scalar
from huref.proof.inference import model as model_module
from huref.proof.inference import witness as witness_module
from huref.proof.inference.challenges import Early, Late, inverses
from huref.proof.inference.claims import build_claim
from huref.proof.inference.combination import STREAM, Claim
from huref.proof.inference.inventory import GROUPS
from huref.proof.inference.model import IntegerModel, run_model
from huref.proof.inference.precision import PRECISIONS
from huref.proof.inference.proof_file import Statement, term_rows
from huref.proof.inference.prover import _InverseCommitter, _matrices, auxiliary_rows
from huref.proof.inference.weights import integer_model
from huref.proof.inference.witness import _counts, activation_rows
from kit.llamas import as_weights, tiny_llama

SIZES = Geometry(n_layers=2, d_model=8, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=64, vocab_size=20)
MODEL = integer_model(as_weights(tiny_llama(1, sizes=SIZES)))
TOKENS = (5, 7, 5)
INVENTORY = Statement.of(bytes(32), "small", TOKENS).inventory(MODEL.shape)
RUN = run_model(MODEL, TOKENS, PRECISIONS["small"])
HONEST = {
    **MODEL.matrices,
    STREAM: np.concatenate([norm.residual for norm in RUN.norms]),
    **activation_rows(RUN, INVENTORY),
}
BLOCKS = [block.name for block in INVENTORY.activations]
Rows = dict[str, np.ndarray]


EARLY = Early(*(random_scalar() for _ in range(5)))
LATE = Late(random_scalar(), random_scalar())
COMMITTER = _InverseCommitter(INVENTORY, EARLY)
CLAIM = build_claim(INVENTORY, RUN.logits, EARLY, LATE, COMMITTER.inverses)


def residual(
    change: Callable[[Rows], None] = lambda rows: None,
    lie: Callable[[Rows], None] = lambda rows: None,
    claim: Claim = CLAIM,
    base: Rows = HONEST,
) -> tuple[int, int]:
    """What the claim misses by with changed activations and changed auxiliary rows, and the share of that due to L2.

    Auxiliary rows are otherwise what they must be; inverses are true inverses, also of numbers in no table.
    """
    rows = dict(base)
    change(rows)
    rows[STREAM] = stream(rows)
    rows |= auxiliary_of(rows, base)
    sums = 0
    for lookup in INVENTORY.lookups:
        values = rows[lookup.block].astype(object) + (EARLY.alpha + lookup.tags.astype(object) * EARLY.beta)[:, None]
        values = values + EARLY.gamma * rows[lookup.partner].astype(object) if lookup.partner else values
        rows[lookup.inverse.name] = inverses(values.ravel() % ORDER).reshape(values.shape)
        sums += rows[lookup.inverse.name].sum()
    lie(rows)
    counts = rows["counts"].ravel()[: COMMITTER.inverses.size]
    found = 0
    for group in GROUPS:
        left, right = _matrices(claim.terms[group], rows, INVENTORY.widths[group], LATE.theta)
        assert len(left) == term_rows(INVENTORY)[group]
        found += (left * right).sum()
    of_tables = LATE.kappa * (sums - (counts * COMMITTER.inverses).sum())
    return (found - claim.value) % ORDER, of_tables % ORDER


def auxiliary_of(rows: Rows, base: Rows) -> Rows:
    """The auxiliary rows that are no inverses, of changed activations."""
    honest = {**rows, **{lookup.block: base[lookup.block] for lookup in INVENTORY.lookups}}
    made = auxiliary_rows(INVENTORY, honest, COMMITTER, EARLY)
    return {name: made[name] for name in ("norm.u", "mixed.u", "o.u", "down.u")}


def test_an_honest_run_satisfies_the_claim():
    assert residual() == (0, 0)


@pytest.mark.parametrize("block", BLOCKS)
def test_no_activation_is_free(block):
    def change(rows):
        last = rows[block].shape[1] - 1
        rows[block] = rows[block].astype(object)
        rows[block][0, min(1, last)] += 1

    missed, _ = residual(change)
    assert missed != 0


@pytest.mark.parametrize("block", [block.name for block in INVENTORY.auxiliaries])
def test_no_auxiliary_row_is_free(block):
    def lie(rows):
        rows[block] = rows[block].copy()
        rows[block][-1, -1] += 1

    missed, _ = residual(lie=lie)
    assert missed != 0


def test_rounding_otherwise_is_stopped_by_the_tables_alone():
    """An update one less and its remainder `2^shift` more satisfy their equation; what follows is computed honestly.

    Position 0 of the last layer: only its final norm follows.
    """
    row, column = (SIZES.n_layers - 1) * len(TOKENS), 1

    def change(rows):
        put(rows, "down.y", row, column, int(whole(rows, "down.y")[row, column]) - 1)
        shift = INVENTORY.scales.down_shift(SIZES.n_layers - 1)
        put(rows, "down.r", row, column, int(whole(rows, "down.r")[row, column]) + (1 << shift))
        put_last_norm(rows, 0)

    missed, of_tables = residual(change)
    assert missed == of_tables != 0


def test_a_remainder_of_a_logit_is_stopped_by_the_tables_alone():
    """The logit is public and one too small; its remainder is `2^shift` more."""

    def change(rows):
        put(rows, "logit.r", 0, 1, int(whole(rows, "logit.r")[0, 1]) + (1 << INVENTORY.scales.logit_shift))

    logits = RUN.logits.copy()
    logits[1] -= 1
    missed, of_tables = residual(change, claim=build_claim(INVENTORY, logits, EARLY, LATE, COMMITTER.inverses))
    assert missed == of_tables != 0


@pytest.mark.parametrize("change_by", [-1, 1])
def test_another_root_is_stopped_by_the_tables_alone(change_by):
    """product, low and high follow; one of the two slacks is negative. The normed row's remainders follow too."""
    missed, of_tables = residual(lambda rows: put_last_norm(rows, change_by))
    assert missed == of_tables != 0


def put_last_norm(rows: Rows, change_by: int) -> None:
    """The last norm of position 0 again, with a root that is off by some; nothing else depends on it."""
    scales, norm, n = INVENTORY.scales, 2 * SIZES.n_layers, len(TOKENS)
    x = stream(rows)[norm * n]
    squares = int((x * x).sum())
    m = squares + scales.epsilon
    root = math.isqrt(scales.root_target // m) + change_by
    for name, value in (("squares", squares), ("product", root * m)):
        rows[name] = rows[name].astype(object)
        rows[name][norm, 0] = value
    put(rows, "root", norm, 0, root)
    put(rows, "low", norm, 0, scales.root_target - root * root * m)
    put(rows, "high", norm, 0, (root + 1) ** 2 * m - scales.root_target - 1)
    for column, value in enumerate(x.tolist()):
        moved = value * root + (1 << (scales.norm_shift - 1))
        put(rows, "norm.y", norm * n, column, moved >> scales.norm_shift)
        put(rows, "norm.r", norm * n, column, moved % (1 << scales.norm_shift))
    rows["counts"] = _counts(rows, INVENTORY)


def stream(rows: Rows) -> np.ndarray:
    """The residual stream before each norm, from what is committed: (norms n, d)."""
    x = rows["embedding"][list(TOKENS)].astype(object) * INVENTORY.scales.embedding_factor
    updates = {name: whole(rows, name).reshape(-1, *x.shape) for name in ("o.y", "down.y")}
    out = [x]
    for layer in range(SIZES.n_layers):
        for name in ("o.y", "down.y"):
            out.append(out[-1] + updates[name][layer])
    return np.concatenate(out)


def test_another_quotient_is_stopped_by_the_tables_and_by_what_follows():
    """weight + 1 with its remainder 2 total less, of the last layer's first position: `mixed` follows."""

    def change(rows):
        row = SIZES.n_layers * SIZES.n_heads - 1
        put(rows, "weight", row, 1, int(whole(rows, "weight")[row, 1]) + 1)
        for name, sign in (("left", -1), ("right", 1)):
            put(rows, name, row, 1, int(whole(rows, name)[row, 1]) + sign * 2 * int(rows["total"][row, 1]))

    missed, of_tables = residual(change)
    assert of_tables != 0
    assert missed not in (0, of_tables)


def test_a_top_score_that_nobody_has_is_stopped():
    """top and all distances of a position one more: the score is the same, but no distance is zero (A3 or A4)."""

    def change(rows):
        put(rows, "top", 0, 0, int(whole(rows, "top")[0, 0]) + 1)
        rows["distance"] = rows["distance"].astype(object)
        rows["distance"][0, 0] += 1

    assert residual(change)[0] != 0


def whole(rows: Rows, name: str) -> np.ndarray:
    """A number from its limbs."""
    item = INVENTORY.limbs[name]
    return sum(rows[item.block(i)].astype(object) << (item.limb * i) for i in range(item.count)) - item.offset


def put(rows: Rows, name: str, row: int, column: int, value: int) -> None:
    """A number into its limbs, whatever is left over into the last, where a table will say no."""
    item = INVENTORY.limbs[name]
    count, rest = len(item.sizes[row]), int(value) + item.offset
    for i in range(count):
        block = item.block(i)
        rows[block] = rows[block].astype(object)  # a copy
        rows[block][row, column] = rest if i == count - 1 else rest & ((1 << item.limb) - 1)
        rest >>= item.limb


# Runs that go astray in one step, and are honest in every other: the one equation that makes the step stops them.


def stray(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[..., object]) -> tuple[int, int]:
    """Run with one function of the integer model exchanged for `wrong(original, *arguments)`."""
    owner = model_module if hasattr(model_module, name) else model_module._Engine
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments: wrong(original, *arguments))
    run = run_model(MODEL, TOKENS, PRECISIONS["small"])
    monkeypatch.undo()
    base = {**MODEL.matrices, **activation_rows(run, INVENTORY)}
    return residual(base=base, claim=build_claim(INVENTORY, run.logits, EARLY, LATE, COMMITTER.inverses))


def one_more(array: np.ndarray, amount: int = 1) -> np.ndarray:
    """Another array, whose last row's second number is larger."""
    changed = array.copy()
    changed.reshape(len(array), -1)[-1, 1] += amount
    return changed


def test_a_run_that_goes_nowhere_astray_is_accepted(monkeypatch):
    assert stray(monkeypatch, "divided", lambda original, *given: original(*given)) == (0, 0)


@pytest.mark.parametrize("role", ["q", "k", "v", "gate", "up"])
def test_another_projection_is_refused(monkeypatch, role):
    """(A1), (F1), (F2)"""
    amount = 1 << INVENTORY.scales.gate_shift(0) if role == "gate" else 1

    def wrong(original, x, matrix):
        product = original(x, matrix)
        return one_more(product, amount) if matrix is MODEL.layer(0, role) else product

    missed, of_tables = stray(monkeypatch, "exact_product", wrong)
    assert missed != 0
    assert of_tables == 0


def test_another_unembedding_is_refused(monkeypatch):
    """(O2)"""

    def wrong(original, x, matrix):
        amount = 1 << INVENTORY.scales.logit_shift
        return one_more(original(x, matrix), amount if matrix is MODEL.matrices["embedding"] else 0)

    missed, of_tables = stray(monkeypatch, "exact_product", wrong)
    assert missed != 0
    assert of_tables == 0


@pytest.mark.parametrize("shift", ["o_shift", "down_shift"])
def test_another_update_is_refused(monkeypatch, shift):
    """(A11), (F4)"""
    wanted = getattr(INVENTORY.scales, shift)(1)
    other = {"o_shift": "down_shift", "down_shift": "o_shift"}[shift]
    assert wanted != getattr(INVENTORY.scales, other)(1)

    def wrong(original, engine, product, given):
        return original(engine, one_more(product.astype(object), 1 << given) if given == wanted else product, given)

    missed, of_tables = stray(monkeypatch, "update", wrong)
    assert missed != 0
    assert of_tables == 0


@pytest.mark.parametrize("name", ["rotated", "mixed"])
def test_another_rotation_or_mixture_is_refused(monkeypatch, name):
    """(A1), (A9)"""
    missed, of_tables = stray(monkeypatch, name, lambda original, *given: one_more(original(*given)))
    assert missed != 0
    assert of_tables == 0


def test_another_score_is_refused(monkeypatch):
    """(A2)"""

    def wrong(original, engine, q, k):
        return one_more(original(engine, q, k), 1 << INVENTORY.scales.score_shift(0))

    missed, of_tables = stray(monkeypatch, "scores", wrong)
    assert missed != 0
    assert of_tables == 0


@pytest.mark.parametrize("reduce", [np.max, np.sum])
def test_a_top_score_that_varies_or_another_total_is_refused(monkeypatch, reduce):
    """(A5), (A6): at one pair whose score is not the top one."""

    def wrong(original, engine, values, given):
        out = original(engine, values, given)
        if given is reduce:
            head, pair = next(zip(*np.nonzero(values < original(engine, values, np.max)), strict=True))
            out = out.copy()
            out[head, pair] += 1
        return out

    missed, of_tables = stray(monkeypatch, "row_wise", wrong)
    assert missed != 0
    assert of_tables == 0


@pytest.mark.parametrize("has_peak", [True, False])
def test_a_top_score_that_no_score_reaches_is_refused(monkeypatch, has_peak):
    """(A3) if a bit marks a score below the top, (A4) if none is marked."""

    def wrong(original, engine, values, given):
        return original(engine, values, given) + (given is np.max)

    if has_peak:
        monkeypatch.setattr(witness_module, "_first_of_each", lambda holds, n: first_of_each(holds | True, n))
    missed, of_tables = stray(monkeypatch, "row_wise", wrong)
    assert missed != 0
    assert of_tables == 0


first_of_each = witness_module._first_of_each


@pytest.mark.parametrize("name", ["exp_table", "silu_table"])
def test_another_table_is_refused(monkeypatch, name):
    """(L2)"""
    missed, of_tables = stray(monkeypatch, name, lambda original, precision: original(precision) + 1)
    assert missed == of_tables != 0


def test_other_squares_are_refused(monkeypatch):
    """(N3): a root of something else, everything else in keeping."""

    def wrong(original, engine, x):
        made = original(engine, x)
        squares = made.squares * 2
        roots = [math.isqrt(engine.scales.root_target // (int(s) + engine.scales.epsilon)) for s in squares]
        root = np.array(roots, dtype=object)
        normed, rest = model_module.divided(x * root[:, None], engine.scales.norm_shift)
        return model_module.Norm(x, squares, root, normed.astype(np.int64), rest)

    missed, of_tables = stray(monkeypatch, "norm", wrong)
    assert missed != 0
    assert of_tables == 0


def test_another_inner_product_is_refused(monkeypatch):
    """(F3)"""

    def wrong(original, engine, layer, x):
        block = original(engine, layer, x)
        inner = one_more(block.inner)
        product = model_module.exact_product(inner, np.ascontiguousarray(MODEL.layer(layer, "down").T))
        update, rest = engine.update(product, engine.scales.down_shift(layer))
        return replace(block, inner=inner, update=update, rest=rest)

    missed, of_tables = stray(monkeypatch, "feed_forward", wrong)
    assert missed != 0
    assert of_tables == 0


def test_another_final_gain_is_refused():
    """(O1)"""
    other = {**MODEL.matrices, "final_norm": one_more(MODEL.matrices["final_norm"])}
    run = run_model(IntegerModel(MODEL.shape, other), TOKENS, PRECISIONS["small"])
    base = {**MODEL.matrices, **activation_rows(run, INVENTORY)}
    missed, of_tables = residual(base=base, claim=build_claim(INVENTORY, run.logits, EARLY, LATE, COMMITTER.inverses))
    assert missed != 0
    assert of_tables == 0
