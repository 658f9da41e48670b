"""Bands of kinship, and shares of right answers with the interval that so many trials allow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Band:
    """A range of ICS, `low` included, `high` not (but for the first band, which ends at 1)."""

    name: str
    low: float
    high: float

    def holds(self, ics: float) -> bool:
        """Whether an ICS lies in the band."""
        return self.low <= ics < self.high


BANDS = (
    Band("0.95 to 1", 0.95, math.inf),
    Band("0.90 to 0.95", 0.9, 0.95),
    Band("0.80 to 0.90", 0.8, 0.9),
    Band("0.70 to 0.80", 0.7, 0.8),
    Band("0.50 to 0.70", 0.5, 0.7),
    Band("0.30 to 0.50", 0.3, 0.5),
    Band("0.10 to 0.30", 0.1, 0.3),
    Band("under 0.10", -math.inf, 0.1),
)
"""From closest to farthest; every number is in exactly one."""


def band_of(ics: float) -> Band:
    """The band of an ICS.

    Raises:
        ValueError: NaN.
    """
    found = next((band for band in BANDS if band.holds(ics)), None)
    if found is None:
        raise ValueError(f"no band holds {ics}")
    return found


def wilson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a probability (Wilson, 1927): sensible also at 0 and at all of few trials.

    Args:
        hits: successes, 0 to `trials`.
        trials: independent ones; none gives (0, 1).
        confidence: of the two-sided interval, between 0 and 1.

    Raises:
        ValueError: counts that cannot be.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = hits / trials
    middle = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if hits == 0 else (middle - reach) / scale
    return low, 1.0 if hits == trials else (middle + reach) / scale


@dataclass(frozen=True)
class Share:
    """So many right of so many."""

    hits: int
    trials: int

    @property
    def rate(self) -> float:
        """Share of hits; NaN without trials."""
        return self.hits / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the probability behind it."""
        return wilson(self.hits, self.trials)

    def __add__(self, other: Share) -> Share:
        """Both together."""
        return Share(self.hits + other.hits, self.trials + other.trials)

    @staticmethod
    def of(outcomes: Iterable[bool]) -> Share:
        """Counted from single outcomes."""
        found = [bool(outcome) for outcome in outcomes]
        return Share(sum(found), len(found))

    def __str__(self) -> str:
        if not self.trials:
            return "-"
        low, high = self.interval
        return f"{100 * self.rate:.0f} % ({100 * low:.0f}-{100 * high:.0f})"
