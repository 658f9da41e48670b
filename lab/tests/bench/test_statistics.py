"""The bench's statistics against brute force over every pair."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huref_lab.bench.statistics import auc, auc_interval, tpr_at_fpr, upper_bound, z_score

SCORES = st.lists(st.sampled_from([float("nan"), -1.0, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12).map(np.array)


def below_all(value: float) -> float:
    return -float("inf") if value != value else value


@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_of_pairs_in_the_right_order(kin: np.ndarray, strangers: np.ndarray) -> None:
    points = [
        1.0 if below_all(k) > below_all(s) else 0.5 if below_all(k) == below_all(s) else 0.0
        for k, s in product(kin, strangers)
    ]
    assert auc(kin, strangers) == pytest.approx(sum(points) / len(points))
    assert auc(kin, strangers) + auc(strangers, kin) == pytest.approx(1.0)


@given(SCORES, SCORES, st.sampled_from([0.0, 0.01, 0.1, 0.34, 0.5, 1.0]))
def test_tpr_is_the_best_of_every_threshold_that_keeps_the_false_positives(
    kin: np.ndarray, strangers: np.ndarray, fpr: float
) -> None:
    left, right = [[below_all(v) for v in side] for side in (kin, strangers)]
    best = 0.0
    for border in sorted({*left, *right}):
        for is_above in (lambda v, t=border: v > t, lambda v, t=border: v >= t):
            if sum(map(is_above, right)) <= fpr * len(right) + 1e-9:
                best = max(best, sum(map(is_above, left)) / len(left))
    assert tpr_at_fpr(kin, strangers, fpr) == pytest.approx(best)


def test_a_pair_that_cannot_be_scored_is_a_miss_for_kin_and_no_alarm_for_strangers() -> None:
    nan = float("nan")
    assert tpr_at_fpr(np.array([0.9, nan]), np.array([0.1, nan]), 0.0) == 0.5
    assert auc(np.array([0.9, nan]), np.array([0.1, nan])) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_the_interval_holds_what_resampling_by_hand_gives() -> None:
    """Two bases: the draws are AA, AB, BB with chances 1/4, 1/2, 1/4, and each leaves a known area."""
    kin, strangers = np.array([0.9, 0.2]), np.array([0.5, 0.1])
    clusters = ([("A",), ("B",)], [("A",), ("B",)])
    by_draw = {"AA": 1.0, "AB": 0.75, "BB": 1.0}
    low, high = auc_interval((kin, strangers), clusters, draws=400, level=0.9)
    assert (low, high) == (by_draw["AB"], by_draw["AA"])


@given(st.integers(0, 1000))
def test_the_interval_agrees_with_repeating_pairs(seed: int) -> None:
    """Weights are the same as writing a pair down once for every time that its bases were drawn together."""
    rng = np.random.default_rng(seed)
    names = ["A", "B", "C"]
    sides = [[tuple(rng.choice(names, size=2)) for _ in range(4)] for _ in range(2)]
    scores = rng.choice([0.0, 0.5, 1.0], size=(2, 4))
    seen = sorted({name for side in sides for pair in side for name in pair})
    counts = np.random.default_rng(7).multinomial(len(seen), np.full(len(seen), 1 / len(seen)), size=1)[0]
    drawn = Counter(dict(zip(seen, counts.tolist(), strict=True)))
    repeated = []
    for side, values in zip(sides, scores, strict=True):
        times = [int(np.prod([drawn[name] for name in set(pair)])) for pair in side]
        repeated.append(np.repeat(values, times))
    low, high = auc_interval((scores[0], scores[1]), (sides[0], sides[1]), draws=1, seed=7)
    if len(repeated[0]) and len(repeated[1]):
        assert low == high == pytest.approx(auc(*repeated))
    else:
        assert np.isnan(low) and np.isnan(high)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_z_is_in_standard_deviations_of_the_strangers(strangers: list[float], kind: list[float]) -> None:
    mean = sum(strangers) / len(strangers)
    spread = (sum((v - mean) ** 2 for v in strangers) / (len(strangers) - 1)) ** 0.5
    found = z_score(np.array([*kind, float("nan")]), np.array([*strangers, float("nan")]))
    if spread > 1e-6:
        assert found == pytest.approx((sum(kind) / len(kind) - mean) / spread, rel=1e-6, abs=1e-6)


def test_z_of_strangers_that_do_not_vary_is_infinite_and_of_too_few_is_nothing() -> None:
    assert z_score(np.array([0.5]), np.array([0.0, 0.0])) == float("inf")
    assert np.isnan(z_score(np.array([0.5]), np.array([0.0])))
    assert np.isnan(z_score(np.array([]), np.array([0.0, 1.0])))


def test_empty_sides_have_no_statistics() -> None:
    nothing, one = np.array([]), np.array([1.0])
    for left, right in ((nothing, one), (one, nothing)):
        assert np.isnan(auc(left, right))
        assert np.isnan(tpr_at_fpr(left, right, 0.0))
        assert np.isnan(auc_interval((left, right), ([("A",)] * len(left), [("A",)] * len(right)))[0])


def test_the_bound_leaves_five_percent_to_what_was_seen() -> None:
    """The definition: at the bound, so few false alarms have a chance of one in twenty."""
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    p = upper_bound(1, 50)
    assert (1 - p) ** 50 + 50 * p * (1 - p) ** 49 == pytest.approx(0.05)
    assert upper_bound(0, 0) == upper_bound(3, 3) == 1.0
