"""Distances between two samples of features: are made pictures distributed as photographs are?

- Kernel distance: Bińkowski et al., "Demystifying MMD GANs", 2018: the unbiased squared maximum mean discrepancy with
  the kernel `(x.y / d + 1)^3`. With Inception's features it is called KID; here the features are others, so that
  figures compare only with figures of the same extractor. Unbiased: it does not depend on the sizes of the samples,
  where the Fréchet distance does, and it may come out below zero where two samples are of one distribution.
- Precision and recall: Kynkäänniemi et al., "Improved precision and recall metric", 2019: the share of made pictures
  inside the photographs' manifold, and of photographs inside the made pictures', a manifold being the union of the
  balls around its points that reach their k-th neighbour.

All in fp64 and without random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.errors import UsageError

NEIGHBOURS = 3
"""k of the manifolds, as in the paper."""

Features = NDArray[np.floating]


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


def kernel_distance(a: Features, b: Features) -> Estimate:
    """Unbiased squared maximum mean discrepancy of two samples.

    The standard error is the delete-one jackknife's over both samples, which a sum of kernel rows gives exactly.

    Args:
        a: (n, d), at least 3 rows.
        b: (m, d), at least 3 rows.

    Raises:
        UsageError: too few rows, or rows of different lengths.
    """
    x, y = _checked(a, b, 3)
    aa, bb, ab = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    np.fill_diagonal(aa, 0.0)
    np.fill_diagonal(bb, 0.0)
    n, m = ab.shape
    within_a, within_b, between = aa.sum(), bb.sum(), ab.sum()
    value = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)
    without_a = (within_a - 2 * aa.sum(axis=1)) / ((n - 1) * (n - 2)) - 2 * (between - ab.sum(axis=1)) / ((n - 1) * m)
    without_b = (within_b - 2 * bb.sum(axis=1)) / ((m - 1) * (m - 2)) - 2 * (between - ab.sum(axis=0)) / (n * (m - 1))
    variance = (n - 1) * without_a.var() + (m - 1) * without_b.var()
    return Estimate(float(value), float(np.sqrt(variance)))


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)


def precision_recall(made: Features, real: Features, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of made rows within the real rows' manifold, share of real rows within the made rows'.

    Both depend on the sizes of the samples: compare figures of equal sizes only.

    Args:
        made: (n, d), more than k rows.
        real: (m, d), more than k rows.
        k: which neighbour the balls reach.

    Raises:
        UsageError: too few rows, or rows of different lengths.
    """
    x, y = _checked(made, real, k + 1)
    between = distances(x, y)
    precision = (between <= _radii(y, k)[None, :]).any(axis=1).mean()
    recall = (between <= _radii(x, k)[:, None]).any(axis=0).mean()
    return float(precision), float(recall)


def _radii(x: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Distance of every row to its k-th nearest other row."""
    within = distances(x, x)
    np.fill_diagonal(within, np.inf)
    return np.asarray(np.partition(within, k - 1, axis=1)[:, k - 1])


def distances(a: Features, b: Features) -> NDArray[np.float64]:
    """Euclidean distances of rows: (n, d), (m, d) -> fp64 (n, m)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    squared = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None] - 2 * x @ y.T
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def nearest(a: Features, b: Features, count: int, *, is_same: bool = False) -> tuple[NDArray[np.int64], Features]:
    """The nearest rows of b for every row of a.

    Args:
        a: (n, d).
        b: (m, d).
        count: how many, nearest first.
        is_same: b is a: a row is not its own neighbour.

    Returns:
        Indices into b and distances, each (n, count).
    """
    table = distances(a, b)
    if is_same:
        np.fill_diagonal(table, np.inf)
    order = np.argsort(table, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(table, order, axis=1)


def _checked(a: Features, b: Features, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise UsageError(
            "two samples cannot be compared",
            expected=f"two tables of features of one width, with at least {least} rows each",
            got=f"{a.shape} and {b.shape}",
        )
    return a.astype(np.float64), b.astype(np.float64)
