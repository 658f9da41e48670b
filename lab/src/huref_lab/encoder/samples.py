"""Synthetic terms to train the CNN encoder on: `M = X Q^T K X^T`, Gaussian X (side, width), Q and K (rank, width).

A triplet is an anchor M, a positive M' akin to it (X + 0.4 noise, Q and K + 0.1 noise each) and a fresh negative.
Drawing X, Q, K as the definition says costs products of the size of a whole model's matrices. The sampler here has
exactly the same law, and products of side x side matrices only:

- A Gaussian matrix is L O: L lower triangular with a chi-distributed diagonal and normal entries below (Bartlett,
  1933), O with orthonormal rows, independent of L. `M` sees X only through products with Gaussian matrices, which a
  rotation does not change, so O drops out; so for the inner axis. Hence `M ~ L G (L L1)^T`, G normal, L1 Bartlett.
- For a pair, [X; noise] = L O gives the Gram matrix of [X; X']. Given that, every column of `[X Q^T; X' Q'^T]` is
  normal with covariance `[[X X^T, X X'^T], [X' X^T, 1.01 X' X'^T]]` = C C^T, and so for K. Hence the pair is the two
  diagonal blocks of `C G (C L1)^T`, of which the other two are never formed.

Exact where side <= width; rank is free. `draw_naively` is the definition; the tests and
`lab/benchmarks/encoder_sampler.py` compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from huref.fingerprints.encoder.network import N_TERMS
from huref.numerics.products import network_dtype
from huref_lab.encoder.network import standardised_terms


@dataclass(frozen=True)
class SampleShape:
    """What synthetic terms are made of.

    Args:
        side: tokens, K.
        width: d of X (side, width).
        rank: rows of Q and K.
        inputs: independent matrices in a sample.
        x_noise: standard deviation of what is added to X in a positive.
        weight_noise: likewise to Q and K.
        is_half: products take bfloat16 operands where the processor is faster at that: each adds an independent
            relative error near 2^-9 to every entry, a hundredth of a percent of the variance in all.
    """

    side: int = 1024
    width: int = 4096
    rank: int = 4096
    inputs: int = N_TERMS
    x_noise: float = 0.4
    weight_noise: float = 0.1
    is_half: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.side <= self.width or self.rank < 1:
            raise ValueError(f"a side of {self.side} with width {self.width} and rank {self.rank}")

    @property
    def correlation(self) -> float:
        """Of an entry of the anchor and of the positive: `1 / ((1 + x_noise^2) (1 + weight_noise^2))`."""
        return 1.0 / ((1.0 + self.x_noise**2) * (1.0 + self.weight_noise**2))

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """`left @ right`, float32."""
        kind = network_dtype() if self.is_half else torch.float32
        return (left.to(kind) @ right.to(kind)).float()


def stream(*key: int) -> torch.Generator:
    """Random numbers that a key names, such as (seed, step): drawing again needs no saved state."""
    (number,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(number >> np.uint64(1)))


def normal(rows: int, columns: int, random: torch.Generator) -> Tensor:
    """(rows, columns) independent standard normal numbers, float32."""
    return torch.empty(rows, columns).normal_(generator=random)


def bartlett(rows: int, columns: int, random: torch.Generator) -> Tensor:
    """The L of a (rows, columns) Gaussian matrix L O: (rows, min(rows, columns)), lower triangular."""
    size = min(rows, columns)
    lower = normal(rows, size, random).tril_(-1)
    seed = int(torch.randint(2**62, (), generator=random))
    diagonal = np.sqrt(np.random.default_rng(seed).chisquare(columns - np.arange(size)))
    lower.diagonal().copy_(torch.from_numpy(diagonal))
    return lower


def draw_one(shape: SampleShape, random: torch.Generator) -> Tensor:
    """One fresh matrix, (side, side)."""
    K = shape.side
    L = bartlett(K, shape.width, random)
    T = shape.product(L, bartlett(K, shape.rank, random))
    return shape.product(shape.product(L, normal(K, T.shape[1], random)), T.T)


def draw_pair(shape: SampleShape, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """An anchor's matrix and a positive's, (side, side) each."""
    K, rank = shape.side, shape.rank
    L = bartlett(2 * K, shape.width, random)
    C11 = L[:K, :K]
    C21 = C11 + shape.x_noise * L[K:, :K]
    C22 = _remainder(shape, C21, L[K:, K:])
    inner = bartlett(2 * K, rank, random)
    near = min(K, rank)  # columns of `inner` that its first K rows reach
    T1 = shape.product(C11, inner[:K, :near])
    T2 = shape.product(C22, inner[K:])
    T2[:, :near] += shape.product(C21, inner[:K, :near])
    G = normal(2 * K, inner.shape[1], random)
    anchor = shape.product(shape.product(C11, G[:K, :near]), T1.T)
    positive = shape.product(shape.product(torch.cat([C21, C22], dim=1), G), T2.T)
    return anchor, positive


def _remainder(shape: SampleShape, C21: Tensor, L22: Tensor) -> Tensor:
    """C22, the Cholesky factor of what C21 leaves of the positive's covariance.

    With width below twice the side the factor is nearly singular, and float32 would not do.
    """
    exact = torch.float32 if shape.width >= 2 * shape.side else torch.float64
    near, far = C21.to(exact), L22.to(exact)
    extra = shape.weight_noise**2
    covariance = extra * (near @ near.T) + (1 + extra) * shape.x_noise**2 * (far @ far.T)
    factor: Tensor = torch.linalg.cholesky(covariance)
    return factor.float()


def draw_naively(shape: SampleShape, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """An anchor's matrix and a positive's, by the definition."""
    X, Q, K = (normal(rows, shape.width, random) for rows in (shape.side, shape.rank, shape.rank))
    anchor = shape.product(shape.product(X, Q.T), shape.product(X, K.T).T)
    X = X + shape.x_noise * normal(shape.side, shape.width, random)
    Q = Q + shape.weight_noise * normal(shape.rank, shape.width, random)
    K = K + shape.weight_noise * normal(shape.rank, shape.width, random)
    return anchor, shape.product(shape.product(X, Q.T), shape.product(X, K.T).T)


def draw_plainly(shape: SampleShape, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Independent normal entries with the right correlation: cheaper, and not the same law (see the benchmark)."""
    anchor, rest = (normal(shape.side, shape.side, random) for _ in range(2))
    rho = shape.correlation
    return anchor, rho * anchor + (1 - rho**2) ** 0.5 * rest


def draw_triplets(shape: SampleShape, n: int, random: torch.Generator, *, fresh: bool = True) -> Tensor:
    """Triplets for the encoder: n anchors, their n positives and, if `fresh`, n negatives, standardised.

    Returns:
        (3 n or 2 n, inputs, side, side) float32, in that order.
    """
    parts = 3 if fresh else 2
    batch = torch.empty(parts, n, shape.inputs, shape.side, shape.side)
    for k in range(n):
        for channel in range(shape.inputs):
            batch[0, k, channel], batch[1, k, channel] = draw_pair(shape, random)
            if fresh:
                batch[2, k, channel] = draw_one(shape, random)
    return standardised_terms(batch.flatten(0, 1))
