"""Statistics of a bench: how well one score tells kin from strangers.

A score is better the higher it is for kin. A pair that a method cannot score is NaN; it counts as below everything,
so that a method is neither rewarded for kin it cannot read nor blamed for strangers it stays silent about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auc(kin: np.ndarray, strangers: np.ndarray) -> float:
    """Area under the ROC curve: chance that a kin pair scores above a stranger pair, ties counting half.

    Args:
        kin: (n,) scores of pairs that are kin.
        strangers: (m,) scores of pairs that are not.

    Returns:
        In [0, 1]; NaN where either side is empty.
    """
    if not len(kin) or not len(strangers):
        return float("nan")
    return float(_wins(kin, strangers).mean())


def auc_interval(
    scores: tuple[np.ndarray, np.ndarray],
    clusters: tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]],
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap interval of `auc` over bases, because pairs of one base are one observation together.

    Bases are drawn with replacement; a pair counts as often as every base that it is made of was drawn, that is by
    the product of their counts. Percentiles over the draws that keep a pair on either side.

    Args:
        scores: of kin and of strangers, as for `auc`.
        clusters: for each pair of either side, the names of the bases it is made of.

    Returns:
        Lower and upper end; NaN twice where either side is empty.
    """
    kin, strangers = scores
    if not len(kin) or not len(strangers):
        return float("nan"), float("nan")
    names = sorted({name for side in clusters for pair in side for name in pair})
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(np.float64)
    weights = [_pair_weights(counts, names, side) for side in clusters]
    wins = _wins(kin, strangers)
    total = weights[0].sum(axis=1) * weights[1].sum(axis=1)
    values = ((weights[0] @ wins) * weights[1]).sum(axis=1)[total > 0] / total[total > 0]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tpr_at_fpr(kin: np.ndarray, strangers: np.ndarray, fpr: float) -> float:
    """Share of kin above a threshold that at most a share `fpr` of strangers exceeds; 0 asks for no stranger at all.

    Returns:
        In [0, 1]; NaN where either side is empty.
    """
    if not len(kin) or not len(strangers):
        return float("nan")
    allowed = int(np.floor(fpr * len(strangers) + 1e-9))
    if allowed >= len(strangers):
        return 1.0
    threshold = np.sort(_filled(strangers))[len(strangers) - 1 - allowed]
    return float((_filled(kin) > threshold).mean())


def z_score(kind: np.ndarray, strangers: np.ndarray) -> float:
    """Distance of a kind's mean score from the strangers' mean, in the strangers' standard deviations.

    Pairs without a score are left out. Infinite where strangers do not vary; NaN where there are fewer than two of
    them or nothing of the kind.
    """
    known, scored = strangers[np.isfinite(strangers)], kind[np.isfinite(kind)]
    if len(known) < 2 or not len(scored):
        return float("nan")
    gap, spread = float(scored.mean() - known.mean()), float(known.std(ddof=1))
    if spread == 0:
        return float("nan") if gap == 0 else float(np.copysign(np.inf, gap))
    return gap / spread


def upper_bound(false_alarms: int, trials: int, level: float = 0.95) -> float:
    """Exact (Clopper and Pearson 1934) one-sided upper bound of a false-alarm rate, for independent trials."""
    from scipy import stats  # heavy, and only for this bound

    if trials == 0 or false_alarms >= trials:
        return 1.0
    return float(stats.beta.ppf(level, false_alarms + 1, trials - false_alarms))


def _filled(scores: np.ndarray) -> np.ndarray:
    """Missing scores below all others."""
    return np.where(np.isnan(scores), -np.inf, scores.astype(np.float64))


def _wins(kin: np.ndarray, strangers: np.ndarray) -> np.ndarray:
    """(n, m): 1 where the kin pair scores higher, a half where it scores the same, else 0."""
    left, right = _filled(kin)[:, None], _filled(strangers)[None, :]
    found: np.ndarray = (left > right) + 0.5 * (left == right)
    return found


def _pair_weights(counts: np.ndarray, names: Sequence[str], side: Sequence[Sequence[str]]) -> np.ndarray:
    """(draws, pairs): the product over a pair's bases of how often each was drawn."""
    column = {name: i for i, name in enumerate(names)}
    found: np.ndarray = np.stack(
        [counts[:, [column[name] for name in sorted(set(pair))]].prod(axis=1) for pair in side], 1
    )
    return found
