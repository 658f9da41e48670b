"""Terms seen from the residual stream: inner products of K x K matrices without a product of K rows.

A bilinear term depends on the K tokens only through their embedding rows. With the thin QR of the centred rows,
`X = 1 x^T + Q R`, n = min(K, d) directions Q (K, n) carry all of it:

    M = X L^T N X^T = Q T Q^T + Q a 1^T + 1 (Q b)^T + c 1 1^T,   T = U V^T,  U = R L^T,  V = R N^T

for the two sides L, N (r, d) of the term, with a = U v, b = V u, c = u . v, and u = L x, v = N x. T belongs to one
model, whatever it is compared with. Two models meet in `P = Q_A^T Q_B`, once a pair:

    <M_A, M_B> = <T_A, P T_B P^T> + K (a_A . P a_B + b_A . P b_B) + K^2 c_A c_B

and, the summands being orthogonal to each other, leaving out the last one leaves out the means of M: what remains are
covariances, so Pearson's correlation needs no subtraction of large numbers. The dual frame `D = X G^-1` spans what X
does: `D = Q (R G^-1)`, so that R alone changes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.dual import dual_rows
from huref.fingerprints.terms import Bilinear, scaled
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.products import product
from huref.numerics.rows import inner_product

_LEAST_SINE = 1e-4
"""Of a column of X with the span of those before it: the Gram matrix then keeps 8 digits of float64's 16."""


@dataclass(frozen=True)
class Frame:
    """What K tokens look like in a model's residual stream: their centred rows are `Q R`, and `Q = span inverse`.

    Attributes:
        mean: (d,) float32, the mean row; zeros where terms are of the centred rows.
        R: (n, d) float32; `R G^-1` in the dual frame.
        span: (K, n), or None for the identity: of no more tokens than dimensions each is a direction.
        inverse: (n, n) float64, or None for the identity.
    """

    mean: Floats
    R: Floats
    span: Array | None = None
    inverse: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, X: Floats, *, is_centred: bool = False, ridge: float | None = None) -> Frame:
        """Of embedding rows (K, d).

        The Cholesky factor of their Gram matrix in float64 is the cheapest QR where its condition, the square of
        theirs, leaves enough digits; otherwise Householder reflections make one. Neither minds the scales of columns.

        Args:
            is_centred: terms are of the rows less their mean.
            ridge: of the dual frame, where terms are seen from that.
        """
        frame = cls._of(X, is_centred=is_centred)
        return frame if ridge is None else replace(frame, R=dual_rows(frame.R, ridge))

    @classmethod
    def _of(cls, X: Floats, *, is_centred: bool) -> Frame:
        rows = X.astype(np.float64)
        average = rows.mean(axis=0)
        rows -= average
        mean = np.zeros_like(average, np.float32) if is_centred else float32(average)
        if len(rows) <= rows.shape[1]:
            return cls(mean, float32(rows))
        with contextlib.suppress(np.linalg.LinAlgError):
            R = np.linalg.cholesky(rows.T @ rows).T
            if (np.diagonal(R) > _LEAST_SINE * np.linalg.norm(R, axis=0)).all():
                return cls(mean, float32(R), float32(rows), np.linalg.inv(R))
        Q, R = np.linalg.qr(rows)
        return cls(mean, float32(R), Q)

    @property
    def n_tokens(self) -> int:
        """K."""
        return len(self.R if self.span is None else self.span)

    def cosines(self, other: Frame) -> Floats | None:
        """`P = Q^T Q_other`, (n, n_other), of the directions of both; None for the identity."""
        left, right = (
            None if frame.span is None else frame.span.astype(np.float64, copy=False) for frame in (self, other)
        )
        if left is None and right is None:
            return None
        P = right if left is None else left.T if right is None else left.T @ right
        assert P is not None
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

    @classmethod
    def of_sides(cls, U: Floats, V: Floats, n_tokens: int) -> ResidualTerm:
        """Of `M = Q U V^T Q^T`, whose rows and columns have mean zero."""
        none = np.zeros(len(U))
        if 2 * U.shape[1] > len(U):
            return cls(product(U, V.T), None, none, none, n_tokens)
        return cls(U, V, none, none, n_tokens)

    @cached_property
    def length(self) -> float:
        """Frobenius norm of M without its mean; NaN or infinite where M is."""
        return float(np.sqrt(np.maximum(0.0, self._inner(self))))

    def correlation(self, other: ResidualTerm, P: Floats | None) -> float:
        """Pearson's, over all K x K entries, in [-1, 1]; 0 where one of them is constant.

        Args:
            P: `frame.cosines(other_frame)`.
        """
        return _ratio(self._inner(other._seen_by(P)), self.length * other.length)

    def _seen_by(self, P: Floats | None) -> ResidualTerm:
        """The term in another frame's directions; few entries in float32, see `_inner`."""
        if P is None:
            return self
        a, b = P @ self.a, P @ self.b
        if self.V is None:
            return ResidualTerm(product(product(P, self.U), P.T), None, a, b, self.n_tokens)
        return ResidualTerm(P @ self.U, P @ self.V, a, b, self.n_tokens)

    def _inner(self, other: ResidualTerm) -> float:
        """`<M_A, M_B>` less the part of their means; both in one frame's directions."""
        edges = float(self.a @ other.a + self.b @ other.b) * self.n_tokens
        return _inner(self, other) + edges


def _inner(x: ResidualTerm, y: ResidualTerm) -> float:
    """`<T_A, T_B>`, by whichever factors there are.

    In float32 always: rounding few, large entries to bfloat16 would cost up to 5e-4 at a correlation of 0.999.
    """
    if x.V is None:
        x, y = y, x
    if x.V is None:
        return inner_product(x.U, y.U)
    if y.V is None:
        return inner_product(x.U, y.U @ x.V)
    return inner_product(x.U.T @ y.U, x.V.T @ y.V)


def _ratio(inner: float, scale: float) -> float:
    return float(np.clip(inner / scale, -1.0, 1.0)) if scale else 0.0
