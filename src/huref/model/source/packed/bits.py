"""Whole numbers of a few bits out of bytes and words."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from huref.numerics.arrays import Array, Floats

Codes = NDArray[np.uint8]


def unpack_bits(words: Array, bits: int) -> Codes:
    """(..., n) bytes or little-endian words to (..., n x 8 x itemsize / bits) codes, the lowest bits first.

    Values may straddle bytes and words, as 3, 5 and 6 bits do: a row is one stream of bits.

    Args:
        words: contiguous; the bits of a row are a multiple of `bits`.
        bits: 1 to 8.
    """
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return octets
    if 8 % bits == 0:
        return _every_code(bits).take(octets).view(np.uint8)
    return _straddling(octets, bits)


def look_up(table: Floats, octets: Array, *, is_high_first: bool = False) -> Floats:
    """(..., n) bytes to (..., 2 n) numbers of a table of 16: two numbers a byte, that of the low half first."""
    every = np.arange(256)
    halves = (every >> 4, every & 15) if is_high_first else (every & 15, every >> 4)
    pairs = np.stack([table[half] for half in halves], axis=1).astype(np.float32)
    numbers: Floats = pairs.view(np.complex64)[:, 0].take(octets).view(np.float32)  # one step for both
    return numbers


def bits_of(words: Array, shifts: Array, bits: int) -> Codes:
    """The code at each word's own shift: words (..., n), shifts (n,)."""
    taken = np.right_shift(words.view(np.uint32), shifts.astype(np.uint32))
    codes: Codes = (taken & np.uint32((1 << bits) - 1)).astype(np.uint8)
    return codes


@functools.cache
def _every_code(bits: int) -> Array:
    """(256,) the codes in every byte, as one word each: to look up a word costs a tenth of as many bytes."""
    every = np.arange(256, dtype=np.uint8)[:, None]
    table = (every >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8((1 << bits) - 1)
    words: Array = np.ascontiguousarray(table).view(f"u{8 // bits}")[:, 0]
    return words


def _straddling(octets: Codes, bits: int) -> Codes:
    """Eight values are `bits` bytes: gathered into one word of 64 bits, then shifted."""
    count = octets.shape[-1] * 8 // bits
    fill = -octets.shape[-1] % bits
    if fill:  # the last eight values are not all there
        octets = np.concatenate([octets, np.zeros((*octets.shape[:-1], fill), np.uint8)], axis=-1)
    groups = octets.reshape(*octets.shape[:-1], -1, bits)
    wide = np.zeros((*groups.shape[:-1], 8), np.uint8)
    wide[..., :bits] = groups
    shifted = wide.view("<u8") >> np.arange(0, 8 * bits, bits, dtype=np.uint64)
    codes = (shifted & np.uint64((1 << bits) - 1)).astype(np.uint8)
    return codes.reshape(*octets.shape[:-1], -1)[..., :count]
