"""The claim `k(rho) <= rho` where its assumption holds: matrices of independent normal numbers.

Two sets of six matrices that correlate by rho in every entry, `B = rho A + sqrt(1 - rho^2) N`, and in nothing else.
An encoder's kernel k(rho) is the mean cosine of their vectors. Where k(0) is not 0 the encoder gives all models a
common part, and `(k(rho) - k(0)) / (1 - k(0))` is what the claim is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from huref.fingerprints.sketch import project, slots_of, token_signs, unit_rms
from huref.numerics.cosine import cosine

SIDE = 256
RHOS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.0)
EncodeMatrices = Callable[[np.ndarray], np.ndarray]
"""From (6, K, K) float32 to (512,)."""


def by_sketch(matrices: np.ndarray) -> np.ndarray:
    """The sketch of six matrices as if they were the terms of two layers."""
    S1, S2 = token_signs([str(i).encode() for i in range(matrices.shape[1])], 64, "huref/1")
    kinds = ("qk", "vo", "gate_down")
    sketches = {f"{i // 3}.{kinds[i % 3]}": unit_rms(S1 @ M @ S2.T) for i, M in enumerate(matrices)}
    return project(sketches, slots_of(sketches, 2, is_dual=False), "huref/1")


def by_mean_pooling(matrices: np.ndarray) -> np.ndarray:
    """The official mean pooling: 512 bands of whole rows, standardised."""
    bands = matrices.reshape(512, -1).mean(axis=1, dtype=np.float64)
    found: np.ndarray = (bands - bands.mean()) / bands.std(ddof=1)
    return found


def kernel(encode: EncodeMatrices, n: int, seed: int = 0) -> np.ndarray:
    """Cosines at each of `RHOS`: (n, len(RHOS)); a row shares its first set of matrices."""
    dice = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        A = dice.standard_normal((6, SIDE, SIDE), dtype=np.float32)
        N = dice.standard_normal((6, SIDE, SIDE), dtype=np.float32)
        first = encode(A)
        rows.append(
            [cosine(first, encode(np.float32(rho) * A + np.float32((1 - rho**2) ** 0.5) * N)) for rho in RHOS]
        )
    return np.array(rows)


def report(encoders: dict[str, EncodeMatrices], n: int) -> None:
    """Print every encoder's kernel, its standard error, and the kernel without the common part."""
    print(f"\nThe claim where it must hold: normal matrices, K = {SIDE}, {n} draws; mean cosine +- standard error")
    print(f"{'rho':>14}: " + "".join(f"{rho:>18.1f}" for rho in RHOS))
    for name, encode in encoders.items():
        found = kernel(encode, n)
        means, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / n**0.5
        print(f"{name:>14}: " + "".join(f"{m:>9.4f} +- {e:.4f}" for m, e in zip(means, errors, strict=True)))
        clean = _without_common_part(means)
        print(f"{'no common part':>14}: " + "".join(f"{value:>18.4f}" for value in clean))


def _without_common_part(means: Sequence[float] | np.ndarray) -> np.ndarray:
    common = means[-1]
    found: np.ndarray = (np.asarray(means) - common) / (1.0 - common)
    return found
