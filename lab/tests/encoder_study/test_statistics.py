"""The statistics behind "which encoder is best", against scipy and against laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from huref_lab.encoder_study.statistics import (
    by_band,
    cosines,
    expected_maximum,
    holm,
    mardia,
    normal_distance,
    normality,
    random_directions,
    uniformity,
)

DICE = np.random.default_rng(7)


def test_cosines_are_those_of_pairs() -> None:
    rows = DICE.normal(size=(4, 9)).astype(np.float32)
    found = cosines(rows)
    for i in range(4):
        for j in range(4):
            expected = rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
            assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_distance_is_that_of_scipy() -> None:
    sample = DICE.gamma(3.0, size=200)
    expected = stats.kstest((sample - sample.mean()) / sample.std(ddof=1), "norm").statistic
    assert normal_distance(sample)[0] == pytest.approx(expected, abs=1e-12)


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_normality_ignores_scale_and_shift(scale: float, shift: float) -> None:
    sample = np.random.default_rng(0).normal(size=(1, 60))
    assert normal_distance(scale * sample + shift) == pytest.approx(normal_distance(sample), abs=1e-6)


def test_normal_samples_have_uniform_p_values_and_others_do_not() -> None:
    p_values = normality(np.random.default_rng(1).normal(size=(300, 128)), draws=3000)
    assert uniformity(p_values) > 0.01
    assert 0.02 < (p_values < 0.05).mean() < 0.09
    assert normality(np.random.default_rng(2).laplace(size=(5, 512)), draws=1000).max() < 0.01


def test_the_simulated_null_is_lilliefors() -> None:
    """Lilliefors (1967): for n = 30, a distance of 0.161 has a p-value of 0.05."""
    from huref_lab.encoder_study.statistics import _normal_distances

    null = _normal_distances(30, 20_000, 3)
    assert np.quantile(null, 0.95) == pytest.approx(0.161, abs=0.003)


def test_mardia_has_its_level_and_its_power() -> None:
    dice = np.random.default_rng(4)
    normal = [mardia(dice.normal(size=(40, 3)) @ dice.normal(size=(3, 3)), 100) for _ in range(20)]
    assert sum(found.p_skewness < 0.05 for found in normal) <= 5
    assert sum(found.p_kurtosis < 0.05 for found in normal) <= 5
    skewed = mardia(dice.exponential(size=(100, 3)), 150)
    assert max(skewed.p_skewness, skewed.p_kurtosis) < 0.01


def test_mardia_is_affine_and_has_its_limits() -> None:
    sample = np.random.default_rng(5).normal(size=(400, 2))
    found, turned = mardia(sample, 10), mardia(sample @ np.array([[3.0, 1.0], [0.0, 0.2]]) + 8, 10)
    assert found[:2] == pytest.approx(turned[:2], rel=1e-9)
    assert found.kurtosis == pytest.approx(8.0, abs=1.2)
    with pytest.raises(ValueError, match="more than"):
        mardia(sample[:3])


@pytest.mark.parametrize("n", [1, 3, 40, 1000])
def test_expected_maximum_by_simulation(n: int) -> None:
    draws = np.random.default_rng(n).normal(size=(100_000 // n + 30, n)).max(axis=1)
    error = draws.std() / len(draws) ** 0.5
    assert expected_maximum(n, 2.0) == pytest.approx(2.0 * draws.mean(), abs=2.0 * (5 * error + 1e-4))


def test_holm_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(holm([float("nan")])[0])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_bands_take_families_as_one_observation() -> None:
    """A hundred pairs of one family that all lie above do not outweigh three families that lie below."""
    ics = np.full(103, 0.6)
    cosine = np.concatenate([np.full(100, 0.65), [0.55, 0.55, 0.56]])
    family = np.array(["a"] * 100 + ["b", "c", "d"])
    (band,) = by_band(ics, cosine, family)
    assert (band.n, band.families, band.low, band.high) == (103, 4, 0.5, 0.7)
    assert band.gain == pytest.approx((0.05 - 0.05 - 0.05 - 0.04) / 4)
    assert band.p_above > 0.5


def test_every_pair_has_a_band() -> None:
    ics = np.concatenate([DICE.uniform(-1, 1, size=500), [1.0, 1.0000001, 0.95, 0.9, -1.0]])
    bands = by_band(ics, ics, np.arange(len(ics)))
    assert sum(band.n for band in bands) == len(ics)
    assert all(band.low <= band.ics for band in bands)


def test_random_directions_are_orthonormal() -> None:
    Q = random_directions(40, 5, 1)
    assert np.allclose(Q.T @ Q, np.eye(5), atol=1e-12)
    assert not np.allclose(Q, random_directions(40, 5, 2))
