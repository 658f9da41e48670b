"""How far a stored number may lie from the number it was rounded from, for every stored type.

Two weights agree within rounding when their difference is at most the sum of what the two stored types round
off. Floating types round relative to the value; block-quantised ones relative to the spread of their block.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 32
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
}
_SMALLEST = {"F16": 2.0**-25, "F8_E4M3": 2.0**-10, "F8_E5M2": 2.0**-17}
_BITS = {"I8": 8, "U8": 8, "TQ1_0": 1.58, "TQ2_0": 1.58, "MXFP4": 3, "NVFP4": 3}


def within_rounding(a: Tensor, b: Tensor, types: tuple[str, str]) -> Tensor:
    """Which values of two equal-shaped float32 tensors agree within the rounding of their stored types.

    Returns:
        Flat boolean tensor.
    """
    first, second = a.flatten(), b.flatten()
    bound = torch.zeros_like(first)
    for kind in types:
        bound += _bound(first, second, kind)
    agrees: Tensor = (first - second).abs() <= bound
    return agrees


def rounding_bound(values: Tensor, kind: str) -> Tensor:
    """How far each value may lie from the number it was rounded from: flat float32, 0 where nothing is known."""
    flat = values.flatten()
    return _bound(flat, flat, kind)


def rounding_square(values: Tensor, kind: str) -> Tensor:
    """Expected square of each value's rounding error, flat: a third of half a step squared, as if spread evenly.

    A floating value's half step follows its exponent; a block's follows the block's largest value.
    """
    if kind in _RELATIVE:
        exponent = torch.frexp(values.flatten())[1]
        half_step = torch.ldexp(torch.ones(exponent.shape), exponent) * (_RELATIVE[kind] / 2)
        return half_step.square() / 3
    return (rounding_bound(values, kind) / _SLACK).square() / 3


def _bound(a: Tensor, b: Tensor, kind: str) -> Tensor:
    largest = torch.maximum(a.abs(), b.abs())
    if kind in _RELATIVE:
        return largest * _RELATIVE[kind] + _SMALLEST.get(kind, 0.0)
    bits = _bits(kind)
    if bits < _FEWEST_BITS:
        return torch.zeros_like(largest)
    return _SLACK * _half_steps(largest, bits)


def _half_steps(largest: Tensor, bits: float) -> Tensor:
    """Half a quantisation step for each value: its block spans at most [-max, max] in 2^bits - 1 steps."""
    n_values = largest.numel()
    padded = torch.nn.functional.pad(largest, (0, -n_values % _BLOCK)).view(-1, _BLOCK)
    steps = padded.amax(dim=1) / (2.0**bits - 1.0)
    spread: Tensor = steps.repeat_interleave(_BLOCK)
    return spread[:n_values]


def _bits(kind: str) -> float:
    """Bits a value of a quantised type keeps: the digit in its name (Q4_1, IQ3_XXS, Q8_0)."""
    if kind in _BITS:
        return _BITS[kind]
    digits = [int(letter) for letter in kind if letter.isdigit()]
    return float(digits[0]) if digits else 8.0
