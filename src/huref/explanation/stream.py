"""The two residual streams side by side: rows of either model carried into one, the narrower or A's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from huref.explanation.transform import IDENTITY, ROTATION, SIGNED, ResidualTransform


@dataclass(frozen=True)
class Stream:
    """Carries rows of A and of B into the stream in which they are compared.

    That is A's, unless B's is narrower: then A's rows are carried into B's.

    Attributes:
        transform: the map.
    """

    transform: ResidualTransform

    def a(self, rows: Tensor) -> Tensor:
        """Rows (..., d_a) of A, in the common stream."""
        return self._forward(rows) if self._is_narrowed else rows

    def b(self, rows: Tensor) -> Tensor:
        """Rows (..., d_b) of B, in the common stream."""
        return rows if self._is_narrowed else self._backward(rows)

    def a_biased(self, rows: Tensor) -> Tensor:
        """Rows (..., d_a + 1) of A whose last column is no axis."""
        return torch.cat([self.a(rows[..., :-1]), rows[..., -1:]], dim=-1)

    def b_biased(self, rows: Tensor) -> Tensor:
        """Rows (..., d_b + 1) of B whose last column is no axis."""
        return torch.cat([self.b(rows[..., :-1]), rows[..., -1:]], dim=-1)

    @property
    def _is_narrowed(self) -> bool:
        return self.transform.d_b < self.transform.d_a

    def _forward(self, rows: Tensor) -> Tensor:
        if self.transform.rotation is not None:
            return rows @ torch.from_numpy(self.transform.rotation)
        axis, sign = self._signed()
        return rows[..., axis.clamp_min(0)] * sign

    def _backward(self, rows: Tensor) -> Tensor:
        if self.transform.rotation is not None:
            return rows @ torch.from_numpy(self.transform.rotation).T
        if self.transform.axis is None:
            return rows
        axis, sign = self._signed()
        is_known = axis >= 0
        out = rows.new_zeros(*rows.shape[:-1], self.transform.d_a)
        out[..., axis[is_known]] = (rows * sign)[..., is_known]
        return out

    def _signed(self) -> tuple[Tensor, Tensor]:
        if self.transform.axis is None or self.transform.sign is None:
            raise AssertionError("a map that is neither a rotation nor a signed permutation has no axes")
        return torch.from_numpy(self.transform.axis).long(), torch.from_numpy(self.transform.sign).float()


def candidates(R: Tensor, is_layer_norm: bool) -> list[ResidualTransform]:
    """What a map may be, the simplest first: nothing, an order with signs, any rotation.

    Args:
        R: (d_a, d_b) orthonormal, float64.
        is_layer_norm: both models subtract the mean, so that R says nothing of the all-ones direction.
    """
    d_a, d_b = R.shape
    found = [ResidualTransform(IDENTITY, d_a, d_b)] if d_a == d_b else []
    variants = [R]
    if is_layer_norm and d_a == d_b:
        ones = torch.ones(d_a, 1, dtype=R.dtype) / d_a**0.5
        variants.append(R - 2 * float((ones.T @ R @ ones).sum()) * ones @ ones.T)
    for variant in variants:
        signed = _rounded(variant)
        if signed is not None:
            found.append(signed)
            break
    return [*found, ResidualTransform(ROTATION, d_a, d_b, rotation=R.float().contiguous().numpy())]


def _rounded(R: Tensor) -> ResidualTransform | None:
    """The signed permutation that R is nearest to, where every entry it would keep is the larger part of its axis."""
    d_a, d_b = R.shape
    side = 0 if d_b <= d_a else 1
    size, place = R.abs().max(side)
    if float(size.min()) < 0.75 or len(set(place.tolist())) < len(place):  # above sqrt(1/2) it is the only one
        return None
    axis, sign = np.full(d_b, -1, "<i4"), np.zeros(d_b, "i1")
    columns = np.arange(d_b) if side == 0 else place.numpy()
    rows = place.numpy() if side == 0 else np.arange(d_a)
    axis[columns], sign[columns] = rows, R.numpy()[rows, columns] < 0
    sign = np.where(axis < 0, 0, 1 - 2 * sign).astype("i1")
    if d_a == d_b and (axis == np.arange(d_b)).all() and (sign > 0).all():
        return None
    return ResidualTransform("permutation" if (sign >= 0).all() else SIGNED, d_a, d_b, axis=axis, sign=sign)
