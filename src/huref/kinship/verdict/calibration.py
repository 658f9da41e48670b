"""The background: pairs of models that are known to be unrelated, and where a new pair stands among them.

The p-value is conformal (Vovk, Gammerman and Shafer 2005): `(1 + number of unrelated pairs that score as much) /
(number of unrelated pairs + 1)`. If the pair at hand were unrelated and exchangeable with those of the background, a
p-value of p or less would come up with probability p or less, whatever the scores' distribution and however few pairs
there are. It cannot fall below `1 / (n + 1)`: where nothing in the background comes near, the distance is told by z.

What that rests on is said with every verdict: which models the background is made of, and that pairs which share a
model are not independent of each other, so that n counts pairs and `n_bases` what they are made of.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import CorruptFileError, MissingFileError
from huref.files.atomic import write_atomically
from huref.kinship.record import FRAMES

SCHEMA_VERSION = "huref.calibration/1.0"
SCORES = ("agreement", "aligned", "ics_canonical_2", "ics_canonical", "ics", "pcs")
IN_FRAME = "agreement/"
"""Begins the names of the agreement in each frame, `agreement/rows`."""

FALSE_ACCUSATION_RATE = 0.01
"""A verdict of kinship asks for a p-value of no more than this."""

_FEWEST = 99
_LARGEST_FILE = 1 << 24
_SHIPPED = "calibration-2.json"


@dataclass(frozen=True)
class UnrelatedPair:
    """Two models that share no weights, and what `huref compare` says of them.

    Attributes:
        a, b: their names.
        same_vocabulary: whether they have one vocabulary.
        twins: whether they learned from the same text: the hard case.
        bases: the two bases they descend from.
        scores: by name, one of `SCORES` or the agreement in a frame; None where a score does not apply.
    """

    a: str
    b: str
    same_vocabulary: bool
    twins: bool
    bases: tuple[str, str]
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Calibration:
    """Unrelated pairs, and how they were come by.

    Attributes:
        version: names this data in every verdict.
        made: command, huref's version, date, what the models are.
        pairs: the unrelated pairs.
    """

    version: str
    made: Mapping[str, Any]
    pairs: tuple[UnrelatedPair, ...]

    @cached_property
    def _chosen(self) -> dict[tuple[str, bool], _Chosen | None]:
        return {}

    def chosen(self, name: str, fallback: str, *, same_vocabulary: bool) -> _Chosen | None:
        """The pairs that a pair at hand is held against, see `background_of`.

        Args:
            name: of the score.
            fallback: the score where no pair has that one: version 1 knew no frames.
        """
        key = name, same_vocabulary
        if key not in self._chosen:
            is_known = any(name in pair.scores for pair in self.pairs)
            self._chosen[key] = _choose(self.pairs, name if is_known else fallback, same_vocabulary)
        return self._chosen[key]


@dataclass(frozen=True)
class _Chosen:
    """Unrelated pairs that a pair at hand is held against: their scores, descending, and as in `Background`."""

    values: tuple[float, ...]
    nearest: Mapping[str, Any]
    n_bases: int
    matched: str


def _choose(pairs: Sequence[UnrelatedPair], score: str, same_vocabulary: bool) -> _Chosen | None:
    usable = [pair for pair in pairs if pair.scores.get(score) is not None]
    alike = [pair for pair in usable if pair.same_vocabulary]
    is_matched = same_vocabulary and len(alike) >= _FEWEST
    chosen = alike if is_matched else usable
    if not chosen:
        return None
    ordered = sorted(chosen, key=lambda pair: -float(pair.scores[score] or 0.0))
    first = ordered[0]
    return _Chosen(
        values=tuple(float(pair.scores[score] or 0.0) for pair in ordered),
        nearest={"a": first.a, "b": first.b, "score": first.scores[score], "twins": first.twins},
        n_bases=len({base for pair in chosen for base in pair.bases}),
        matched="pairs of one vocabulary" if is_matched else "all unrelated pairs",
    )


@cache
def _mean_and_std(values: tuple[float, ...]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Background:
    """One score's unrelated pairs, and where a pair stands among them.

    Attributes:
        score: its name.
        value: of the pair at hand.
        values: of the unrelated pairs, descending.
        nearest: the unrelated pair that scores highest: a, b, score.
        n_bases: independent models behind the pairs.
        matched: which pairs were taken, in words.
        version: of the calibration.
        n_tried: frames that the value was chosen of.
        p_chance: of an agreement, the binomial p-value of its neurons.
    """

    score: str
    value: float
    values: tuple[float, ...]
    nearest: Mapping[str, Any]
    n_bases: int
    matched: str
    version: str
    n_tried: int = 1
    p_chance: float = 0.0

    @property
    def mean(self) -> float:
        """Of the unrelated pairs."""
        return _mean_and_std(self.values)[0]

    @property
    def std(self) -> float:
        """Of the unrelated pairs, with n - 1."""
        return _mean_and_std(self.values)[1]

    @property
    def z(self) -> float | None:
        """Distance of the value from the mean in standard deviations."""
        return (self.value - self.mean) / self.std if self.std > 0 else None

    @property
    def p_value(self) -> float:
        """Conformal, see the module's docstring; times the number of frames that were tried (Bonferroni).

        No less than chance alone gives: models of few neurons agree by chance more often than the background's.
        """
        found = (1 + self._n_as_high) / (len(self.values) + 1)
        return max(self.p_chance, min(1.0, self.n_tried * found))

    @property
    def rate_bound(self) -> float:
        """Upper 95 % limit of the share of such pairs that score as much as the value (Clopper and Pearson 1934)."""
        k, n = self._n_as_high, len(self.values)
        if k in (0, n):
            return 1.0 if k == n else float(1 - 0.05 ** (1 / n))
        from scipy.special import betaincinv  # a fifth of a second, and only for pairs that unrelated ones surpass

        return float(betaincinv(k + 1, n - k, 0.95))

    @property
    def _n_as_high(self) -> int:
        """Unrelated pairs that score as much as the value."""
        return bisect_right(self.values, -self.value, key=float.__neg__)

    def to_dict(self) -> dict[str, Any]:
        """The `background` of a comparison."""
        return {
            "score": self.score,
            "value": self.value,
            "mean": self.mean,
            "std": self.std,
            "n": len(self.values),
            "n_bases": self.n_bases,
            "max": max(self.values),
            "nearest": dict(self.nearest),
            "z": self.z,
            "p_value": self.p_value,
            "rate_bound": self.rate_bound,
            "matched": self.matched,
            "n_tried": self.n_tried,
            "p_chance": self.p_chance,
            "calibration": self.version,
            "values": list(self.values),
        }


def background_of(
    calibration: Calibration,
    score: str,
    value: float,
    *,
    same_vocabulary: bool,
    frame: str = "",
    n_tried: int = 1,
) -> Background | None:
    """The unrelated pairs that resemble a pair at hand; None where there are none.

    Args:
        frame: of an agreement, where it was found; unrelated pairs are taken in the same frame.
        n_tried: frames that it was chosen of.

    A pair of one vocabulary is held against pairs of one vocabulary, the harder ones; any other pair, and every pair
    where those are fewer than 99, against all.
    """
    name = score if not frame else IN_FRAME + ("tokens" if frame == "shared tokens" else frame)
    chosen = calibration.chosen(name, score, same_vocabulary=same_vocabulary)
    if chosen is None:
        return None
    return Background(
        score=score,
        value=value,
        values=chosen.values,
        nearest=chosen.nearest,
        n_bases=chosen.n_bases,
        matched=chosen.matched,
        version=calibration.version,
        n_tried=n_tried,
    )


@cache
def load_calibration(path: Path | None = None) -> Calibration:
    """The shipped calibration, or one of your own (`huref lab calibrate`).

    Raises:
        MissingFileError: there is no such file.
        CorruptFileError: it contradicts its format.
    """
    try:
        if path is None:
            content = (resources.files("huref.kinship.verdict") / "data" / _SHIPPED).read_bytes()
        elif path.stat().st_size > _LARGEST_FILE:
            raise _corrupt(path, f"at most {_LARGEST_FILE} bytes", str(path.stat().st_size))
        else:
            content = path.read_bytes()
    except OSError as error:
        raise MissingFileError(
            "a calibration cannot be read",
            where=str(path or _SHIPPED),
            got=error.strerror or str(error),
            next_step="huref lab calibrate --zoo DIR --out FILE",
        ) from None
    return _parsed(path or Path(_SHIPPED), content)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration; equal calibrations give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "version": calibration.version,
        "made": dict(calibration.made),
        "pairs": [asdict(pair) for pair in calibration.pairs],
    }
    lines = json.dumps(document, sort_keys=True, ensure_ascii=False).replace('{"a": ', '\n{"a": ')
    write_atomically(path, (lines + "\n").encode())


def _parsed(path: Path, content: bytes) -> Calibration:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "a JSON document", str(error)[:80]) from None
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        got = str(document.get("schema_version"))[:40] if isinstance(document, dict) else type(document).__name__
        raise _corrupt(path, f"schema_version {SCHEMA_VERSION}", got)
    made, entries, version = (document.get(key) for key in ("made", "pairs", "version"))
    if not isinstance(made, dict) or not isinstance(entries, list) or not isinstance(version, str):
        raise _corrupt(path, "a mapping `made`, a list `pairs` and a text `version`", "something else")
    return Calibration(version, made, tuple(_pair(path, entry) for entry in entries))


def _pair(path: Path, entry: Any) -> UnrelatedPair:
    expected = "pairs with a, b, bases, same_vocabulary, twins and scores from -1 to 1"
    if not isinstance(entry, dict) or entry.keys() != {"a", "b", "bases", "same_vocabulary", "twins", "scores"}:
        raise _corrupt(path, expected, str(entry)[:80])
    texts = [entry["a"], entry["b"], *(entry["bases"] if isinstance(entry["bases"], list) else [None])]
    flags = [entry["same_vocabulary"], entry["twins"]]
    scores = entry["scores"]
    is_right = (
        len(texts) == 4
        and all(isinstance(text, str) for text in texts)
        and all(isinstance(flag, bool) for flag in flags)
        and isinstance(scores, dict)
        and all(_is_name(name) and (value is None or _is_score(value)) for name, value in scores.items())
    )
    if not is_right:
        raise _corrupt(path, expected, str(entry)[:80])
    return UnrelatedPair(entry["a"], entry["b"], flags[0], flags[1], (texts[2], texts[3]), scores)


def _is_name(name: str) -> bool:
    return name in SCORES or name.removeprefix(IN_FRAME) in FRAMES


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1.0 <= value <= 1.0


def _corrupt(path: Path, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "a calibration contradicts its format",
        where=str(path),
        expected=expected,
        got=got,
        next_step="huref lab calibrate --zoo DIR --out FILE",
    )
