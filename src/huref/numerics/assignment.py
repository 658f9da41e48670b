"""The assignment problem for small tables, without the third of a second that importing scipy.optimize takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(gains: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of a one-to-one assignment of greatest sum, min(n, m) of them, by row.

    The Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987), O(n^2 m); where every row's best
    column is its own, those are the answer.

    Args:
        gains: (n, m), finite.
    """
    if gains.shape[0] > gains.shape[1]:
        columns, rows = assign(gains.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    n, m = gains.shape
    best = gains.argmax(axis=1) if gains.size else np.zeros(n, np.int64)
    if len(np.unique(best)) == n:
        return np.arange(n), best
    owner = np.full(m + 1, -1)  # of each column its row; the last column is where a new row starts
    u, v = np.zeros(n), np.zeros(m + 1)
    for row in range(n):
        owner[m] = row
        _augment(-gains, owner, u, v)
    columns = np.flatnonzero(owner[:m] >= 0)
    order = np.argsort(owner[columns])
    return np.arange(n), columns[order]


def _augment(
    costs: NDArray[np.float64], owner: NDArray[np.int64], u: NDArray[np.float64], v: NDArray[np.float64]
) -> None:
    """Give the row that owns the last column a column of its own, moving others along a shortest path."""
    m = costs.shape[1]
    least, before = np.full(m, np.inf), np.full(m, m)
    is_done = np.zeros(m + 1, bool)
    at = m
    while owner[at] >= 0:
        is_done[at] = True
        row = owner[at]
        reduced = costs[row] - u[row] - v[:m]
        nearer = ~is_done[:m] & (reduced < least)
        least[nearer], before[nearer] = reduced[nearer], at
        open_ = np.where(is_done[:m], np.inf, least)
        following = int(open_.argmin())
        step = open_[following]
        done = np.flatnonzero(is_done)
        u[owner[done]] += step
        v[done] -= step
        least[~is_done[:m]] -= step
        at = following
    while at != m:
        owner[at] = owner[before[at]]
        at = int(before[at])
    owner[m] = -1
