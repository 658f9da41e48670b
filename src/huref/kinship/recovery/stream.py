"""The two residual streams side by side: rows of either model carried into one, the narrower or A's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from huref.kinship.recovery.transform import IDENTITY, ROTATION, SIGNED, ResidualTransform
from huref.numerics.arrays import Array, Floats


@dataclass(frozen=True)
class Stream:
    """Carries rows of A and of B into the stream in which they are compared.

    That is A's, unless B's is narrower: then A's rows are carried into B's.

    Attributes:
        transform: the map.
    """

    transform: ResidualTransform

    def a(self, rows: Floats) -> Floats:
        """Rows (..., d_a) of A, in the common stream."""
        return self._forward(rows) if self._is_narrowed else rows

    def b(self, rows: Floats) -> Floats:
        """Rows (..., d_b) of B, in the common stream."""
        return rows if self._is_narrowed else self._backward(rows)

    def a_biased(self, rows: Floats) -> Floats:
        """Rows (..., d_a + 1) of A whose last column is no axis."""
        return _but_for_the_last(self._forward, rows) if self._is_narrowed else rows

    def b_biased(self, rows: Floats) -> Floats:
        """Rows (..., d_b + 1) of B whose last column is no axis."""
        return rows if self._is_narrowed else _but_for_the_last(self._backward, rows)

    @property
    def _is_narrowed(self) -> bool:
        return self.transform.d_b < self.transform.d_a

    def _forward(self, rows: Floats) -> Floats:
        if self.transform.rotation is not None:
            return _turned(rows, self.transform.rotation)
        axis, sign = self._signed()
        return _gathered(rows, axis, sign)

    def _backward(self, rows: Floats) -> Floats:
        if self.transform.rotation is not None:
            return _turned(rows, self.transform.rotation.T)
        if self.transform.axis is None:
            return rows
        axis, sign = self._signed()
        back, sign_back = np.zeros(self.transform.d_a, np.int64), np.zeros(self.transform.d_a, np.float32)
        back[axis[axis >= 0]] = np.flatnonzero(axis >= 0)
        sign_back[axis[axis >= 0]] = sign[axis >= 0]
        return _gathered(rows, back, sign_back)

    def _signed(self) -> tuple[np.ndarray, Floats]:
        if self.transform.axis is None or self.transform.sign is None:
            raise AssertionError("a map that is neither a rotation nor a signed permutation has no axes")
        return self.transform.axis, self.transform.sign.astype(np.float32)


def _but_for_the_last(move: Callable[[Floats], Floats], rows: Floats) -> Floats:
    """Rows with a last column that is no axis and stays."""
    return np.concatenate([move(rows[..., :-1]), rows[..., -1:]], axis=-1)


def _turned(rows: Floats, R: Floats) -> Floats:
    """`rows @ R` as one product of two matrices."""
    turned: Floats = rows.reshape(-1, rows.shape[-1]) @ R
    return turned.reshape(*rows.shape[:-1], R.shape[1])


def _gathered(rows: Floats, axis: np.ndarray, sign: Floats) -> Floats:
    """The axes of these numbers, with these signs; 0 for the sign where there is none."""
    found: Floats = np.take(rows, axis, axis=-1, mode="clip")
    found *= sign
    return found


def candidates(R: Array, is_layer_norm: bool) -> list[ResidualTransform]:
    """What a map may be, the simplest first: nothing, an order with signs, any rotation.

    Args:
        R: (d_a, d_b) orthonormal, float64.
        is_layer_norm: both models subtract the mean, so that R says nothing of the all-ones direction.
    """
    d_a, d_b = R.shape
    found = [ResidualTransform(IDENTITY, d_a, d_b)] if d_a == d_b else []
    variants = [R]
    if is_layer_norm and d_a == d_b:
        variants.append(R - 2 * R.sum() / d_a**2)  # the all-ones direction turned round
    for variant in variants:
        signed = _rounded(variant)
        if signed is not None:
            found.append(signed)
            break
    return [*found, ResidualTransform(ROTATION, d_a, d_b, rotation=np.ascontiguousarray(R, np.float32))]


def _rounded(R: Array) -> ResidualTransform | None:
    """The signed permutation that R is nearest to, where every entry it would keep is the larger part of its axis."""
    d_a, d_b = R.shape
    side = 0 if d_b <= d_a else 1
    place = np.abs(R).argmax(side)
    columns = np.arange(d_b) if side == 0 else place
    rows = place if side == 0 else np.arange(d_a)
    if np.abs(R[rows, columns]).min() < 0.75 or len(np.unique(place)) < len(
        place
    ):  # above sqrt(1/2) it is the only one
        return None
    axis, sign = np.full(d_b, -1, "<i4"), np.zeros(d_b, "i1")
    axis[columns], sign[columns] = rows, R[rows, columns] < 0
    sign = np.where(axis < 0, 0, 1 - 2 * sign).astype("i1")
    if d_a == d_b and (axis == np.arange(d_b)).all() and (sign > 0).all():
        return None
    return ResidualTransform("permutation" if (sign >= 0).all() else SIGNED, d_a, d_b, axis=axis, sign=sign)
