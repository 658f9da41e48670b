"""Random draws that attacks share, in float64 whatever the weights' type: one seed is one attack."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from huref.numerics.arrays import Array


def log_normal(n: int, dice: Generator) -> Array:
    """Positive factors, two thirds of them between 0.6 and 1.65."""
    return dice.lognormal(0.0, 0.5, n)


def signs(n: int, dice: Generator) -> Array:
    """1 or -1, evenly."""
    return dice.integers(0, 2, n) * 2.0 - 1.0


def orthogonal(n: int, dice: Generator) -> Array:
    """Uniformly random: QR of a Gaussian matrix with the signs of R's diagonal put right (Mezzadri 2007)."""
    Q, R = np.linalg.qr(dice.standard_normal((n, n)))
    turn: Array = Q * np.sign(np.diagonal(R))
    return turn


def orthogonal_about_ones(n: int, dice: Generator) -> Array:
    """Random orthogonal, but for the all-ones vector, which it keeps: it commutes with subtracting the mean."""
    basis = dice.standard_normal((n, n))
    basis[:, 0] = 1.0
    basis = np.linalg.qr(basis).Q
    inner = np.eye(n)
    inner[1:, 1:] = orthogonal(n - 1, dice)
    turn: Array = basis @ inner @ basis.T
    return turn


def invertible(n: int, dice: Generator) -> Array:
    """A random matrix with singular values near 1, so that float32 loses little in its inverse."""
    drawn: Array = orthogonal(n, dice) * log_normal(n, dice) @ orthogonal(n, dice)
    return drawn
