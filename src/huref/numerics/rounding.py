"""How far a stored number may lie from the number it was rounded from, for every stored type.

Two weights agree within rounding when their difference is at most the sum of what the two stored types round
off. Floating types round relative to the value; block-quantised ones relative to the spread of their block, and the
four-bit floats relative to both: E2M1 has the numbers 0, 0.5, 1, 1.5, 2, 3, 4, 6, times the scale of the block (OCP
Microscaling Formats 1.0; a power of two in MXFP4, an E4M3 number in NVFP4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from huref.numerics.arrays import Floats

_BLOCK = 32
_CHUNK = 1 << 14
"""Values that are compared at a time, whole blocks: few enough to stay in the cache."""

_SLACK = 1.1
"""Scales of quantised blocks are rounded themselves (to float16, or to 4 to 8 bits)."""

_FEWEST_BITS = 2
"""Below, half a step is as large as the weights: rounding would explain any two models, so it explains none."""

_RELATIVE = {
    "F64": 2.0**-53,
    "F32": 2.0**-24,
    "F16": 2.0**-11,
    "BF16": 2.0**-8,
    "F8_E4M3": 2.0**-4,
    "F8_E5M2": 2.0**-3,
    "FP8_E4M3": 2.0**-4,
    "FP8_E5M2": 2.0**-3,
}
"""`FP8_` has a scale beside it, and then no smallest number of its own."""

_SMALLEST = {"F16": 2.0**-25, "F8_E4M3": 2.0**-10, "F8_E5M2": 2.0**-17}
_BITS = {"I8": 8, "U8": 8, "TQ1_0": 1.58, "TQ2_0": 1.58}
_LOPSIDED = ("Q4_0", "Q5_0")
_FOUR_BIT_FLOATS = {"MXFP4": 32, "NVFP4": 16}
"""Values of a block."""


def within_rounding(
    a: Floats, b: Floats, types: tuple[str, str], bounds: tuple[Floats | None, Floats | None] = (None, None)
) -> NDArray[np.bool_]:
    """Which values of two equal-shaped float32 arrays agree within the rounding of their stored types.

    Args:
        bounds: how far each value may lie from what it was rounded from, where the format says more than its type.

    Returns:
        Flat boolean array.
    """
    first, second = a.reshape(-1), b.reshape(-1)
    told = [None if side is None else side.reshape(-1) for side in bounds]
    agrees = np.empty(first.shape, np.bool_)
    for start in range(0, len(first), _CHUNK):
        here = slice(start, start + _CHUNK)
        x, y = first[here], second[here]
        largest = np.maximum(np.abs(x), np.abs(y))
        bound = np.zeros_like(x)
        for kind, side in zip(types, told, strict=True):
            bound += _bound(largest, kind) if side is None else side[here]
        np.less_equal(np.abs(x - y), bound, out=agrees[here])
    return agrees


def rounding_bound(values: Floats, kind: str) -> Floats:
    """How far each value may lie from the number it was rounded from: flat float32, 0 where nothing is known."""
    return _bound(np.abs(values.reshape(-1)), kind)


def rounding_square(values: Floats, kind: str) -> Floats:
    """Expected square of each value's rounding error, flat: a third of half a step squared, as if spread evenly.

    A floating value's half step follows its exponent; a block's follows the block's largest value.
    """
    if kind in _RELATIVE:
        _, exponent = np.frexp(values.reshape(-1))
        half_step: Floats = np.ldexp(np.float32(_RELATIVE[kind] / 2), exponent)
    else:
        half_step = rounding_bound(values, kind)
        half_step /= _SLACK
    half_step *= half_step
    half_step /= 3
    return half_step


def _bound(sizes: Floats, kind: str) -> Floats:
    """How far values of these sizes may lie from what they were rounded from; `sizes` (n,) begins with a block."""
    if kind in _RELATIVE:
        bound: Floats = sizes * np.float32(_RELATIVE[kind])
        bound += np.float32(_SMALLEST.get(kind, 0.0))
        return bound
    if kind in _FOUR_BIT_FLOATS:
        return _half_gaps(sizes, kind)
    bits = _bits(kind)
    if bits < _FEWEST_BITS:
        return np.zeros_like(sizes)
    largest = _largest(sizes, _BLOCK)
    if kind in _LOPSIDED:
        return _half_steps_to_one_side(sizes, largest, bits)
    slack = max(
        _SLACK, 1.01 + _RELATIVE["F16"] * 2.0**bits
    )  # a scale in float16 moves 127 steps by an eighth of half a one
    half_step: Floats = largest * np.float32(slack / (2.0**bits - 1.0))  # [-max, max] in 2^bits - 1 steps, at most
    half_step += np.float32(_SMALLEST["F16"] * 2.0 ** (bits - 1))  # of the scale
    return half_step


def _half_steps_to_one_side(sizes: Floats, largest: Floats, bits: float) -> Floats:
    """Where the largest value takes the one number that a sign has more than the other, -2^(bits - 1).

    A value as large of the other sign is a whole step off.
    """
    levels = 2.0 ** (bits - 1)
    step = largest * np.float32(_SLACK / levels)
    step += np.float32(_SMALLEST["F16"] * levels)
    step *= np.where(sizes > largest * np.float32(1 - 0.5 / levels), np.float32(1), np.float32(0.5))
    return step


def _half_gaps(sizes: Floats, kind: str) -> Floats:
    """Half the gap between the numbers of E2M1 around each value, in units of its block's scale.

    MXFP4's scale is the power of two that brings the largest value of the block into [4, 8): what lies above 6 is cut
    off there. NVFP4's brings it to 6, within the rounding of E4M3.
    """
    largest = _largest(sizes, _FOUR_BIT_FLOATS[kind])
    if kind == "MXFP4":
        _, exponent = np.frexp(largest)
        scale = np.where(largest > 0, np.ldexp(np.float32(1), exponent - 3), 0)
    else:
        scale = largest * np.float32((1 + _RELATIVE["F8_E4M3"]) / 6)
    gaps: Floats = np.select([sizes <= 1.75 * scale, sizes <= 3.5 * scale, sizes <= 6 * scale], [0.25, 0.5, 1.0], 2.0)
    return np.asarray(gaps * scale * _SLACK, np.float32)


def _largest(sizes: Floats, block: int) -> Floats:
    """For each value the largest of its block."""
    starts = np.arange(0, len(sizes), block)
    largest: Floats = np.maximum.reduceat(sizes, starts) if len(sizes) else sizes
    spread: Floats = np.repeat(largest, block)[: len(sizes)]
    return spread


def _bits(kind: str) -> float:
    """Bits a value of a quantised type keeps: the digit in its name (Q4_1, IQ3_XXS, Q8_0)."""
    if kind in _BITS:
        return _BITS[kind]
    digits = [int(letter) for letter in kind if letter.isdigit()]
    return float(digits[0]) if digits else 8.0
