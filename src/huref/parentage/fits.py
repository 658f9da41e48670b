"""Least squares over the affine hull of candidates, from inner products alone.

Everywhere `G` (k, k) holds the inner products of the candidates' differences from the child, `d_i = W_i - W_child`.
A fit is a vector `a` (k,) with sum 1: the fitted child is `sum a_i W_i`, its residual `sum a_i d_i`, so the squared
residual is `a G a`, free of cancellation where the fit is exact. With a base `b` the same fit in task vectors
`t_i = W_i - W_b` has the weights `a_i`, and the base's own `a_b = 1 - sum a_i` is whatever remains, of either sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Fit = Callable[[np.ndarray, Sequence[int]], np.ndarray]


@dataclass(frozen=True)
class Selection:
    """A sparse fit.

    Attributes:
        chosen: candidates with a weight, the base included where there is one.
        weights: (k,) fitted on everything, sum 1, exactly 0 for all others.
        shares: (k,) share of the held-out residual without a candidate that goes when it may have a weight.
        residual: held-out squared residual.
    """

    chosen: tuple[int, ...]
    weights: np.ndarray
    shares: np.ndarray
    residual: float


def residual(G: np.ndarray, a: np.ndarray) -> float:
    """Squared residual of a fit, never below 0."""
    return max(0.0, float(a @ G @ a))


def constrained(G: np.ndarray, chosen: Sequence[int], base: int | None) -> np.ndarray:
    """Non-negative weights over the chosen ones; only a base may have a negative one."""
    if base is None:
        return simplex(G, chosen)
    others = [i for i in chosen if i != base]
    H, g = task_system(G, others, base)
    return _placed(len(G), others, _non_negative(H, g), base)


def unconstrained(G: np.ndarray, chosen: Sequence[int], base: int | None) -> np.ndarray:
    """Weights of any sign with sum 1; the smallest ones where candidates depend on each other."""
    origin = chosen[0] if base is None else base
    others = [i for i in chosen if i != origin]
    H, g = task_system(G, others, origin)
    scale = _scale(H)
    solved = np.linalg.lstsq(H / np.outer(scale, scale), g / scale, rcond=1e-10)[0] if others else np.zeros(0)
    return _placed(len(G), others, solved / scale, origin)


def simplex(G: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """Non-negative weights with sum 1, exact: `min |A u|^2 + (sum u - 1)^2` over u >= 0 has them as u / sum u."""
    part = G[np.ix_(chosen, chosen)]
    A = _root(part / max(float(np.trace(part)) / len(chosen), np.finfo(float).tiny))
    rows = np.vstack([A, np.ones(len(chosen))])
    u = _nnls(rows, np.append(np.zeros(len(A)), 1.0))
    a = np.zeros(len(G))
    a[list(chosen)] = u / u.sum()
    return a


def task_system(G: np.ndarray, others: Sequence[int], origin: int) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of task vectors from an origin: (n, n) among `others`, (n,) with the child's."""
    index = list(others)
    to_origin = G[index, origin]
    H = G[np.ix_(index, index)] - to_origin[:, None] - to_origin[None, :] + G[origin, origin]
    return H, G[origin, origin] - to_origin


def held_out(halves: np.ndarray, chosen: Sequence[int], fit: Fit) -> float:
    """Squared residual over both halves (2, k, k), each under the weights fitted on the other."""
    return sum(residual(halves[h], fit(halves[1 - h], chosen)) for h in (0, 1))


def select(
    halves: np.ndarray, pool: Sequence[int], base: int | None, least_share: float, floor: float = 0.0
) -> Selection:
    """Choose few candidates: add the one that lowers the held-out residual most, then drop those no longer needed.

    Args:
        halves: (2, k, k).
        pool: who may be chosen; not empty.
        base: always in, with a weight of either sign; or None: starts from the nearest.
        least_share: of the held-out residual that each must take away.
        floor: a squared residual at which nothing is left to explain.
    """

    def fit(G: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        return constrained(G, chosen, base)

    G = halves.sum(axis=0)
    chosen = [base if base is not None else min(pool, key=lambda i: G[i, i])]
    left = held_out(halves, chosen, fit)
    while left > floor:
        trials = {i: held_out(halves, [*chosen, i], fit) for i in pool if i not in chosen}
        best = min(trials, key=lambda i: trials[i], default=None)
        if best is None or trials[best] > (1 - least_share) * left:
            break
        chosen, left = [*chosen, best], trials[best]
    while True:
        shares = _shares(halves, chosen, base, fit)
        weakest = min((i for i in chosen if i != base), key=lambda i: shares[i], default=None)
        if weakest is None or len(chosen) < 2 or shares[weakest] >= least_share:
            break
        chosen.remove(weakest)
    return Selection(tuple(sorted(chosen)), fit(G, chosen), shares, held_out(halves, chosen, fit))


def jackknife(blocks: np.ndarray, chosen: Sequence[int], base: int | None) -> np.ndarray:
    """Standard errors (k,) of the weights over the chosen ones, leaving out one block (tensor) at a time.

    Args:
        blocks: (T, k, k). With fewer than two blocks nothing is known: NaN.
    """
    n, total = len(blocks), blocks.sum(axis=0)
    if n < 2:
        return np.full(blocks.shape[-1], np.nan)
    left_out = np.stack([unconstrained(total - block, chosen, base) for block in blocks])
    spread = left_out - left_out.mean(axis=0)
    errors: np.ndarray = np.sqrt((n - 1) / n * (spread**2).sum(axis=0))
    return errors


def _shares(halves: np.ndarray, chosen: Sequence[int], base: int | None, fit: Fit) -> np.ndarray:
    """What each takes away of the residual that is left without it; 1 for one alone, 0 for one without weight."""
    shares, weights = np.zeros(halves.shape[-1]), fit(halves.sum(axis=0), chosen)
    whole = held_out(halves, chosen, fit)
    for i in chosen:
        others = [j for j in chosen if j != i]
        if i == base or not others:
            shares[i] = 1.0 if not others else 0.0
            continue
        if weights[i] == 0:  # where nothing is left to explain, the quotient below is one of rounding errors
            continue
        without = held_out(halves, others, fit)
        shares[i] = 1 - whole / without if without > 0 else 0.0
    return shares


def _nnls(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`min |A u - b|` over u >= 0."""
    from scipy.optimize import nnls  # heavy, and only where a merge is fitted

    u: np.ndarray = nnls(A, b)[0]
    return u


def _non_negative(H: np.ndarray, g: np.ndarray) -> np.ndarray:
    """`min w H w - 2 g w` over w >= 0."""
    if not len(g):
        return np.zeros(0)
    scale = _scale(H)
    values, vectors = np.linalg.eigh(H / np.outer(scale, scale))
    kept = values > 1e-10 * max(values[-1], np.finfo(float).tiny)
    roots = np.sqrt(values[kept])
    solved = _nnls(roots[:, None] * vectors[:, kept].T, vectors[:, kept].T @ (g / scale) / roots)
    weights: np.ndarray = solved / scale
    return weights


def _root(G: np.ndarray) -> np.ndarray:
    """A with `A^T A = G`."""
    values, vectors = np.linalg.eigh(G)
    root: np.ndarray = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root


def _scale(H: np.ndarray) -> np.ndarray:
    diagonal = np.diag(H)
    scale: np.ndarray = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    return scale


def _placed(k: int, others: Sequence[int], weights: np.ndarray, origin: int) -> np.ndarray:
    a = np.zeros(k)
    a[list(others)] = weights
    a[origin] = 1 - weights.sum()
    return a
