"""Equations between Pedersen commitments, checked together in one sum of multiples. proof-v1, end of section 8."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from py_arkworks_bls12381 import G1Point

from huref.proof.arithmetic.curve import blinding_generator, generators, multiply_sum
from huref.proof.arithmetic.field import ORDER

_WEIGHT_BITS = 128


@dataclass(frozen=True)
class Combination:
    """A public linear combination of listed points: a commitment that anyone can form.

    Attributes:
        pieces: (start, coefficients) each: coefficients (n,) of the points `start, ..., start + n - 1`.
    """

    pieces: tuple[tuple[int, np.ndarray], ...]

    @classmethod
    def of_point(cls, index: int) -> Combination:
        """One point itself."""
        return cls(((index, np.array([1], dtype=object)),))

    def __add__(self, other: Combination) -> Combination:
        return Combination(self.pieces + other.pieces)

    def scaled(self, factor: int) -> Combination:
        """Every coefficient times a field element."""
        return Combination(tuple((start, values * factor % ORDER) for start, values in self.pieces))


class PointEquations:
    """A list of points and equations `Com(vector; blinding) = combination` between them.

    Each equation enters one sum with a fresh random weight of 128 bits; the sum is the identity for false equations
    with probability at most 2^-128.
    """

    def __init__(self) -> None:
        self._points: list[G1Point] = []
        self._coefficients: list[int] = []
        self._generators: list[int] = []
        self._blinding = 0

    def extend(self, points: Sequence[G1Point]) -> int:
        """Append points; returns the index of the first."""
        start = len(self._points)
        self._points.extend(points)
        self._coefficients.extend([0] * len(points))
        return start

    def require(self, vector: np.ndarray, blinding: int, combination: Combination) -> None:
        """Ask for `Com(vector; blinding) = combination`."""
        weight = 1 + secrets.randbelow((1 << _WEIGHT_BITS) - 1)
        self.add_weighted(vector * weight % ORDER, blinding * weight % ORDER, combination.scaled(weight))

    def add_weighted(self, vector: np.ndarray, blinding: int, combination: Combination) -> None:
        """Add an equation that already carries its random weight, or a sum of several."""
        self._generators.extend([0] * (vector.size - len(self._generators)))
        for index, value in enumerate(vector.tolist()):
            self._generators[index] = (self._generators[index] + value) % ORDER
        self._blinding = (self._blinding + blinding) % ORDER
        for start, values in combination.pieces:
            for index, value in enumerate(values.tolist(), start):
                self._coefficients[index] = (self._coefficients[index] - value) % ORDER

    def hold(self) -> bool:
        """Whether all equations hold."""
        points = [*self._points, *generators(len(self._generators)), blinding_generator()]
        total = multiply_sum(points, [*self._coefficients, *self._generators, self._blinding])
        return bool(total == G1Point.identity())
