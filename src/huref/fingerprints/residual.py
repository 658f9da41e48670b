"""Terms seen from the residual stream: inner products of K x K matrices without a product of K rows.

A bilinear term depends on the K tokens only through their embedding rows. With the thin QR of the centred rows,
`X = 1 x^T + Q R`, n = min(K, d) directions Q (K, n) carry all of it:

    M = X L^T N X^T = Q T Q^T + Q a 1^T + 1 (Q b)^T + c 1 1^T,   T = U V^T,  U = R L^T,  V = R N^T

for the two sides L, N (r, d) of the term, with a = U v, b = V u, c = u . v, and u = L x, v = N x. T belongs to one
model, whatever it is compared with. Two models meet in `P = Q_A^T Q_B`, once a pair:

    <M_A, M_B> = <T_A, P T_B P^T> + K (a_A . P a_B + b_A . P b_B) + K^2 c_A c_B

and, the summands being orthogonal to each other, leaving out the last one leaves out the means of M: what remains are
covariances, so Pearson's correlation needs no subtraction of large numbers. The rotation-proof feed-forward term is
linear in X on one side only, `M = W Q^T`; there `<M_A, M_B> = <W_A^T W_B, P>`.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import Bilinear, feed_forward_gain, scaled
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Floats, float32
from huref.numerics.products import product
from huref.numerics.rows import inner_product

_LEAST_PIVOT = 1e-4
"""Of the largest: the Gram matrix then keeps 8 digits of float64's 16."""


@dataclass(frozen=True)
class Frame:
    """What K tokens look like in a model's residual stream: `centred = Q R`, and Q is not always formed.

    Attributes:
        centred: (K, d) float32, the embedding rows less their mean.
        mean: (d,) float32, the mean row.
        R: (n, d) float32, upper triangular.
        Q: (K, n) float64 with orthonormal columns, or None where `R` is well conditioned and its inverse will do.
        inverse: (n, n) float64, of R, or None where Q is there.
    """

    centred: Floats
    mean: Floats
    R: Floats
    Q: NDArray[np.float64] | None = None
    inverse: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, X: Floats) -> Frame:
        """Of embedding rows (K, d), centred or not.

        The Cholesky factor of their Gram matrix in float64 is the cheapest QR where its condition, the square of
        theirs, leaves enough digits; otherwise Householder reflections make one.
        """
        mean = float32(X.mean(axis=0, dtype=np.float64))
        centred = X - mean
        wide = centred.astype(np.float64)
        if wide.shape[0] > wide.shape[1]:
            with contextlib.suppress(np.linalg.LinAlgError):
                R = np.linalg.cholesky(wide.T @ wide).T
                pivots = np.abs(np.diagonal(R))
                if pivots.min() > _LEAST_PIVOT * pivots.max():
                    return cls(centred, mean, float32(R), inverse=np.linalg.inv(R))
        Q, R = np.linalg.qr(wide)
        return cls(centred, mean, float32(R), Q=Q)

    @property
    def n_tokens(self) -> int:
        """K."""
        return len(self.centred)

    def cosines(self, other: Frame) -> Floats:
        """`P = Q^T Q_other`, (n, n_other): of the directions of one with those of the other."""
        left, right = (frame.centred.astype(np.float64) if frame.Q is None else frame.Q for frame in (self, other))
        P = left.T @ right
        if self.inverse is not None:
            P = self.inverse.T @ P
        if other.inverse is not None:
            P = P @ other.inverse
        return float32(P)


@dataclass(frozen=True)
class ResidualTerm:
    """A bilinear term without the mean of its entries.

    Attributes:
        U: (n, r) float32.
        V: (n, r) float32, or None for the identity: where the rank is no saving, U is T itself.
        a, b: (n,) float64: `M 1 / K` and `M^T 1 / K` less their means, in the directions Q.
        n_tokens: K.
    """

    U: Floats
    V: Floats | None
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    n_tokens: int

    @classmethod
    def of(cls, term: Bilinear, frame: Frame) -> ResidualTerm:
        """Of a term's matrices, over a frame's tokens."""
        rows = np.concatenate([frame.R, frame.mean[None]])
        left = scaled(product(scaled(rows, term.left_gain), term.left.T), term.inner)
        right = product(scaled(rows, term.right_gain), term.right.T)
        U, u, V, v = left[:-1], left[-1].astype(np.float64), right[:-1], right[-1].astype(np.float64)
        a, b = U @ v, V @ u
        if 2 * U.shape[1] > len(U):
            return cls(product(U, V.T), None, a, b, frame.n_tokens)
        return cls(U, V, a, b, frame.n_tokens)

    @cached_property
    def length(self) -> float:
        """Frobenius norm of M without its mean."""
        return math.sqrt(max(0.0, self._inner(self)))

    def correlation(self, other: ResidualTerm, P: Floats) -> float:
        """Pearson's, over all K x K entries, in [-1, 1]; 0 where one of them is constant.

        Args:
            P: `frame.cosines(other_frame)`.
        """
        return _ratio(self._inner(other._seen_by(P)), self.length * other.length)

    def _seen_by(self, P: Floats) -> ResidualTerm:
        """The term in another frame's directions."""
        if self.V is None:
            return ResidualTerm(product(product(P, self.U), P.T), None, P @ self.a, P @ self.b, self.n_tokens)
        return ResidualTerm(product(P, self.U), product(P, self.V), P @ self.a, P @ self.b, self.n_tokens)

    def _inner(self, other: ResidualTerm) -> float:
        """`<M_A, M_B>` less the part of their means; both in one frame's directions."""
        edges = float(self.a @ other.a + self.b @ other.b) * self.n_tokens
        return _inner(self, other) + edges


@dataclass(frozen=True)
class RotationProofTerm:
    """`ffn_exact`, linear in X on one side: `M = W Q^T`, rows and columns of mean zero.

    Attributes:
        W: (K, n) float32.
    """

    W: Floats

    @classmethod
    def of(cls, weights: CanonicalWeights, layer: int, X: Floats, frame: Frame, recipe: Recipe) -> RotationProofTerm:
        """Of the canonical recipe.

        Args:
            X: (K, d) the embedding rows, not centred: the gate sees them as they are.
            frame: of the same rows.
        """
        rows = scaled(X, feed_forward_gain(weights, layer, recipe))
        gate, up, down = (weights.read(f"layers.{layer}.{name}") for name in ("gate", "up", "down"))
        U = product(rows, gate.T)
        U *= product(rows, up.T)
        U -= U.mean(axis=0, keepdims=True)
        return cls(product(U, product(frame.R, down).T))

    @cached_property
    def length(self) -> float:
        """Frobenius norm of M."""
        return math.sqrt(inner_product(self.W, self.W))

    def correlation(self, other: RotationProofTerm, P: Floats) -> float:
        """As of a `ResidualTerm`."""
        return _ratio(inner_product(product(self.W.T, other.W), P), self.length * other.length)


def _inner(x: ResidualTerm, y: ResidualTerm) -> float:
    """`<T_A, T_B>`, by whichever factors there are."""
    if x.V is None and y.V is None:
        return inner_product(x.U, y.U)
    if x.V is None:
        x, y = y, x
    assert x.V is not None
    if y.V is None:
        return inner_product(x.U, product(y.U, x.V))
    return inner_product(product(x.U.T, y.U), product(x.V.T, y.V))


def _ratio(inner: float, scale: float) -> float:
    return min(1.0, max(-1.0, inner / scale)) if scale else 0.0
