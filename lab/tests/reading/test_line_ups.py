"""Laws of the reading study: intervals, exact cosines, who is picked, what strangers do, the choice of truncation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from huref.errors import UsageError
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.stylegan2 import Generator
from huref_lab.reading.bands import BANDS, Share, band_of, wilson
from huref_lab.reading.line_ups import (
    KIN_BANDS,
    STRANGER,
    Lineup,
    Reading,
    Setting,
    draw_lineup,
    false_matches,
    kin,
    read_lineup,
    read_numbers,
    share_by_band,
    spread_cosines,
    study_lineup,
)
from huref_lab.reading.report import choose, counted, goals, summary, tables
from kit.tiny_generator import random_generator
from lab_kit.study import real_study

SETTING = Setting(1.0, 99)


@pytest.fixture(scope="module")
def network() -> Generator:
    config = StyleGAN2Config(resolution=8, mapping_layers=1, w_dim=16, channel_base=64, channel_max=8)
    return random_generator(config)


def pixel_likeness(images_a: np.ndarray, images_b: np.ndarray, measure: str) -> np.ndarray:
    """The simplest measure there is: less the mean squared difference."""
    assert measure == "pixels"
    a, b = (x.reshape(len(x), -1).astype(float) for x in (images_a, images_b))
    return -((a[:, None] - b[None]) ** 2).mean(axis=2)


def read(lineup: Lineup, network: Generator) -> Reading:
    return read_lineup(lineup, network, SETTING, ["pixels"], pixel_likeness)["pixels"]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    expected = binomtest(*counts).proportion_ci(confidence, method="wilson")
    assert wilson(*counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_without_trials_knows_nothing_and_refuses_impossible_counts() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for counts in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="hits"):
            wilson(*counts)


@given(st.floats(-1, 1))
def test_every_ics_is_in_exactly_one_band(ics: float) -> None:
    assert [band for band in BANDS if band.holds(ics)] == [band_of(ics)]


def test_no_band_holds_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="nan"):
        band_of(float("nan"))


@given(st.floats(-1, 1), st.integers(0, 2**32))
def test_kin_have_exactly_the_cosine_asked_for(wanted: float, seed: int) -> None:
    dice = np.random.default_rng(seed)
    base = dice.standard_normal(512)
    made = kin(base, wanted, dice)
    assert cosine(base, made) == pytest.approx(wanted, abs=1e-6)
    assert np.sqrt(np.mean(made.astype(float) ** 2)) == pytest.approx(1.0, abs=1e-6)


def test_cosines_are_spread_evenly_over_every_band() -> None:
    cosines = spread_cosines(30, np.random.default_rng(0))
    assert {band.name: sum(map(band.holds, cosines)) for band in KIN_BANDS} == {b.name: 30 for b in KIN_BANDS}
    middle = [value for value in cosines if 0.8 <= value < 0.9]
    assert sorted(int((value - 0.8) / 0.1 * 30 + 1e-9) for value in middle) == list(range(30))


def test_a_lineup_is_what_it_says() -> None:
    cosines = [0.9, 0.5, 0.3] * 3
    lineup = draw_lineup(3, cosines, bases=5, strangers=4)
    found = [cosine(lineup.bases[t], m) for t, m in zip(lineup.truth, lineup.models, strict=True) if t != STRANGER]
    assert found == pytest.approx(cosines, abs=1e-6) and lineup.ics.tolist() == [*cosines, 0, 0, 0, 0]
    assert lineup.truth.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, *[STRANGER] * 4]
    strangers = lineup.models[-4:]
    assert max(abs(cosine(a, b)) for a in lineup.bases for b in strangers) < 0.25
    np.testing.assert_array_equal(lineup.models, draw_lineup(3, cosines, bases=5, strangers=4).models)


def test_equal_pictures_always_find_their_base(network: Generator) -> None:
    reading = read(draw_lineup(0, [1.0] * 36, strangers=2), network)
    assert share_by_band([reading]) == {"0.95 to 1": Share(36, 36)}
    assert reading.best[:36].tolist() == [0.0] * 36


def test_the_numbers_find_what_pictures_cannot() -> None:
    lineup = draw_lineup(0, spread_cosines(18, np.random.default_rng(0)))
    reading = read_numbers(lineup)
    assert all(share.rate == 1 for share in share_by_band([reading]).values())
    kin_of = ~reading.is_stranger
    np.testing.assert_allclose(reading.best[kin_of], lineup.ics[kin_of], atol=1e-6)
    barred = replace(lineup, barred=lineup.truth)
    assert not read_numbers(barred).is_right.any()


def test_right_answers_fall_with_the_cosine_to_chance(network: Generator) -> None:
    rates = [
        share_by_band([read(draw_lineup(seed, [value] * 54), network) for seed in range(3)])[band_of(value).name]
        for value in (0.99, 0.6, 0.0)
    ]
    assert rates[0].rate > rates[1].rate > rates[2].rate
    low, high = rates[2].interval
    assert low <= 1 / 18 <= high


def random_readings(n: int, kin_models: int = 36) -> list[Reading]:
    """Likeness that knows nothing."""
    dice = np.random.default_rng(5)
    lineups = [draw_lineup(seed, [0.85] * kin_models, strangers=60) for seed in range(n)]
    return [Reading(lineup, dice.random((len(lineup.models), 18))) for lineup in lineups]


def test_random_likeness_is_at_chance_and_alarms_at_the_rate_of_the_threshold() -> None:
    readings = random_readings(20)
    for share, chance in ((share_by_band(readings)["0.80 to 0.90"], 1 / 18), (false_matches(readings).named, 1 / 18)):
        assert wilson(share.hits, share.trials, 0.999)[0] <= chance <= wilson(share.hits, share.trials, 0.999)[1]
    found = false_matches(readings)
    low, high = wilson(found.alarms.hits, found.alarms.trials, 0.999)
    assert low <= 0.05 <= high and found.alarms.trials == 600
    assert found.crowd == pytest.approx(found.crowd_by_chance, abs=0.02)


def test_a_base_that_looks_like_everybody_draws_the_crowd() -> None:
    readings = random_readings(3)
    for reading in readings:
        reading.likeness[:, 7] += 2.0
    found = false_matches(readings)
    assert found.crowd == 1.0 and found.named == Share(9, 180)


def test_a_threshold_takes_what_it_should() -> None:
    lineup = draw_lineup(0, [0.85] * 18, strangers=20)
    likeness = np.zeros((38, 18))
    likeness[np.arange(18), lineup.truth[:18]] = np.where(np.arange(18) < 6, 0.9, 0.4)
    likeness[18:, 3] = 0.5
    found = false_matches([Reading(lineup, likeness)])
    assert found.threshold == 0.5 and found.alarms == Share(0, 10)
    assert found.found == {"0.80 to 0.90": Share(6, 18)}
    assert share_by_band([Reading(lineup, likeness)]) == {"0.80 to 0.90": Share(18, 18)}


def test_a_base_never_meets_itself(network: Generator) -> None:
    study = real_study(5)
    lineup = study_lineup(study, "sketch")
    reading = read(lineup, network)
    assert reading.is_stranger.tolist() == [False] * 10 + [True] * 5
    assert (reading.picked[10:] != np.arange(5)).all()
    assert [study.models[index].name for index in study.bases] == [f"base{k}" for k in range(5)]
    np.testing.assert_array_equal(lineup.models[10:], lineup.bases)
    for row, truth in zip(lineup.models[:10], lineup.truth[:10], strict=True):
        assert cosine(row, lineup.bases[truth]) == pytest.approx(0.9, abs=1e-5)


def test_a_study_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder") as raised:
        study_lineup(real_study(), "cnn")
    assert raised.value.expected == "sketch"
    with pytest.raises(UsageError, match="too few"):
        study_lineup(real_study(2), "sketch")


def sweep(*rates: tuple[float, int, int]) -> list[dict[str, Any]]:
    """Settings (psi, cutoff) with so many right of 100 in every deciding band by the worse of two measures."""
    bands = ("0.90 to 0.95", "0.80 to 0.90", "0.70 to 0.80")
    return [
        {"psi": psi, "cutoff": cut, "right": {"a": {b: [100, 100] for b in bands}, "b": {b: [n, 100] for b in bands}}}
        for psi, cut, n in rates
    ]


def test_the_least_truncation_that_is_not_beaten_is_chosen() -> None:
    assert choose(sweep((0.3, 8, 92), (0.5, 8, 90), (1.0, 8, 91))) == Setting(1.0, 8)
    assert choose(sweep((0.3, 8, 92), (0.5, 8, 90), (1.0, 8, 10))) == Setting(0.5, 8)
    assert choose(sweep((0.3, 8, 70), (0.5, 8, 80), (0.7, 8, 90), (0.7, 99, 89))) == Setting(0.7, 8)
    assert choose(sweep((1.0, 8, 90), (0.5, 8, 10))) == Setting(1.0, 8)


def document(readings: list[Reading]) -> dict[str, Any]:
    found = counted({"pixels": readings})
    return {
        "schema_version": "huref.reading/1.0",
        "generator": {"sha256": "0" * 64, "resolution": 8},
        "style_layers": 4,
        "bases": 18,
        "sweep": [{"psi": 0.5, "cutoff": 99, "lineups": 1, "right": found["right"]}],
        "chosen": {"psi": 0.5, "cutoff": 99},
        "drawn": {"psi": 0.5, "cutoff": 99, "lineups": 1, **found},
        "real": {"bases": 18, "models": 36, "encoders": {"sketch": found}},
    }


@pytest.fixture(scope="module")
def readings(network: Generator) -> list[Reading]:
    return [read(draw_lineup(seed, spread_cosines(6, np.random.default_rng(seed))), network) for seed in range(2)]


def test_the_tables_hold_the_counts(readings: list[Reading]) -> None:
    made = document(readings)
    share = share_by_band(readings)["0.80 to 0.90"]
    found = tables(made)
    assert f"| 0.80 to 0.90 | {share}, n {share.trials} |" in found["drawn"].splitlines()
    assert set(found) == {"sweep", "drawn", "strangers", "real"} and "| 0.5 | all |" in found["sweep"]
    for table in found.values():
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
        assert table in summary(made)


def test_goals_are_judged_by_the_worst_measure(readings: list[Reading]) -> None:
    perfect = [
        Reading(r.lineup, np.where(np.arange(18) == r.lineup.truth[:, None], 1.0, r.likeness)) for r in readings
    ]
    made = document(perfect)
    assert [is_met for _, is_met, _ in goals(made)][:2] == [True, True]
    made["drawn"]["right"]["other"] = {**made["drawn"]["right"]["pixels"], "0.95 to 1": [11, 12]}
    assert [is_met for _, is_met, _ in goals(made)][:2] == [False, True]
    made["drawn"]["around_0.8"]["other"] = [11, 12]
    assert [is_met for _, is_met, _ in goals(made)][:2] == [False, False]


def test_truncation_reaches_the_pictures_of_a_lineup(network: Generator) -> None:
    lineup = draw_lineup(0, [0.5] * 18, strangers=1)
    mean = read_lineup(lineup, network, replace(SETTING, psi=0.0), ["pixels"], pixel_likeness)["pixels"]
    assert mean.likeness.max() - mean.likeness.min() <= 1.0
    full = read(lineup, network)
    assert full.likeness.max() - full.likeness.min() > 10.0
