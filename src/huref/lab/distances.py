"""Distances between the rows of two matrices."""

from torch import Tensor


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of rows, (n, d), (m, d) -> (n, m), by a matrix product (`cdist` has a slow gradient)."""
    squared = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None, :] - 2 * a @ b.t()
    return squared.clamp_min(1e-6).sqrt()
