"""Similarities of two models: PCS over all parameters, Pearson correlations of invariant terms.

HuRef (NeurIPS 2024), sections 3 and 4.2; docs/explanation/method.md. ICS is the mean over the terms of the Pearson
correlation of M_A and M_B, which equals the official cosine of the standardised, flattened and stacked matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.factors import Factors
from huref.numerics.arrays import Floats, float32
from huref.numerics.products import has_fast_bfloat16, product


def pearson(a: Factors, b: Factors) -> float:
    """Pearson correlation of M_A and M_B (K x K), by the cheaper of two equal routes.

    In multiplications the factor route costs 6 K r^2 and never forms M, the dense route 2 K^2 r; the dense one
    may run in bfloat16, where that is about four times faster.
    """
    n_tokens, rank = a.U.shape[0], max(a.U.shape[1], b.U.shape[1])
    limit = n_tokens / (12 if has_fast_bfloat16() else 3)
    return pearson_from_factors(a, b) if rank <= limit else pearson_from_dense(a, b)


def pearson_from_factors(a: Factors, b: Factors) -> float:
    """`<M_A, M_B> = sum((U_A^T U_B) * (V_A^T V_B))` of the doubly centred parts, in float32; see `_Parts`."""
    A, B = _Parts.of(a), _Parts.of(b)
    return _correlation(A, B, np.array([_inner(A, B), _inner(A, A), _inner(B, B)]))


def pearson_from_dense(a: Factors, b: Factors) -> float:
    """The same from the K x K matrices of the doubly centred parts, one row block at a time."""
    A, B = _Parts.of(a), _Parts.of(b)
    sums = np.zeros(3)
    for start in range(0, a.U.shape[0], 1024):
        rows = slice(start, start + 1024)
        Ma, Mb = product(A.U[rows], A.V.T), product(B.U[rows], B.V.T)
        sums += [float((x * y).sum(axis=1).astype(np.float64).sum()) for x, y in ((Ma, Mb), (Ma, Ma), (Mb, Mb))]
    return _correlation(A, B, sums)


@dataclass(frozen=True)
class _Parts:
    """A term without its mean, in three parts that are orthogonal to each other.

    With u, v the column means of U, V and U' = U - 1 u^T, V' = V - 1 v^T,
    `U V^T = U' V'^T + (U' v) 1^T + 1 (V' u)^T + (u . v) 1 1^T`. Real terms have means of twice their standard
    deviation: subtracting `K^2 mean^2` from sums of squares would cost float32 four digits, bfloat16 nearly all.

    Attributes:
        U: U', (K, r) float32.
        V: V', (K, r) float32.
        rows: U' v, (K,) float64: the row means less the mean.
        columns: V' u, (K,) float64.
    """

    U: Floats
    V: Floats
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @classmethod
    def of(cls, term: Factors) -> _Parts:
        """Split a term."""
        u, v = term.U.mean(axis=0, dtype=np.float64), term.V.mean(axis=0, dtype=np.float64)
        U, V = term.U - float32(u), term.V - float32(v)
        return cls(U, V, U @ v, V @ u)

    def edges(self, other: _Parts) -> float:
        """Inner product of the parts that are constant along rows or columns."""
        each = float(self.rows @ other.rows + self.columns @ other.columns)
        return each * len(self.U)


def _inner(a: _Parts, b: _Parts) -> float:
    """In float32: rounding these few, large entries to bfloat16 would cost 5e-4 at a correlation of 0.999."""
    left, right = a.U.T @ b.U, a.V.T @ b.V
    product_sum: np.float64 = np.sum(np.multiply(left, right, dtype=np.float64))
    return float(product_sum)


def _correlation(a: _Parts, b: _Parts, inner: np.ndarray) -> float:
    """From the inner products (A, B), (A, A), (B, B) of the doubly centred parts."""
    cross, square_a, square_b = np.add(inner, [a.edges(b), a.edges(a), b.edges(b)])
    scale = float(square_a * square_b) ** 0.5
    return float(np.clip(cross / scale, -1.0, 1.0)) if scale else 0.0
