"""Fits from inner products against fits on the vectors themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from huref.parentage import fits
from huref.parentage.search import by_width

N = 1600
SEEDS = st.integers(0, 2**32 - 1)


def family(seed: int, n_parents: int, n_strangers: int) -> np.ndarray:
    """(1 + parents + strangers, N): a base, fine-tunes of it that have something in common, strangers."""
    dice = np.random.default_rng(seed)
    base, common = dice.normal(size=(2, N))
    tuned = [base + dice.uniform(0.02, 0.3) * (dice.normal(size=N) + 0.4 * common) for _ in range(n_parents)]
    return np.stack([base, *tuned, *dice.normal(size=(n_strangers, N))])


def gram(models: np.ndarray, child: np.ndarray) -> np.ndarray:
    """(2, k, k) inner products of differences from the child over even and odd entries."""
    D = models - child
    return np.stack([D[:, half::2] @ D[:, half::2].T for half in (0, 1)])


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 4), st.integers(0, 3), st.data())
def test_weights_of_a_linear_merge_come_back_among_strangers(seed: int, n: int, strangers: int, data: st.DataObject):
    models = family(seed, n, strangers)
    weights = np.array(data.draw(st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n)))
    child = models[0] + weights @ (models[1 : n + 1] - models[0])
    found = fits.select(gram(models, child), range(len(models)), 0, 0.05, 1e-12)
    assert found.weights[1 : n + 1] == pytest.approx(weights, abs=1e-3)
    assert found.weights[0] == pytest.approx(1 - weights.sum(), abs=1e-3)
    assert (found.weights[n + 1 :] == 0).all() and found.chosen == tuple(range(n + 1))
    assert found.shares[1 : n + 1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("seed", "strangers"), [(6, 3), (9, 1), (9, 2)])
def test_who_has_no_weight_is_not_chosen(seed: int, strangers: int) -> None:
    """Where nothing is left to explain, what one takes away is a quotient of rounding errors."""
    models = family(seed, 4, strangers)
    child = models[0] + np.full(4, 0.9797026592389988) @ (models[1:5] - models[0])
    assert fits.select(gram(models, child), range(len(models)), 0, 0.05, 1e-12).chosen == (0, 1, 2, 3, 4)


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 4), st.permutations(range(6)))
def test_the_order_of_candidates_does_not_matter(seed: int, n: int, order: list[int]):
    models = family(seed, 5, 0)
    dice = np.random.default_rng(seed)
    child = models[0] + dice.uniform(0.1, 0.8, n) @ (models[1 : n + 1] - models[0]) + 0.01 * dice.normal(size=N)
    straight = fits.select(gram(models, child), range(6), 0, 0.05)
    turned = fits.select(gram(models[order], child), range(6), order.index(0), 0.05)
    assert turned.weights == pytest.approx(straight.weights[order], abs=1e-9)
    assert turned.shares == pytest.approx(straight.shares[order], abs=1e-9)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 4))
def test_constrained_weights_are_those_of_nnls_on_task_vectors(seed: int, n: int):
    models = family(seed, n, 1)
    child = models[0] + np.random.default_rng(seed).normal(size=N) * 0.3
    expected, _ = nnls((models[1:] - models[0]).T, child - models[0])
    G = gram(models, child).sum(axis=0)
    a = fits.constrained(G, range(len(models)), 0)
    assert a[1:] == pytest.approx(expected, abs=1e-6) and a.sum() == pytest.approx(1)
    fitted = np.sum((child - a @ models) ** 2)
    assert fits.residual(G, a) == pytest.approx(fitted, rel=1e-9)


@settings(max_examples=30)
@given(SEEDS, st.integers(2, 4))
def test_simplex_weights_are_the_best_of_all_mixtures(seed: int, n: int):
    dice = np.random.default_rng(seed)
    points = dice.normal(size=(n, 5)) + dice.normal(size=5)
    G = points @ points.T
    a = fits.simplex(G, range(n))
    assert (a >= 0).all() and a.sum() == pytest.approx(1)
    limits = {"bounds": [(0, 1)] * n, "constraints": {"type": "eq", "fun": lambda x: x.sum() - 1}}
    best = minimize(lambda x: x @ G @ x, np.full(n, 1 / n), method="SLSQP", options={"ftol": 1e-12}, **limits)
    assert a @ G @ a <= best.fun + 1e-6
    mixtures = dice.dirichlet(np.ones(n), 200)
    assert a @ G @ a <= np.einsum("mi,ij,mj->m", mixtures, G, mixtures).min() + 1e-12


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 4))
def test_unconstrained_weights_are_those_of_least_squares(seed: int, n: int):
    models = family(seed, n, 1)
    child = np.random.default_rng(seed).normal(size=N)
    expected = np.linalg.lstsq((models[1:] - models[0]).T, child - models[0], rcond=None)[0]
    a = fits.unconstrained(gram(models, child).sum(axis=0), range(len(models)), 0)
    assert a[1:] == pytest.approx(expected, abs=1e-6)


def test_candidates_that_are_equal_share_a_weight_or_leave_it_to_one() -> None:
    models = family(1, 2, 0)
    models = np.concatenate([models, models[1:2]])
    child = models[0] + 0.6 * (models[1] - models[0])
    G = gram(models, child)
    a = fits.unconstrained(G.sum(axis=0), range(4), 0)
    assert a == pytest.approx([0.4, 0.3, 0.0, 0.3], abs=1e-6)
    assert fits.select(G, range(4), 0, 0.05, 1e-12).chosen == (0, 1)


def test_standard_errors_are_as_large_as_the_weights_scatter() -> None:
    """200 children of one mixture with fresh noise: their weights scatter as the jackknife says."""
    models, dice = family(3, 2, 0), np.random.default_rng(0)
    weights, errors = [], []
    for _ in range(200):
        child = models[0] + np.array([0.5, 0.3]) @ (models[1:] - models[0]) + 0.2 * dice.normal(size=N)
        blocks = (models - child).reshape(3, 20, -1).transpose(1, 0, 2)
        G = blocks @ blocks.transpose(0, 2, 1)
        weights.append(fits.unconstrained(G.sum(axis=0), range(3), 0))
        errors.append(fits.jackknife(G, range(3), 0))
    assert np.std(weights, axis=0) == pytest.approx(np.mean(errors, axis=0), rel=0.2)
    assert np.mean(weights, axis=0)[1:] == pytest.approx([0.5, 0.3], abs=0.02)


def test_one_block_has_no_standard_error() -> None:
    assert np.isnan(fits.jackknife(np.eye(2)[None], [0, 1], 0)).all()


@settings(max_examples=30)
@given(SEEDS, st.integers(3, 5), st.integers(0, 5))
def test_the_base_is_where_the_others_lie_round(seed: int, n: int, place: int):
    """Also where one of them moved ten times as far as the others, which draws their mean away."""
    dice = np.random.default_rng(seed)
    base = dice.normal(size=N)
    models = [base + size * dice.normal(size=N) for size in [1.0, *dice.uniform(0.05, 0.1, n - 1)]]
    place = min(place, n)
    models.insert(place, base)
    G = gram(np.stack(models), base + 0.1 * dice.normal(size=N)).sum(axis=0)
    assert by_width(G, range(n + 1))[0] == place
