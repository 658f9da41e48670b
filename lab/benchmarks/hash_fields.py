"""Prime fields in numpy for `hash_code.py`: elements as float64 limbs for BLAS, as unsigned integers at rest.

A limb is so short that no sum of products reaches 2^53: exact in any order of summation, on any processor.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Goldilocks:
    """p = 2^64 - 2^32 + 1 in three limbs: v0 + 2^22 v1 + 2^44 v2, centred."""

    name, prime, generator, bits, limbs, dtype = "Goldilocks, 64 bits", 2**64 - 2**32 + 1, 7, 22, 3, np.uint64

    def split(self, values: Array) -> Array:
        """uint64 (...) below p -> float64 (3, ...), magnitudes at most 2^21, 2^21, 2^19 + 1."""
        p = np.uint64(self.prime)
        rest = np.where(values > p // np.uint64(2), values - p, values).view(np.int64)
        low = ((rest + 2**21) & (2**22 - 1)) - 2**21
        rest = (rest - low) >> 22
        middle = ((rest + 2**21) & (2**22 - 1)) - 2**21
        return np.stack([low, middle, (rest - middle) >> 22]).astype(np.float64)

    def normalise(self, sums: Array, spare: Array) -> None:
        """In place: (3, ...) of any magnitude below 2^52 -> limbs below 2^22, 2^22, 2^20, the same element."""
        s0, s1, s2 = sums
        self._fold(s0, s1, s2, spare)
        for low, high in ((s0, s1), (s1, s2)):
            big = 1.5 * 2.0 ** (52 + 22)
            np.add(low, big, out=spare)
            spare -= big
            low -= spare
            spare *= 2.0**-22
            high += spare
        self._fold(s0, s1, s2, spare)

    def _fold(self, s0: Array, s1: Array, s2: Array, spare: Array) -> None:
        """What of s2 lies above 2^64 comes back as 2^32 - 1."""
        big = 1.5 * 2.0 ** (52 + 20)
        np.add(s2, big, out=spare)
        spare -= big
        s2 -= spare
        spare *= 2.0**-20
        s0 -= spare
        spare *= 2.0**10
        s1 += spare

    def canonical(self, sums: Array, spare: Array) -> Array:
        """Float sums (3, ...) -> the element in [0, p), uint64."""
        self.normalise(sums, spare)
        s0, s1, s2 = sums
        s1 *= 2.0**22
        s0 += s1
        low = s0.astype(np.int64)
        low += 1 << 47  # now positive; taken back from the top limb
        top = s2.astype(np.int64)
        top -= 8
        high = top >> 20
        low += (high << 32) - high
        low_ = low.view(np.uint64)
        value: Array = top.view(np.uint64)
        value <<= np.uint64(44)
        value += low_
        value += np.where(value < low_, np.uint64(2**32 - 1), np.uint64(0))
        np.subtract(value, np.uint64(self.prime), out=value, where=value >= np.uint64(self.prime))
        return value


class BabyBear:
    """p = 15 * 2^27 + 1 in two limbs of 16 bits: what each of several small primes would cost."""

    name, prime, generator, bits, limbs, dtype = "BabyBear, 31 bits", 15 * 2**27 + 1, 31, 16, 2, np.uint32

    def split(self, values: Array) -> Array:
        """Elements (...) -> float64 (2, ...), at most 2^15 each."""
        rest = values.astype(np.int64)
        rest = np.where(rest > self.prime // 2, rest - self.prime, rest)
        low = ((rest + 2**15) & (2**16 - 1)) - 2**15
        return np.stack([low, (rest - low) >> 16]).astype(np.float64)

    def _reduce(self, values: Array, spare: Array) -> None:
        np.multiply(values, 1 / self.prime, out=spare)
        np.rint(spare, out=spare)
        spare *= self.prime
        values -= spare

    def _whole(self, sums: Array, spare: Array) -> Array:
        s0: Array = sums[0]
        s1: Array = sums[1]
        self._reduce(s1, spare)
        s1 *= 2.0**16
        s0 += s1
        self._reduce(s0, spare)
        return s0

    def normalise(self, sums: Array, spare: Array) -> None:
        """In place: sums below 2^46 -> limbs of at most 2^15."""
        whole, s1 = self._whole(sums, spare), sums[1]
        big = 1.5 * 2.0 ** (52 + 16)
        np.add(whole, big, out=s1)
        s1 -= big
        whole -= s1
        s1 *= 2.0**-16

    def canonical(self, sums: Array, spare: Array) -> Array:
        """Float sums (2, ...) -> the element in [0, p), uint32."""
        whole = self._whole(sums, spare)
        np.add(whole, self.prime, out=whole, where=whole < 0)
        return whole.astype(np.uint32)


Field = Goldilocks | BabyBear


def multiply(a: Array, b: Array) -> Array:
    """Elementwise products in the Goldilocks field by 32-bit halves: what everything but transforms must use."""
    mask, shift, wrap = np.uint64(2**32 - 1), np.uint64(32), np.uint64(2**32 - 1)
    a0, a1, b0, b1 = a & mask, a >> shift, b & mask, b >> shift
    low = a0 * b0
    middle = a0 * b1 + (low >> shift)
    cross = a1 * b0 + (middle & mask)
    low = (cross << shift) | (low & mask)
    high = a1 * b1 + (middle >> shift) + (cross >> shift)
    top, rest = high >> shift, (high & mask) * wrap
    value = low - top
    value -= np.where(low < top, wrap, np.uint64(0))
    value += rest
    value += np.where(value < rest, wrap, np.uint64(0))
    p = np.uint64(Goldilocks.prime)
    reduced: Array = np.where(value >= p, value - p, value)
    return reduced


def spread_limbs(field: Field, values: Array) -> Array:
    """The limbs of 2^(bits b) v for every limb b: (...) -> float64 (out, in, ...)."""
    scaled = [(values.astype(object) << (field.bits * b)) % field.prime for b in range(field.limbs)]
    return np.stack([field.split(v.astype(np.uint64)) for v in scaled], axis=1)


def product(field: Field, left: Array, right: Array) -> Array:
    """left (a, R) times right (R, b), mod p. `right` may be int16, which is a limb by itself."""
    is_short = right.dtype == np.int16
    total = np.zeros((left.shape[0], right.shape[1]), object)
    step = 256
    for start in range(0, left.shape[1], step):
        A, B = left[:, start : start + step], right[start : start + step]
        if is_short:
            matrix, inputs = field.split(A), B.astype(np.float64)
        else:
            spread = spread_limbs(field, A)
            matrix = spread.transpose(0, 2, 1, 3).reshape(field.limbs, A.shape[0], -1)
            inputs = field.split(B).reshape(-1, B.shape[1])
        sums = np.matmul(matrix, inputs)
        total += field.canonical(sums, np.empty_like(sums[0])).astype(object)
    return (total % field.prime).astype(np.uint64)


def random_elements(field: Field, shape: tuple[int, ...], key: bytes) -> Array:
    """Uniform elements from SHAKE-128 by rejection; `key` is secret and fresh in earnest, fixed in a test."""
    size, width = math.prod(shape), np.dtype(field.dtype).itemsize
    mask = np.array((1 << field.prime.bit_length()) - 1, field.dtype)
    drawn: Array = np.frombuffer(hashlib.shake_128(key).digest(width * (size + size // 8 + 64)), field.dtype)
    drawn = drawn & mask
    return drawn[drawn < field.prime][:size].reshape(shape)
