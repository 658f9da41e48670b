"""The numbers that four- and eight-bit formats have, and the gaps between them.

E2M1, E4M3, E5M2 and E8M0: OCP Microscaling Formats 1.0.
"""

from __future__ import annotations

import numpy as np

from huref.model.source.packed.bits import look_up
from huref.model.source.packed.scaled import HalfGaps
from huref.numerics.arrays import Array, Floats

_HALF = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([_HALF, -_HALF])
"""By code."""

_E8M0_BIAS = 127
_EIGHT_BITS = {"F8_E4M3": (-5, -10), "F8_E5M2": (-4, -17)}
"""Half a unit in the last place, under frexp's exponent, and of the smallest numbers, as powers of two."""

SCALED_KINDS = {"F8_E4M3": "FP8_E4M3", "F8_E5M2": "FP8_E5M2"}
"""What eight-bit floats are called once they have a scale."""

_BEYOND = 2.0
"""What MXFP4 cuts off above 6: its scale is the power of two that brings the largest value of a block below 8."""


def powers_of_two(exponents: Array) -> Floats:
    """E8M0 scales, stored as bytes."""
    powers: Floats = np.ldexp(np.float32(1), exponents.astype(np.int32) - _E8M0_BIAS)
    return powers


def table_gaps(table: Floats, beyond: float = 0.0) -> Floats:
    """Half the distance to the farther neighbour, for each number of a table.

    Args:
        beyond: how far a number beyond the table's ends may have been.
    """
    numbers, place = np.unique(table, return_inverse=True)
    steps = np.diff(numbers) / 2
    gaps: Floats = np.maximum(np.append(beyond, steps), np.append(steps, beyond)).astype(np.float32)[place]
    return gaps


MXFP4_GAPS = table_gaps(E2M1, _BEYOND)
NVFP4_GAPS = table_gaps(E2M1, 1.0)


def looked_up(table: Floats, gaps: Floats, octets: Array, shape: tuple[int, ...]) -> tuple[Floats, HalfGaps]:
    """Levels of bytes with two codes each, and their half gaps, which are looked up only if they are asked for."""
    return look_up(table, octets).reshape(shape), lambda _: look_up(gaps, octets).reshape(shape)


def float_gaps(dtype: str) -> HalfGaps:
    """Half a unit in the last place of eight-bit floats."""
    step, smallest = _EIGHT_BITS[dtype]

    def half_gaps(levels: Floats) -> Floats:
        _, exponent = np.frexp(levels)
        gaps: Floats = np.maximum(np.ldexp(np.float32(1), exponent + step), np.float32(2.0**smallest))
        return gaps

    return half_gaps
