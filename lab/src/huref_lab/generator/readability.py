"""Training for readability: kin must look alike, strangers must not.

The task of the paper's human study as a loss. Half of a batch are kin of the other half, at cosines between
`NEAREST` and `FARTHEST`; each picture has to find its kin among all others of the batch, by distances in the features
of the critic's frozen network and in coarse pixels, both after disturbances (`augmentation`) that differ between the
two, so that what is found must be seen and not hidden in fine detail. The form is that of contrastive learning
(van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FARTHEST, NEAREST = 0.7, 0.95
SHARPNESS = 10.0
"""Logits a mean distance."""


def make_kin(z: Tensor, generator: torch.Generator) -> Tensor:
    """Vectors (2n, d) whose second half are kin of the first, at cosines drawn from the range above."""
    first, second = z.chunk(2)
    rho = torch.rand(len(first), 1, generator=generator) * (NEAREST - FARTHEST) + FARTHEST
    return torch.cat([first, rho * first + (1 - rho.square()).sqrt() * second])


def line_up_loss(rows: Tensor) -> Tensor:
    """Cross-entropy of finding one's kin: rows (2n, d) of which i and n + i are kin; log(2n - 1) by chance."""
    count = len(rows)
    apart = distances(rows, rows)
    itself = torch.eye(count, dtype=torch.bool)
    scale = apart[~itself].mean().detach()
    logits = (apart * (-SHARPNESS / scale)).masked_fill(itself, -torch.inf)
    kin = (torch.arange(count) + count // 2) % count
    return functional.cross_entropy(logits, kin)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of rows, (n, d), (m, d) -> (n, m), by a matrix product (`cdist` has a slow gradient)."""
    squared = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)[None, :] - 2 * a @ b.t()
    return squared.clamp_min(1e-6).sqrt()
