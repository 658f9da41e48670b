"""Block types of GGUF that the `gguf` package knows by size and cannot dequantise.

Layouts: `ggml-common.h` of the ggml project. Q8_1 is left out: no file has it, and its size is told in two ways.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from huref.numerics.arrays import Array, Floats


def q8_k(blocks: Array) -> Floats:
    """(n, 292) bytes to (n, 256): a float32 scale, 256 int8 numbers, and sums of 16 that are not needed."""
    scales = np.ascontiguousarray(blocks[:, :4]).view("<f4")
    numbers = np.ascontiguousarray(blocks[:, 4:260]).view(np.int8)
    values: Floats = numbers * scales
    return values


def q1_0(blocks: Array) -> Floats:
    """(n, 18) bytes to (n, 128): a float16 scale, and a bit for its sign, the lowest first."""
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    signs = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32)
    signs *= 2
    signs -= 1
    values: Floats = signs * scales
    return values


OWN: dict[str, Callable[[Array], Floats]] = {"Q8_K": q8_k, "Q1_0": q1_0}
"""By the package's name of the type."""
