"""The dual frame: what a direction of the residual stream is, told by the tokens that make it.

Let X (K, d) be the centred embedding rows of K tokens. A row r of the residual stream is described by the weights
with which the tokens make it, `D r` with

    D = X (X^T X + lambda I)^-1,   lambda = ridge * trace(X^T X) / d

(ridge regression, Hoerl and Kennard 1970), instead of by its inner products `X r`. A rotation R of the stream turns X
into XR and r into R^T r and leaves D r alone. Inner products see mostly the few directions that the text decides and
that all models of the text share; least squares divides those out, the more the smaller the ridge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from huref.numerics.arrays import Floats, float32
from huref.numerics.rows import inner_product

F = TypeVar("F", np.float32, np.float64)

_LEAST_SINGULAR = 1e-5
"""Of singular values, over the largest: rounding leaves less."""

_MOST_RESIDUAL = 1e-5
"""Of solutions in float32, over the right-hand side: trained embeddings leave 1e-7."""

_WIDE = 3072
"""Equations from which on scipy's Cholesky solver, thrice as fast, is worth its import."""


@dataclass(frozen=True, eq=False)
class DualFrame:
    """`D = X G^-1`, the frame in which a row is described by the weights with which tokens make it.

    Attributes:
        X: (K, d) float32, centred rows of root mean square 1, or zeros where all rows are one.
        G: (d, d) float32, `X^T X + lambda I`; zeros where all rows are one.
        size: root mean square of the centred rows as they were.
    """

    X: Floats
    G: Floats
    size: float

    @classmethod
    def of(cls, rows: Floats, ridge: float) -> DualFrame:
        """Of embedding rows (K, d)."""
        X = rows - float32(rows.mean(axis=0, dtype=np.float64))
        spread = math.sqrt(inner_product(X, X) / X.size)
        X *= np.float32(1 / spread if spread else 0)
        return cls(X, _ridged(X, ridge), spread)

    def seen_by(self, signs: Floats) -> Floats:
        """`S D` (m, d) float32 of signs S (m, K)."""
        return self._solved((signs @ self.X).T).T

    def inverse(self, ridge: float) -> Floats:
        """`G^-1` (d, d) float32, from float64.

        Raises:
            numpy.linalg.LinAlgError: all rows are one, which shows no direction.
        """
        return float32(np.linalg.inv(_ridged(self.X.astype(np.float64), ridge)))

    def notes(self, signs: Floats) -> tuple[str, ...]:
        """What the tokens do not show of the stream: rows of low rank, as far as signs (m, K) tell, or few."""
        (K, d), seen = self.X.shape, (signs @ self.X).astype(np.float64)
        singular = np.sqrt(np.maximum(0, np.linalg.eigvalsh(seen @ seen.T)))
        rank = int((singular > _LEAST_SINGULAR * singular[-1]).sum())
        if rank < min(len(signs), K - 1, d - 1):
            return (f"the embedding rows lie in {rank} of the stream's {d} directions: no other one is seen",)
        if d >= K:
            return (f"{K} tokens show at most {K - 1} of the stream's {d} directions: no other one is seen",)
        return ()

    def across(self, other: DualFrame) -> Floats:
        """C (d, d_other) with `<D r, D_other s> = r^T C s`, of frames over the same tokens."""
        C = self.X.T @ other.X
        if not other.G.any():
            return np.zeros_like(C)
        return other._solved(self._solved(C).T).T

    def _solved(self, B: Floats) -> Floats:
        """`G^-1 B`; zeros where all rows are one, which shows no direction."""
        return solve(self.G, B) if self.G.any() else np.zeros_like(B)


def dual_rows(R: Floats, ridge: float) -> Floats:
    """`R G^-1` (n, d) float32 of the rows R (n, d) of which G is made, `R^T R = X^T X`."""
    G = _ridged(R, ridge)
    return solve(G, R.T).T if G.any() else R


def _ridged(X: NDArray[F], ridge: float) -> NDArray[F]:
    """`X^T X + lambda I`, in X's own precision."""
    G: NDArray[F] = X.T @ X
    G[np.diag_indices_from(G)] += G.dtype.type(ridge * np.trace(G, dtype=np.float64) / len(G))
    return G


def solve(G: Floats, B: Floats) -> Floats:
    """`G^-1 B` of a positive definite G: in float32 where the residual shows that this is enough, else in float64."""
    if len(G) >= _WIDE:
        from scipy.linalg.lapack import sposv

        _, narrow, failed = sposv(G, B)
    else:
        narrow, failed = np.linalg.solve(G, B), 0
    residual = math.sqrt(inner_product(rest := G @ narrow - B, rest))
    if not failed and residual <= _MOST_RESIDUAL * math.sqrt(inner_product(B, B)):
        return float32(narrow)
    return float32(np.linalg.solve(G.astype(np.float64), B.astype(np.float64)))
