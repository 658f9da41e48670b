"""Which models lie nearest: average linkage on a table of scores (Sokal and Michener 1958), numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Merge:
    """Two groups become one.

    Attributes:
        left, right: below n a model, from n on a merge by its place in the list, plus n.
        score: mean over the pairs between them that have one; None where none has.
    """

    left: int
    right: int
    score: float | None


def average_linkage(values: np.ndarray) -> tuple[Merge, ...]:
    """n - 1 merges, those of the highest score first.

    Args:
        values: (n, n), symmetric, NaN where a pair has no score; the diagonal does not count.
    """
    n = len(values)
    is_known = ~np.isnan(values)
    np.fill_diagonal(is_known, False)
    sums, counts = np.where(is_known, values, 0.0), is_known.astype(np.float64)
    nodes, merges = list(range(n)), []
    while len(nodes) > 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(counts > 0, sums / counts, -np.inf)
        np.fill_diagonal(means, -np.inf)
        i, j = divmod(int(np.argmax(means)), len(nodes))
        score: float | None = float(means[i, j])
        if means[i, j] == -np.inf:  # nothing is known of any two that are left
            i, j, score = 0, 1, None
        i, j = sorted((i, j))
        merges.append(Merge(nodes[i], nodes[j], score))
        for table in (sums, counts):
            table[i] += table[j]
            table[:, i] += table[:, j]
        sums, counts = (np.delete(np.delete(table, j, 0), j, 1) for table in (sums, counts))
        nodes[i] = n + len(merges) - 1
        del nodes[j]
    return tuple(merges)


def leaves(merges: tuple[Merge, ...], n: int) -> tuple[int, ...]:
    """The models in the order in which a tree shows them."""
    below: list[tuple[int, ...]] = [(i,) for i in range(n)]
    for merge in merges:
        below.append(below[merge.left] + below[merge.right])
    return below[-1]
