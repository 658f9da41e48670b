"""Random draws that attacks share, in float64 whatever the weights' type: one seed is one attack."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def log_normal(n: int, dice: Generator) -> Tensor:
    """Positive factors, two thirds of them between 0.6 and 1.65."""
    return torch.randn(n, dtype=torch.float64, generator=dice).mul(0.5).exp()


def signs(n: int, dice: Generator) -> Tensor:
    """1 or -1, evenly."""
    return torch.randint(0, 2, (n,), generator=dice).double() * 2 - 1


def orthogonal(n: int, dice: Generator) -> Tensor:
    """Uniformly random: QR of a Gaussian matrix with the signs of R's diagonal put right (Mezzadri 2007)."""
    Q, R = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=dice))
    turn: Tensor = Q * R.diagonal().sign()
    return turn


def orthogonal_about_ones(n: int, dice: Generator) -> Tensor:
    """Random orthogonal, but for the all-ones vector, which it keeps: it commutes with subtracting the mean."""
    basis = torch.randn(n, n, dtype=torch.float64, generator=dice)
    basis[:, 0] = 1.0
    basis = torch.linalg.qr(basis).Q
    inner = torch.eye(n, dtype=torch.float64)
    inner[1:, 1:] = orthogonal(n - 1, dice)
    turn: Tensor = basis @ inner @ basis.T
    return turn


def invertible(n: int, dice: Generator) -> Tensor:
    """A random matrix with singular values near 1, so that float32 loses little in its inverse."""
    return orthogonal(n, dice) * log_normal(n, dice) @ orthogonal(n, dice)
