"""Does it read? The paper's human study done by a program: pick the base of an offspring's picture from a line-up.

A `Lineup` is a set of bases and of models whose base is to be found among them; it is drawn with known cosines
(`draw_lineup`) or taken from real models (`study_lineup`). `read_lineup` draws every picture and lets a measure of
likeness choose the nearest base; what comes out is counted by band of ICS. Strangers, whose base is not in the
line-up, have no right answer: for them a match is false.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from huref.errors import UsageError
from huref.fingerprints.record import VECTOR_LENGTH
from huref.portraits.image import Pixels, render
from huref_lab.reading.bands import BANDS, Band, Share

if TYPE_CHECKING:
    from huref.portraits.generator.stylegan2 import Generator
    from huref_lab.encoder_study.record import Study

BASES = 18
"""As in the paper's study."""

STRANGER = -1
"""Stands in `Lineup.truth` where no base of the line-up is right."""

KIN_BANDS = BANDS[:6]
"""Bands in which kin are drawn: ICS 0.3 to 1."""

ALARM_RATE = 0.05
"""Share of strangers that a threshold of likeness lets through."""

_DRAWS = 400

Compare = Callable[[Pixels, Pixels, str], NDArray[np.float64]]
"""Pictures (n, h, w, 3), pictures (m, h, w, 3), measure -> likeness (n, m), larger for more alike."""


@dataclass(frozen=True)
class Setting:
    """Truncation: strength, and how many style layers it reaches."""

    psi: float
    cutoff: int


@dataclass(frozen=True)
class Lineup:
    """Bases, and models to find the base of.

    Attributes:
        bases: (b, 512) float32, vectors on offer.
        models: (n, 512) float32, vectors asked about.
        truth: (n,) int64, index of the right base or `STRANGER`.
        ics: (n,) float64, ICS of a model to its right base; of a stranger 0.
        barred: (n,) int64, a base that is not offered for this model, or -1: a base does not meet itself.
    """

    bases: NDArray[np.float32]
    models: NDArray[np.float32]
    truth: NDArray[np.int64]
    ics: NDArray[np.float64]
    barred: NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """How alike the pictures of a line-up are by one measure.

    Attributes:
        lineup: what was read.
        likeness: (n, b) float64, of each model's picture to each base's; -inf where barred.
    """

    lineup: Lineup
    likeness: NDArray[np.float64]

    @cached_property
    def picked(self) -> NDArray[np.int64]:
        """(n,) the nearest base of each model."""
        return np.asarray(np.argmax(self.likeness, axis=1))

    @cached_property
    def best(self) -> NDArray[np.float64]:
        """(n,) likeness of the nearest base."""
        found: NDArray[np.float64] = self.likeness.max(axis=1)
        return found

    @cached_property
    def is_stranger(self) -> NDArray[np.bool_]:
        """(n,) whether no base of the line-up is right."""
        return np.asarray(self.lineup.truth == STRANGER)

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """(n,) whether the nearest base is the right one; never for a stranger."""
        return np.asarray(self.picked == self.lineup.truth)


def kin(base: NDArray[np.floating], cosine: float, dice: np.random.Generator) -> NDArray[np.float32]:
    """A random vector at an exact cosine to another, of the length that its entries have variance 1.

    Args:
        base: (d,), not zero.
        cosine: -1 to 1.
        dice: where the direction comes from.

    Returns:
        (d,).
    """
    axis = np.asarray(base, dtype=np.float64)
    axis = axis / np.linalg.norm(axis)
    other = dice.standard_normal(len(axis))
    other -= (other @ axis) * axis
    other /= np.linalg.norm(other)
    mixed = cosine * axis + np.sqrt(1.0 - cosine * cosine) * other
    return np.asarray(mixed * np.sqrt(len(axis)), dtype=np.float32)


def spread_cosines(each: int, dice: np.random.Generator, bands: Sequence[Band] = KIN_BANDS) -> list[float]:
    """`each` cosines in every band, evenly spread over it, in random order within the band."""
    cosines: list[float] = []
    for band in bands:
        steps = (dice.permutation(each) + dice.random(each)) / each
        cosines += (band.low + (min(band.high, 1.0) - band.low) * steps).tolist()
    return cosines


def draw_lineup(
    seed: int,
    cosines: Sequence[float],
    *,
    bases: int = BASES,
    strangers: int = BASES,
) -> Lineup:
    """Random bases, one model at each of the cosines to the bases in turn, and strangers.

    For a linear encoder such as the sketch the cosine of two vectors estimates their ICS; here it is the ICS.

    Args:
        seed: of everything.
        cosines: each in [-1, 1].
        bases: how many are on offer.
        strangers: models unrelated to all of them.
    """
    dice = np.random.default_rng(seed)
    offered = dice.standard_normal((bases, VECTOR_LENGTH)).astype(np.float32)
    truth = [int(k) % bases for k in range(len(cosines))]
    related = [kin(offered[base], cosine, dice) for base, cosine in zip(truth, cosines, strict=True)]
    unrelated = dice.standard_normal((strangers, VECTOR_LENGTH)).astype(np.float32)
    return Lineup(
        offered,
        np.concatenate([np.reshape(related, (-1, VECTOR_LENGTH)), unrelated]).astype(np.float32),
        np.array(truth + [STRANGER] * strangers, dtype=np.int64),
        np.array([*cosines, *[0.0] * strangers]),
        np.full(len(cosines) + strangers, -1, dtype=np.int64),
    )


def study_lineup(study: Study, encoder: str) -> Lineup:
    """All bases of a study of real models; its offspring, and each base as a stranger among the other bases.

    Args:
        study: the models.
        encoder: whose vectors.

    Raises:
        UsageError: the study has no such encoder, or fewer than three bases.
    """
    if encoder not in study.vectors:
        known = ", ".join(study.vectors)
        raise UsageError("the study has no such encoder", where="--encoder", expected=known, got=encoder)
    vectors, offered = np.asarray(study.vectors[encoder], dtype=np.float32), study.bases
    if len(offered) < 3:
        raise UsageError("too few bases for a line-up", where="--study", expected="3 or more", got=str(len(offered)))
    place = {study.models[index].name: k for k, index in enumerate(offered)}
    offspring = [index for index in range(len(study.models)) if index not in offered]
    truth = [place[study.models[index].base] for index in offspring]
    return Lineup(
        vectors[list(offered)],
        vectors[[*offspring, *offered]],
        np.array(truth + [STRANGER] * len(offered), dtype=np.int64),
        np.array([study.models[index].ics_canonical for index in offspring] + [0.0] * len(offered)),
        np.array([-1] * len(offspring) + list(range(len(offered))), dtype=np.int64),
    )


def read_lineup(
    lineup: Lineup,
    generator: Generator | None,
    setting: Setting,
    measures: Sequence[str],
    compare: Compare | None = None,
) -> dict[str, Reading]:
    """Draw every picture of a line-up and compare them.

    Args:
        lineup: the vectors.
        generator: the network; None takes the shipped one.
        setting: truncation.
        measures: names that `compare` knows.
        compare: None takes `huref_lab.pictures.similarity.similarity_matrix`.

    Raises:
        HurefError: as `huref.portraits.image.render`, and as the measure.
    """
    if compare is None:
        from huref_lab.pictures.similarity import similarity_matrix

        compare = similarity_matrix
    everyone = np.concatenate([lineup.bases, lineup.models])
    pictures = render(everyone, generator, psi=setting.psi, cutoff=setting.cutoff)
    bases, models = np.split(pictures, [len(lineup.bases)])
    return {measure: _reading(lineup, compare(models, bases, measure)) for measure in measures}


def read_numbers(lineup: Lineup) -> Reading:
    """What the vectors themselves say, by their cosines: the best that any picture of them could do."""
    models, bases = (v.astype(np.float64) for v in (lineup.models, lineup.bases))
    lengths = np.linalg.norm(models, axis=1)[:, None] * np.linalg.norm(bases, axis=1)
    return _reading(lineup, models @ bases.T / lengths)


def _reading(lineup: Lineup, likeness: NDArray[np.float64]) -> Reading:
    offered = np.array(likeness, dtype=np.float64)
    barred = np.flatnonzero(lineup.barred >= 0)
    offered[barred, lineup.barred[barred]] = -np.inf
    return Reading(lineup, offered)


def share_by_band(readings: Sequence[Reading], threshold: float = -np.inf) -> dict[str, Share]:
    """Of the kin in each band, how many found their right base; bands without any kin are left out.

    Args:
        readings: by one measure.
        threshold: a nearest base must be more alike than this to count as found.
    """
    kin_of = [~reading.is_stranger for reading in readings]
    ics = np.concatenate([reading.lineup.ics[rows] for reading, rows in zip(readings, kin_of, strict=True)])
    found = [reading.is_right & (reading.best > threshold) for reading in readings]
    right = np.concatenate([hits[rows] for hits, rows in zip(found, kin_of, strict=True)])
    shares = {band.name: Share.of(right[[band.holds(value) for value in ics]]) for band in BANDS}
    return {name: share for name, share in shares.items() if share.trials}


@dataclass(frozen=True)
class FalseMatches:
    """What becomes of strangers.

    Attributes:
        named: how often the nearest base is one named beforehand (the k-th stranger's is the k-th base, or the
            next where that one is barred): by chance one in the number of bases on offer.
        crowd: share of a line-up's strangers that its most favoured base draws, averaged over line-ups.
        crowd_by_chance: the same if every base were as likely (simulated).
        threshold: likeness that only one stranger in twenty reaches with its nearest base, found on every other
            stranger.
        alarms: how many of the remaining strangers have a base above the threshold.
        found: by band, kin whose right base is the nearest and above the threshold.
    """

    named: Share
    crowd: float
    crowd_by_chance: float
    threshold: float
    alarms: Share
    found: dict[str, Share]


def false_matches(readings: Sequence[Reading]) -> FalseMatches:
    """How strangers fare, and what a threshold that turns nearly all of them away leaves of the kin."""
    named, crowds, expected = [], [], []
    dice = np.random.default_rng(0)
    for reading in readings:
        picked, bases = reading.picked[reading.is_stranger], len(reading.lineup.bases)
        is_barred = reading.lineup.barred[reading.is_stranger] >= 0
        named += (picked == (np.arange(len(picked)) + is_barred) % bases).tolist()
        crowds.append(_crowd(picked, bases))
        expected.append(np.mean([_crowd(row, bases) for row in dice.integers(bases, size=(_DRAWS, len(picked)))]))
    best = np.concatenate([reading.best[reading.is_stranger] for reading in readings])
    threshold = float(np.quantile(best[::2], 1 - ALARM_RATE, method="higher"))
    alarms, found = Share.of(best[1::2] > threshold), share_by_band(readings, threshold)
    return FalseMatches(Share.of(named), float(np.mean(crowds)), float(np.mean(expected)), threshold, alarms, found)


def _crowd(picked: NDArray[np.int64], bases: int) -> float:
    """Share of the picks that the most picked base has."""
    return float(np.bincount(picked, minlength=bases).max() / len(picked))
