"""The public tables of the integer model, by integer arithmetic alone: proof-inference-v1, section 3.

Each entry is the integer nearest to a real number. It is computed with 256 fractional bits and an error below 2^-200,
so every platform gets the same one; an entry that close to a tie would be refused (none is).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from huref.proof.inference.precision import Precision, Shape

_BITS = 256
_ONE = 1 << _BITS
_DOUBT = 1 << (_BITS - 150)


@lru_cache(maxsize=4)
def exp_table(precision: Precision) -> np.ndarray:
    """`2^exp_scale exp(-z / 2^score_scale)` for z = 0, 1, ...: (2^score_bits,) int64."""
    exps = _exponentials(precision.score_scale, 1 << precision.score_bits)
    return _nearest_all([value << precision.exp_scale for value in exps])


@lru_cache(maxsize=4)
def silu_table(precision: Precision) -> np.ndarray:
    """`2^silu_scale x / (1 + exp(-x))` for `x = (i - 2^(gate_bits - 1)) / 2^gate_scale`: (2^gate_bits,) int64."""
    half = 1 << (precision.gate_bits - 1)
    exps = _exponentials(precision.gate_scale, half + 1)  # exp(-|x|)
    up = precision.silu_scale - precision.gate_scale
    values = []
    for x in range(-half, half):
        share = _ONE * _ONE // (_ONE + exps[abs(x)])  # 1 / (1 + exp(-|x|))
        share = _ONE - share if x < 0 else share
        values.append(x * share << up if up >= 0 else x * share >> -up)
    return _nearest_all(values)


def rope_tables(precision: Precision, shape: Shape, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of `position theta^(-2 j / e)` times `2^rope_scale`: (n, e / 2) int64 each."""
    half = shape.head_dim // 2
    angles = [_frequency(shape.theta, j, half) for j in range(half)]
    turns = [[_turn(position * angle) for angle in angles] for position in range(n_tokens)]
    scaled = [[tuple(_nearest(part << precision.rope_scale) for part in turn) for turn in row] for row in turns]
    both = np.array(scaled, dtype=np.int64).reshape(n_tokens, half, 2)
    return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])


def _exponentials(scale: int, count: int) -> list[int]:
    """`exp(-k / 2^scale)` for k below `count`, with `_BITS` fractional bits."""
    step = _exp_of_negative(_ONE >> scale)
    values = [_ONE]
    for _ in range(count - 1):
        values.append(values[-1] * step >> _BITS)
    return values


def _exp_of_negative(x: int) -> int:
    """`exp(-x)` for 0 <= x <= 1: its series."""
    total, term, k = 0, _ONE, 0
    while term:
        total += term
        k += 1
        term = -(abs(term) * x >> _BITS) // k if term > 0 else (abs(term) * x >> _BITS) // k
    return total


def _frequency(theta: str, j: int, half: int) -> int:
    """`theta^(-j / half)` with `_BITS` fractional bits, by way of decimal logarithms of 100 digits."""
    digits = Context(prec=100, rounding=ROUND_HALF_EVEN)
    base = Fraction(theta)
    exact = digits.divide(Decimal(base.numerator), Decimal(base.denominator))
    power = digits.exp(digits.divide(digits.multiply(digits.ln(exact), Decimal(-j)), Decimal(half)))
    return int(digits.multiply(power, Decimal(_ONE)).to_integral_value(ROUND_HALF_EVEN))


def _turn(angle: int) -> tuple[int, int]:
    """Cosine and sine of a nonnegative angle."""
    angle %= _two_pi()
    cosine, sine, term, k = 0, 0, _ONE, 0
    while term:
        sign = -1 if k % 4 >= 2 else 1
        if k % 2:
            sine += sign * term
        else:
            cosine += sign * term
        k += 1
        term = (term * angle >> _BITS) // k
    return cosine, sine


@lru_cache(maxsize=1)
def _two_pi() -> int:
    """By Machin: pi = 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_of_inverse(n: int) -> int:
        total, term, k = 0, (_ONE << 32) // n, 1
        while term:
            total += -(term // k) if k % 4 == 3 else term // k
            term //= n * n
            k += 2
        return total

    return (32 * arctan_of_inverse(5) - 8 * arctan_of_inverse(239)) >> 32


def _nearest(value: int) -> int:
    rest = value % _ONE
    if abs(rest - _ONE // 2) < _DOUBT:
        raise ArithmeticError("a table entry too close to a tie")
    return (value + _ONE // 2) >> _BITS


def _nearest_all(values: list[int]) -> np.ndarray:
    return np.array([_nearest(value) for value in values], dtype=np.int64)
