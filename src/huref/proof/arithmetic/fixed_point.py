"""From real numbers to the integers that are committed: proof-v1, section 4, 3."""

from __future__ import annotations

import math

import numpy as np


def quantised(matrix: np.ndarray, bits: int) -> tuple[np.ndarray, int]:
    """`round(W 2^e)` as int16, half to even, with the largest e for which it fits in `bits`; and e.

    Args:
        matrix: finite floats.
    """
    limit = 2 ** (bits - 1) - 1
    largest = float(np.abs(matrix).max(initial=0.0))
    if largest == 0:
        return np.zeros(matrix.shape, np.int16), 0
    exponent = math.floor(math.log2(limit / largest)) + 1
    while round(math.ldexp(largest, exponent)) > limit:
        exponent -= 1
    return np.rint(np.ldexp(matrix.astype(np.float64), exponent)).astype(np.int16), exponent
