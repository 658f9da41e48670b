"""Reading signs of projections: what is the row, given the signs of what known directions see of it?

The readers of `code_leakage.py`. A row has the prior N(0, C); `P` (m, d) are directions, `signs` (n, m) are +1 and
-1. Ridge logistic regression comes near the Bayes optimum (Aubin et al. 2020, arXiv 2006.06560) and needs the kernel
`P C P^T` alone. Its ridge is chosen on rows that the reader draws, never on the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huref.numerics.arrays import Floats, float32

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3)
KNOWN = 0.1
"""Share of an isotropic covariance in a prior that was estimated from rows."""


@dataclass(frozen=True)
class Reader:
    """Ridge logistic regression on signs, by kernel: `row = prior P^T alpha`.

    Attributes:
        seen: (m, d) `P prior`, scaled so that each direction sees unit variance.
        kernel: (m, m) `P prior P^T` in the same scale.
        ridge: chosen on simulated rows.
    """

    seen: Floats
    kernel: Floats
    ridge: float


def unit(rows: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay."""
    length = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    found: Floats = rows / np.maximum(length, np.float32(1e-20))
    return found


def cosines(a: Floats, b: Floats) -> Floats:
    """(n,) of rows."""
    found: Floats = (unit(a) * unit(b)).sum(axis=1)
    return found


def fit(kernel: Floats, signs: Floats, ridge: float, offset: Floats | float = 0.0, steps: int = 100) -> Floats:
    """alpha (n, m) that minimises `sum log(1 + exp(-sign (offset + z))) + ridge |x|^2 / 2`, z = alpha kernel."""
    curvature = float(np.linalg.eigvalsh(kernel.astype(np.float64))[-1]) / 4 + ridge
    slow = np.sqrt(curvature / ridge)
    momentum, step = np.float32((slow - 1) / (slow + 1)), np.float32(1 / curvature)
    alpha = ahead = np.zeros_like(signs)
    for _ in range(steps):
        margin = signs * (offset + ahead @ kernel)
        pull = signs / (1 + np.exp(np.clip(margin, -60, 60)))
        last, alpha = alpha, ahead + step * (pull - np.float32(ridge) * ahead)
        ahead = alpha + momentum * (alpha - last)
    return float32(alpha)


def make_reader(P: Floats, prior: Floats | None, ridges: Sequence[float] = RIDGES) -> Reader:
    """A reader for directions P (m, d) and a covariance (d, d), or none for a flat one."""
    d = P.shape[1]
    seen = P if prior is None else P @ prior
    scale = 1 / np.sqrt(np.maximum((seen * P).sum(axis=1), 1e-30))
    A, seen = P * scale[:, None], seen * scale[:, None]
    kernel = seen @ A.T
    if len(ridges) == 1:
        return Reader(float32(seen), float32(kernel), ridges[0])
    drawn = np.random.default_rng(0).standard_normal((96, d), np.float32)
    if prior is not None:
        drawn = drawn @ float32(np.linalg.cholesky(prior.astype(np.float64) + 1e-9 * np.eye(d))).T
    signs = float32(np.where(drawn @ A.T < 0, -1, 1))
    found = {r: float(cosines(fit(kernel, signs, r) @ seen, drawn).mean()) for r in ridges}
    return Reader(float32(seen), float32(kernel), max(found, key=lambda r: found[r]))


def estimate(reader: Reader, signs: Floats) -> Floats:
    """Unit rows (n, d)."""
    return unit(fit(reader.kernel, signs, reader.ridge) @ reader.seen)


def covariance(rows: Floats, isotropic: float = KNOWN) -> Floats:
    """(d, d) of unit rows, trace d, mixed with the isotropic one."""
    U = unit(rows).astype(np.float64)
    C = U.T @ U
    C *= (1 - isotropic) * len(C) / np.trace(C)
    return float32(C + isotropic * np.eye(len(C)))


def shannon(spectrum: np.ndarray, bits: int) -> float:
    """Largest root mean square cosine at so many bits a Gaussian row: reverse water-filling (Cover and Thomas)."""
    spectrum = np.maximum(spectrum, 1e-12)
    low, high = 1e-14, float(spectrum.max())
    for _ in range(200):
        level = np.sqrt(low * high)
        rate = np.log2(np.maximum(spectrum / level, 1)).sum() / 2
        low, high = (level, high) if rate > bits else (low, level)
    return float(np.sqrt(1 - np.minimum(spectrum, level).sum() / spectrum.sum()))


def whole(a: Floats, b: Floats) -> float:
    """Cosine of two matrices."""
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


def change(P: Floats, signs: Floats, public: Floats, size: float, factor: Floats | None = None) -> Floats:
    """The change (n, d) of public rows, from signs of the changed ones; `size` is its length beside a row's, told.

    Rows are taken at unit length. Logistic regression around what the public rows say, its ridge by simulation.
    """
    d = P.shape[1]
    sigma = np.float32(size / np.sqrt(d))
    A = P / np.linalg.norm(P, axis=1, keepdims=True) if factor is None else P @ factor
    scale = 1 / (sigma * np.linalg.norm(A, axis=1, keepdims=True))
    offset = unit(public) @ (P / np.linalg.norm(P, axis=1, keepdims=True)).T / sigma
    if factor is not None:
        offset = (unit(public) @ P.T) * scale.T
    A = A * scale * sigma
    kernel = A @ A.T
    some = slice(0, 96)
    drawn = np.random.default_rng(4).standard_normal((96, A.shape[1]), np.float32)[: len(public)]
    toy = float32(np.where(offset[some] + drawn @ A.T < 0, -1, 1))
    found = {r: cosines(fit(kernel, toy, r, offset[some], 100) @ A, drawn).mean() for r in RIDGES}
    x = fit(kernel, signs, max(found, key=lambda r: found[r]), offset) @ A
    return float32(x if factor is None else x @ factor.T)


def low_rank(P: Floats, signs: Floats, public: Floats, size: float, rank: int) -> Floats:
    """The same, told the rank: the directions from all rows' changes together, then every row within them."""
    first = change(P, signs, public, size)
    _, _, Vt = np.linalg.svd(first, full_matrices=False)
    return change(P, signs, public, size, float32(Vt[:rank].T))
