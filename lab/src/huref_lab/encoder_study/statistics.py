"""Statistics of fingerprint vectors: how cosine follows ICS, whether vectors are Gaussian, how near strangers come.

P-values of distributions are by simulation at the sample's own size, because the usual tables assume what does not
hold here: a mean and standard deviation that were known beforehand, and samples so large that limits apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats

BANDS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5, 0.3, 0.1, -1.0)
"""Borders of ICS bands, from the top; a value on a border belongs to the band above it."""


@dataclass(frozen=True)
class Band:
    """Pairs whose ICS lies in one band.

    Attributes:
        high, low: borders of the ICS.
        n: pairs.
        families: independent clusters that the pairs come from.
        ics: mean ICS.
        cosine: mean cosine of the vectors.
        spread: standard deviation over pairs of cosine less ICS.
        gain: mean over families of their mean of cosine less ICS.
        error: standard error of `gain` over families.
        p_above: chance of a gain this large when the true one is not above 0: one-sided t-test over families.
    """

    high: float
    low: float
    n: int
    families: int
    ics: float
    cosine: float
    spread: float
    gain: float
    error: float
    p_above: float


class Mardia(NamedTuple):
    """Mardia's multivariate skewness and kurtosis (Biometrika 57, 1970), with simulated p-values.

    Attributes:
        skewness: b_1p; 0 for an infinite normal sample.
        kurtosis: b_2p; p (p + 2) for an infinite normal sample.
        p_skewness: one-sided, p_kurtosis: two-sided.
    """

    skewness: float
    kurtosis: float
    p_skewness: float
    p_kurtosis: float


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosine of every pair of rows: (n, n) float64."""
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found: np.ndarray = rows @ rows.T
    return found


def by_band(ics: np.ndarray, cosine: np.ndarray, family: np.ndarray) -> list[Band]:
    """Group pairs by ICS.

    Pairs of one family share models and weights, so they are one observation together: the error and the p-value
    are over families.

    Args:
        ics, cosine: (m,) of every pair.
        family: (m,) which independent cluster a pair belongs to.
    """
    bands = []
    for high, low in pairwise(BANDS):
        inside = (ics < high) & (ics >= low) if high < 1.0 else ics >= low
        if not inside.any():
            continue
        gain = (cosine - ics)[inside]
        names = family[inside]
        means = np.array([gain[names == name].mean() for name in np.unique(names)])
        error = float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else float("nan")
        p_above = (
            float(stats.t.sf(means.mean() / error, len(means) - 1)) if len(means) > 2 and error else float("nan")
        )
        bands.append(
            Band(
                high,
                low,
                int(inside.sum()),
                len(means),
                float(ics[inside].mean()),
                float(cosine[inside].mean()),
                float(gain.std(ddof=1)) if len(gain) > 1 else float("nan"),
                float(means.mean()),
                error,
                p_above,
            )
        )
    return bands


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979); NaN stays and does not count."""
    values = np.array(p_values, dtype=np.float64)
    corrected = np.full(values.shape, np.nan)
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = least
    return [float(value) for value in corrected]


def normal_distance(sample: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance of each row from the normal law of its own mean and deviation: (n,)."""
    rows = np.sort(np.atleast_2d(sample).astype(np.float64), axis=1)
    rows = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, ddof=1, keepdims=True)
    n = rows.shape[1]
    law = stats.norm.cdf(rows)
    steps = np.arange(n)
    found: np.ndarray = np.maximum((steps + 1) / n - law, law - steps / n).max(axis=1)
    return found


def normality(vectors: np.ndarray, draws: int = 10_000, seed: int = 0) -> np.ndarray:
    """P-value of each row as a normal sample (Lilliefors' test, its null simulated at this length): (n,)."""
    null = _normal_distances(vectors.shape[1], draws, seed)
    found = normal_distance(vectors)
    above = draws - np.searchsorted(null, found, side="left")
    p_values: np.ndarray = (above + 1) / (draws + 1)
    return p_values


def uniformity(p_values: np.ndarray) -> float:
    """P-value of p-values as a sample of the uniform law (exact Kolmogorov-Smirnov): small where tests fail."""
    return float(stats.kstest(p_values, "uniform").pvalue)


def mardia(sample: np.ndarray, draws: int = 2_000, seed: int = 0) -> Mardia:
    """Is a sample (n, p) multivariate normal? Both statistics ignore affine maps, so the null needs n and p alone.

    Raises:
        ValueError: n is not above p + 1.
    """
    n, p = sample.shape
    if n <= p + 1:
        raise ValueError(f"Mardia's test needs more than p + 1 = {p + 1} rows, got {n}")
    skewness, kurtosis = _mardia(sample)
    null = _mardia_null(n, p, draws, seed)
    far = abs(kurtosis - null[:, 1].mean())
    p_skewness = (1 + int((null[:, 0] >= skewness).sum())) / (draws + 1)
    p_kurtosis = (1 + int((np.abs(null[:, 1] - null[:, 1].mean()) >= far).sum())) / (draws + 1)
    return Mardia(skewness, kurtosis, p_skewness, p_kurtosis)


def random_directions(n: int, p: int, seed: int) -> np.ndarray:
    """(n, p) orthonormal columns, uniform over directions."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, p)))
    found: np.ndarray = Q
    return found


def expected_maximum(n_pairs: int, deviation: float) -> float:
    """Mean of the largest of n independent normal numbers: the integral over x > 0 of 1 - F^n - (1 - F)^n."""
    grid = np.linspace(0.0, 12.0, 20_001)
    law = stats.norm.cdf(grid)
    largest = np.trapezoid(1.0 - law**n_pairs - (1.0 - law) ** n_pairs, grid)
    return float(largest) * deviation


def _normal_distances(n: int, draws: int, seed: int) -> np.ndarray:
    """Sorted distances of normal samples of length n."""
    dice = np.random.default_rng(seed)
    blocks = [normal_distance(dice.standard_normal((min(1000, draws - i), n))) for i in range(0, draws, 1000)]
    return np.sort(np.concatenate(blocks))


@cache
def _mardia_null(n: int, p: int, draws: int, seed: int) -> np.ndarray:
    """Both statistics of normal samples (n, p): (draws, 2)."""
    dice = np.random.default_rng(seed)
    return np.array([_mardia(dice.standard_normal((n, p))) for _ in range(draws)])


def _mardia(sample: np.ndarray) -> tuple[float, float]:
    rows = sample - sample.mean(axis=0)
    covariance = rows.T @ rows / len(rows)
    products = rows @ np.linalg.solve(covariance, rows.T)
    return float((products**3).mean()), float((np.diag(products) ** 2).mean())
