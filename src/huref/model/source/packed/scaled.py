"""Numbers of a quantised format: levels times scales, and how far each may lie from what it was rounded from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from huref.numerics.arrays import Floats

_SLACK = 1.02
"""Of half a step: scales were divided by in another precision than they are multiplied by in."""

_ROUNDING = {"F16": 2.0**-11, "BF16": 2.0**-8}
"""Relative error of a scale that was stored in this type after the levels were chosen."""


HalfGaps = Callable[[Floats], Floats]
"""Of levels."""


@dataclass(frozen=True)
class Scaled:
    """Some rows of a tensor as its format has them.

    Attributes:
        levels: (n, ...) in units of the scale, zero point taken off.
        scales: broadcasts to `levels`.
        half_gaps: half the distance to a level's farther neighbour: a number, or a function of levels.
        offsets: what is added after the scale, broadcasting; None for nothing.
        rounding: relative error of the scales themselves.
    """

    levels: Floats
    scales: Floats
    half_gaps: float | HalfGaps = 0.5
    offsets: Floats | None = None
    rounding: float = 0.0

    def values(self) -> Floats:
        """(n, ...) float32; overwrites `levels`."""
        out = np.multiply(self.levels, self.scales, out=self.levels)
        if self.offsets is not None:
            out += self.offsets
        return out

    def bounds(self) -> Floats:
        """(n, ...) float32: how far each value may lie from the number it was rounded from."""
        gaps = self.half_gaps if isinstance(self.half_gaps, float) else self.half_gaps(self.levels)
        sizes = np.abs(self.scales)
        bound: Floats = np.abs(self.levels)
        bound *= np.float32(self.rounding)
        bound += gaps * np.float32(_SLACK)
        bound *= sizes
        if self.offsets is not None:
            bound += np.abs(self.offsets) * np.float32(self.rounding)
        return bound


def scale_rounding(dtype: str) -> float:
    """Relative error of scales of a stored type; 0 where the levels are chosen after the scale is rounded."""
    return _ROUNDING.get(dtype, 0.0)
