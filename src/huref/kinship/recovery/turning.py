"""The residual stream turned back into A's, with the gains on its way, and what norms hide set as A has it.

A map of the stream is applied to all that reads or writes it. Where axes stay axes, norms keep their gains, in A's
order; a rotation goes past the gains, which are multiplied into what reads behind them and divided out as A's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from huref.kinship.alignment.residual_map import polar
from huref.kinship.recovery.transform import ROTATION, ResidualTransform
from huref.numerics.arrays import Array

FOLDS = {"attention_norm": ("q", "k", "v"), "feed_forward_norm": ("gate", "up", "router", "shared_router")}
"""Each norm in front of a branch, and what reads behind it."""

WRITERS = ("o", "down")
BEHIND = ("post_attention_norm", "post_feed_forward_norm")

_DEAD = 1e-3
_ALIKE = 0.3
"""Cosine of a column of readers with A's from which on they tell a gain."""
HIDDEN = 1e-3
"""How far a mean over the axes may lie from A's, of the weights' size, before it counts as moved along."""


@dataclass(frozen=True)
class Turn:
    """B's stream carried into A's.

    Attributes:
        residual: the recovered map.
        R: (d_a, d_b) float64, orthogonal to the last digit; None where axes stay axes.
        scale: B's stream is so many times as long.
        is_centred: norms subtract the mean.
    """

    residual: ResidualTransform
    R: Array | None
    scale: float
    is_centred: bool

    @classmethod
    def of(cls, residual: ResidualTransform, *, is_centred: bool) -> Turn:
        """From what was recovered; a rotation is made exact, about the all-ones direction of a mean."""
        R: Array | None = None
        if residual.kind == ROTATION and residual.rotation is not None:
            found: Array = residual.rotation.astype(np.float64)
            if is_centred:
                C = np.eye(len(found)) - 1 / len(found)
                found = C @ found @ C + 1 / len(found)
            R = polar(found)
        return cls(residual, R, residual.scale, is_centred)

    def turned_round(self) -> Turn:
        """With the other sign of the all-ones direction, which norms that subtract the mean do not see."""
        return self if self.R is None else replace(self, R=self.R - 2 * self.R.sum() / len(self.R) ** 2)

    @property
    def keeps_axes(self) -> bool:
        """Axes stay axes."""
        return self.R is None

    def rows(self, rows: Array) -> Array:
        """(..., d_b) -> (..., d_a)."""
        if self.R is not None:
            turned: Array = rows @ self.R.T
            return turned
        return self._gathered(rows, signed=True)

    def columns(self, matrix: Array) -> Array:
        """(d_b, n) -> (d_a, n), or a vector."""
        return self.rows(matrix.T).T

    def gain(self, gain: Array) -> Array:
        """A gain in A's order, without signs."""
        return self._gathered(gain, signed=False)

    def _gathered(self, rows: Array, *, signed: bool) -> Array:
        axis, sign = self.residual.axis, self.residual.sign
        if axis is None or sign is None:
            return rows
        back = np.argsort(axis)  # axis of B -> axis of A, a permutation of equal widths
        moved: Array = rows[..., back]
        return moved * sign[back] if signed and (sign < 0).any() else moved


def turn_readers(
    turn: Turn,
    T: Mapping[str, Array],
    norm: str,
    readers: tuple[str, ...],
    A: Mapping[str, Array],
    worse: float = 1.25,
) -> dict[str, Array]:
    """What reads behind a norm, and the norm, in A's stream.

    Args:
        T: B's tensors by name; `norm` is missing where it has no parameters, or where there is none.
        A: A's, for gains and for what norms hide; may lack any.
        worse: how many times the squared distance from A that gains like A's leave may remain under B's own, for
            these to stay.
    """
    there = [name for name in readers if name in T]
    if norm not in T:
        return {name: turn.rows(T[name]) for name in there}
    own = _with_gain(turn, T, norm, there, A, None)
    if turn.keeps_axes and norm not in A:
        return own
    theirs = _with_gain(turn, T, norm, there, A, A.get(norm, np.ones(turn.residual.d_a)))
    errors = [_distance(turn, {**T, **new}, norm, there, A) for new in (own, theirs)]
    return own if turn.keeps_axes and errors[0] <= worse * errors[1] else theirs


def _with_gain(
    turn: Turn, T: Mapping[str, Array], norm: str, readers: list[str], A: Mapping[str, Array], gain: Array | None
) -> dict[str, Array]:
    """Readers and norm with a gain like A's, or, where axes stay axes, with B's own."""
    if gain is None:
        new = {name: turn.rows(T[name]) for name in (*readers, f"{norm}_bias") if name in T}
        return new | {norm: turn.gain(T[norm])}
    folded = {name: turn.rows(T[name] * T[norm]) for name in readers}
    gain = _fitted_gain(turn, folded, gain, A)
    new = {name: rows / gain for name, rows in folded.items()}
    new |= {bias: turn.rows(T[bias] / T[norm]) * gain for bias in (f"{norm}_bias",) if bias in T}
    return new | {norm: gain}


def _fitted_gain(turn: Turn, folded: Mapping[str, Array], gain: Array, A: Mapping[str, Array]) -> Array:
    """The gain that makes of folded readers those that lie nearest to A's: of what was trained, its own.

    Args:
        gain: A's, which stays where the readers do not tell.
    """
    square, inner, theirs = np.zeros_like(gain), np.zeros_like(gain), np.zeros_like(gain)
    for name, rows in folded.items():
        if name in A and A[name].shape == rows.shape:
            if turn.is_centred:  # what the norm hides may be anything
                rows = rows + ((A[name] * gain).mean(-1) - rows.mean(-1))[:, None]
            square += np.square(rows).sum(0)
            inner += (rows * A[name]).sum(0)
            theirs += np.square(A[name]).sum(0)
    is_told = np.abs(inner) > _ALIKE * np.sqrt(square * theirs)
    fitted = np.divide(square, inner, out=gain.astype(np.float64), where=is_told)
    is_dead = np.abs(fitted) < _DEAD * np.abs(fitted).max()
    return np.where(is_dead & ~is_told, 1.0, fitted)


def _distance(turn: Turn, T: Mapping[str, Array], norm: str, readers: list[str], A: Mapping[str, Array]) -> float:
    """Squared, of the readers that both have in one shape, but for what the norm hides."""
    if turn.is_centred:
        T = {**T, **hide_like(T, norm, tuple(readers), A, is_unit=False)}
    both = [name for name in readers if name in A and A[name].shape == T[name].shape]
    return sum(float(np.square(T[name] - A[name]).sum()) for name in both)


def hide_like(
    T: Mapping[str, Array],
    norm: str,
    readers: tuple[str, ...],
    A: Mapping[str, Array],
    *,
    is_unit: bool,
    least: float = HIDDEN,
) -> dict[str, Array]:
    """Readers with A's part along the direction that a norm hides; what that does to the norm's bias is taken off.

    Args:
        T, A: in one stream.
        is_unit: the norm has no parameters.
        least: how far a mean may lie from A's, of the weights' size, before it counts as moved along.
    """
    if norm not in T and not is_unit:
        return {}
    new: dict[str, Array] = {}
    for name in readers:
        if name not in T or name not in A or T[name].shape != A[name].shape:
            continue
        if f"{norm}_bias" in T and f"{name}_bias" not in T:
            continue
        gain = T.get(norm, np.ones(T[name].shape[-1]))
        if not np.abs(gain).min() > 0:
            continue
        off = (A[name] * A.get(norm, 1.0)).mean(-1) - (T[name] * gain).mean(-1)
        if np.abs(off).max() <= least * float((T[name] * gain).std()):
            continue
        new[name] = T[name] + off[:, None] / gain
        if f"{norm}_bias" in T:
            new[f"{name}_bias"] = T[f"{name}_bias"] - off * float((T[f"{norm}_bias"] / gain).sum())
    return new


def hide_written(
    T: Mapping[str, Array], names: tuple[str, ...], A: Mapping[str, Array], axis: int, least: float = HIDDEN
) -> dict[str, Array]:
    """Writers with A's mean over the axes of the stream, which norms that subtract it do not see.

    Args:
        axis: of the stream: 0 of `o`, -1 of embedding rows and biases.
        least: see `hide_like`.
    """
    new = {}
    for name in names:
        if name in T and name in A and T[name].shape == A[name].shape:
            off = A[name].mean(axis, keepdims=True) - T[name].mean(axis, keepdims=True)
            if np.abs(off).max() > least * float(T[name].std()):
                new[name] = T[name] + off
    return new
