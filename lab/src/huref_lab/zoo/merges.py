"""Merges of models of one shape, tensor by tensor, by the formulas of their papers and of mergekit.

Arrays are float32 and flattened where a formula speaks of vectors. `base` is the common ancestor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i W_i."""
    return torch.stack([w * tensor.float() for w, tensor in zip(weights, tensors, strict=True)]).sum(0)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Along the great circle between the directions of a and b (Shoemake 1985), applied to a and b as they are:
    sin((1-t) w) / sin w a + sin(t w) / sin w b, cos w = <a, b> / |a| |b|. Linear where they are all but parallel."""
    u, v = a.float().flatten().double(), b.float().flatten().double()
    length = u.norm() * v.norm()
    cosine = float(u @ v / length) if length > 0 else 1.0
    if abs(cosine) > 0.9995:
        return linear([a, b], [1 - t, t])
    angle = torch.acos(torch.tensor(cosine, dtype=torch.float64))
    mixed = torch.sin((1 - t) * angle) / torch.sin(angle) * u + torch.sin(t * angle) / torch.sin(angle) * v
    return mixed.float().view(a.shape)


def task_arithmetic(base: Tensor, children: Sequence[Tensor], scale: float) -> Tensor:
    """base + scale sum_i (W_i - base) (arXiv 2212.04089)."""
    return base.float() + scale * torch.stack([child.float() - base.float() for child in children]).sum(0)


def ties(base: Tensor, children: Sequence[Tensor], density: float, scale: float) -> Tensor:
    """TIES (arXiv 2306.01708): of each change keep the largest `density`; elect a sign by the sum; average those that
    agree with it; add `scale` times that to the base."""
    trimmed = torch.stack([_trim(child.float() - base.float(), density) for child in children])
    agrees = trimmed.sign() == trimmed.sum(0).sign()
    agrees &= trimmed != 0
    mean = torch.where(agrees, trimmed, torch.zeros(())).sum(0) / agrees.sum(0).clamp(min=1)
    return base.float() + scale * mean


def _trim(change: Tensor, density: float) -> Tensor:
    """The largest entries by magnitude; those that tie with the smallest kept stay too."""
    kept = max(1, round(density * change.numel()))
    bound = change.abs().flatten().kthvalue(change.numel() - kept + 1).values
    return torch.where(change.abs() >= bound, change, torch.zeros(()))
