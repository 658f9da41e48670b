"""Ways in which candidates may make up a child: one set of weights for all tensors, one a layer, one a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from huref.parentage.fits import Selection, constrained, held_out, select
from huref.parentage.inner_products import InnerProducts

LEAST_SHARE = 0.05
"""Of the held-out residual that a candidate must take away to get a weight at all."""

MOST_LEFT = 5e-4
"""Of the squared distance to the nearest single candidate, what an exact merge may leave beyond rounding.

Not generous, since training can come near: step 20 of a run lies within 0.002 of a mean of steps 19 and 21."""

MOST_ROUNDING = 0.2
"""Of the same distance: where rounding is more, it hides whether anything else is left."""

LEAST_WITHIN = 0.98
"""Share of entries that must agree within rounding where rounding matters."""

_ROUNDING_SLACK = 1.15
_MATTERS = 1e-4
_ARITHMETIC = 2.0**-22
_NOTHING = 1e-7
"""Of the squared length of the weights or differences: what float32 leaves of an exact fit."""


@dataclass(frozen=True)
class Explanation:
    """Weights for every tensor.

    Attributes:
        weights: (T, k + 1), each row with sum 1; the last column is the model of zeros.
        groups: which tensors share a row of weights.
        residual: held-out squared residual, in all.
        left: (T,) squared residual of each tensor under weights fitted to its whole group.
        is_same: (groups,) bool: the candidates do not differ there, so no weight has a meaning.
    """

    weights: np.ndarray
    groups: tuple[np.ndarray, ...]
    residual: float
    left: np.ndarray
    is_same: np.ndarray


@dataclass(frozen=True)
class Exactness:
    """How near an explanation comes to what rounding alone would leave.

    Attributes:
        gain: share of the squared distance to the nearest single candidate that it takes away.
        rounding: expected squared rounding error of the child, as a share of that distance.
        is_exact: nothing is left but rounding, and rounding could not hide more.
    """

    gain: float
    rounding: float
    is_exact: bool


def one_fit(products: InnerProducts, chosen: Selection) -> Explanation:
    """The same weights everywhere."""
    D = products.differences()
    weights = np.tile(chosen.weights, (len(D), 1))
    everything = (np.arange(len(D)),)
    return Explanation(weights, everything, chosen.residual, _left(D, weights), np.zeros(1, bool))


def fit_by_group(
    products: InnerProducts, groups: Sequence[np.ndarray], pool: Sequence[int], base: int
) -> Explanation:
    """A sparse fit for each group of tensors; see `exact_by_group`."""
    found = _fit_by_group(products, groups, pool, base, np.inf)
    return cast(Explanation, found)


def exact_by_group(
    products: InnerProducts, groups: Sequence[np.ndarray], pool: Sequence[int], base: int, single: float
) -> Explanation | None:
    """The same, or None as soon as more is left than `exactness` would allow.

    Args:
        single: squared distance of the nearest single candidate.
    """
    own = products.rounding[:, -1]
    coarser = np.maximum(products.rounding[:, :-1] - own[:, None], 0.0)
    most = _ROUNDING_SLACK * float(own.sum() + coarser.sum()) + MOST_LEFT * single
    return _fit_by_group(products, groups, pool, base, most)


def _fit_by_group(
    products: InnerProducts, groups: Sequence[np.ndarray], pool: Sequence[int], base: int, most: float
) -> Explanation | None:
    """A sparse fit for each group of tensors; None where their residuals sum up to more than `most`.

    Args:
        groups: indices of tensors, each tensor in one group.
        pool: candidates.
        base: a candidate, or the model of zeros.
    """
    D = products.differences()
    weights, total = np.zeros((len(D), D.shape[-1])), 0.0
    is_same = np.zeros(len(groups), bool)
    for number, group in enumerate(groups):
        halves = D[group].sum(axis=0)
        others = [i for i in pool if i != base]
        is_same[number] = _are_same(halves.sum(axis=0), [i for i in {*pool, base} if i != D.shape[-1] - 1])
        floor = _NOTHING * float(halves.sum(axis=0).diagonal().max())
        found = select(halves, [base, *others], base, LEAST_SHARE, floor)
        weights[group] = found.weights
        total += found.residual
        if total > most:
            return None
    return Explanation(weights, tuple(groups), total, _left(D, weights), is_same)


def by_layer(products: InnerProducts) -> tuple[np.ndarray, ...]:
    """Groups: each layer, and each tensor outside the layers."""
    labels = layer_labels(products)
    return tuple(np.flatnonzero([label == wanted for label in labels]) for wanted in dict.fromkeys(labels))


def layer_labels(products: InnerProducts) -> list[str]:
    """What the group of each tensor is called."""
    return [name.split(".")[1] if name.startswith("layers.") else name for name in products.names]


def by_tensor(products: InnerProducts) -> tuple[np.ndarray, ...]:
    """Groups of one tensor each."""
    return tuple(np.array([i]) for i in range(len(products.names)))


def exactness(products: InnerProducts, found: Explanation, single: float) -> Exactness:
    """Measure an explanation against rounding.

    Args:
        single: squared distance of the nearest single candidate.
    """
    k = len(products.rounding[0]) - 1
    own = products.rounding[:, -1]
    coarser = np.maximum(products.rounding[:, :k] - own[:, None], 0.0)
    expected = float(own.sum() + (found.weights[:, :k] ** 2 * coarser).sum())
    if single <= 0:
        return Exactness(0.0, 1.0, False)
    share, left = expected / single, found.residual / single
    is_exact = share <= MOST_ROUNDING and left <= _ROUNDING_SLACK * share + MOST_LEFT
    if is_exact and share > _MATTERS:
        is_exact = share_within(products, found) >= LEAST_WITHIN
    return Exactness(1 - left, share, is_exact)


def share_of(products: InnerProducts, found: Explanation, candidate: int, pool: Sequence[int], base: int) -> float:
    """Share of the residual without a candidate that goes when it takes part; every group chooses anew."""
    others = [i for i in pool if i != candidate]
    if base == candidate or not others:
        return 1.0
    without = fit_by_group(products, found.groups, others, base).residual
    return 1 - found.residual / without if without > 0 else 0.0


def global_selection(products: InnerProducts, pool: Sequence[int], base: int) -> Selection:
    """The sparse fit with one set of weights; see `select`."""
    halves = products.differences().sum(axis=0)
    nearest = min(float(halves.sum(axis=0)[i, i]) for i in pool)
    floor = _NOTHING * nearest + 0.5 * float(products.rounding[:, -1].sum())
    return select(halves, pool, base, LEAST_SHARE, floor)


def held_out_residual(products: InnerProducts, chosen: Sequence[int], base: int) -> float:
    """Squared residual on the half of the rows that the weights were not fitted on, both halves together."""
    return held_out(products.differences().sum(axis=0), chosen, lambda G, some: constrained(G, some, base))


def _left(D: np.ndarray, weights: np.ndarray) -> np.ndarray:
    left: np.ndarray = np.maximum(np.einsum("ti,tij,tj->t", weights, D.sum(axis=1), weights), 0.0)
    return left


def _are_same(G: np.ndarray, models: Sequence[int]) -> bool:
    """No two of the models differ: all are equally far from the child, in the same direction."""
    first = models[0]
    apart = [G[i, i] - 2 * G[i, first] + G[first, first] for i in models]
    return bool(max(apart) <= 1e-13 * G[-1, -1])


def share_within(products: InnerProducts, found: Explanation) -> float:
    """Share of sampled entries where the fit agrees with the child within the stored types' rounding."""
    sample = products.sample
    if not sample.values.shape[1]:
        return 0.0
    weights = found.weights[sample.tensor].T[:-1]
    values, child = sample.values[:-1], sample.values[-1].astype(np.float64)
    fitted = (weights * values).sum(axis=0)
    coarser = np.maximum(sample.bounds[:-1] - sample.bounds[-1], 0.0)
    slack = sample.bounds[-1] + (np.abs(weights) * coarser).sum(axis=0) + _ARITHMETIC * np.abs(child)
    return float((np.abs(fitted - child) <= slack).mean())
