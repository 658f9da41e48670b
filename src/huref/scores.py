"""Similarities of two models: PCS over all parameters, Pearson correlations of invariant terms.

METHOD: HuRef (NeurIPS 2024), sections 3 and 4.2. ICS is the mean over the terms of the Pearson correlation of
M_A and M_B, which equals the official cosine of the standardised, flattened and stacked matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from huref.fingerprints.terms import Factors
from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.numerics.products import has_fast_bfloat16, product
from huref.numerics.rounding import within_rounding

_BLOCK_ELEMENTS = 1 << 24


@dataclass
class Moments:
    """Running sums over the paired parameters of two models, in double precision."""

    dot: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0
    n_values: int = 0
    n_equal: int = 0
    n_within_rounding: int = 0

    def add(self, a: Tensor, b: Tensor, rounds: Tensor) -> None:
        """Take in one block; `rounds` marks the values that agree within rounding."""
        self.dot += float(torch.dot(a, b))
        self.square_a += float(torch.dot(a, a))
        self.square_b += float(torch.dot(b, b))
        self.n_values += a.numel()
        self.n_equal += int((a == b).sum())
        self.n_within_rounding += int(rounds.sum())

    @property
    def cosine(self) -> float:
        """Cosine of everything taken in so far; 0 when one side is all zeros."""
        scale = (self.square_a * self.square_b) ** 0.5
        return self.dot / scale if scale else 0.0


@dataclass
class ParameterComparison:
    """PCS and how closely the stored weights agree.

    Attributes:
        total: sums over all paired tensors.
        worst_rounding: the smallest share, over tensors, of values that agree within rounding.
        skipped: tensors of either model without a partner of equal shape.
    """

    total: Moments = field(default_factory=Moments)
    worst_rounding: float = 1.0
    skipped: list[str] = field(default_factory=list)

    @property
    def pcs(self) -> float | None:
        """Parameters' cosine similarity, or None when no tensor has a partner."""
        return self.total.cosine if self.total.n_values else None

    @property
    def is_identical(self) -> bool:
        """Every value of every tensor is equal, and no tensor lacks a partner."""
        return not self.skipped and 0 < self.total.n_values == self.total.n_equal

    @property
    def is_requantised(self) -> bool:
        """99 % of every tensor agrees within the stored types' rounding, and none lacks a partner.

        Not all: a symmetric format such as Q4_0 clips the largest value of the rarer sign by up to a step.
        """
        return not self.skipped and self.total.n_values > 0 and self.worst_rounding >= 0.99


def compare_parameters(
    a: CanonicalWeights, b: CanonicalWeights, report: Callable[[int, int], None] | None = None
) -> ParameterComparison:
    """Stream both checkpoints once; memory is a block of each, not two models.

    Args:
        report: called with (tensors done, tensors in all).

    Raises:
        NotFiniteError: NaN or infinity in a paired tensor.
    """
    names_a, names_b = a.names(), set(b.names())
    result = ParameterComparison(skipped=[f"{n} (only in B)" for n in b.names() if n not in set(names_a)])
    for done, name in enumerate(names_a):
        if report:
            report(done, len(names_a))
        if name not in names_b:
            result.skipped.append(f"{name} (only in A)")
        elif a.shape(name) != b.shape(name):
            result.skipped.append(f"{name} {list(a.shape(name))} / {list(b.shape(name))}")
        else:
            _add_tensor(result, a, b, name)
    return result


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
        sums += [float((x * y).sum(dim=1).double().sum()) for x, y in ((Ma, Mb), (Ma, Ma), (Mb, Mb))]
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

    U: Tensor
    V: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, term: Factors) -> _Parts:
        """Split a term."""
        u, v = term.U.double().mean(0), term.V.double().mean(0)
        U, V = term.U - u.float(), term.V - v.float()
        return cls(U, V, U.double() @ v, V.double() @ u)

    def edges(self, other: _Parts) -> float:
        """Inner product of the parts that are constant along rows or columns."""
        return float(self.rows @ other.rows + self.columns @ other.columns) * self.U.shape[0]


def _add_tensor(result: ParameterComparison, a: CanonicalWeights, b: CanonicalWeights, name: str) -> None:
    tensor = Moments()
    types = (a.stored_dtype(name), b.stored_dtype(name))
    for block_a, block_b in _blocks(a, b, name):
        require_finite(block_a, name, a)
        require_finite(block_b, name, b)
        tensor.add(block_a.flatten(), block_b.flatten(), within_rounding(block_a, block_b, types))
    for item in ("dot", "square_a", "square_b", "n_values", "n_equal", "n_within_rounding"):
        setattr(result.total, item, getattr(result.total, item) + getattr(tensor, item))
    if tensor.n_values:
        result.worst_rounding = min(result.worst_rounding, tensor.n_within_rounding / tensor.n_values)


def _blocks(a: CanonicalWeights, b: CanonicalWeights, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    shape = a.shape(name)
    per_row = int(np.prod(shape[1:], dtype=np.int64)) or 1
    step = max(1, _BLOCK_ELEMENTS // per_row)
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        yield a.read(name, rows).float(), b.read(name, rows).float()


def _inner(a: _Parts, b: _Parts) -> float:
    """In float32: rounding these few, large entries to bfloat16 would cost 5e-4 at a correlation of 0.999."""
    left, right = a.U.T @ b.U, a.V.T @ b.V
    return float((left.double() * right.double()).sum())


def _correlation(a: _Parts, b: _Parts, inner: np.ndarray) -> float:
    """From the inner products (A, B), (A, A), (B, B) of the doubly centred parts."""
    cross, square_a, square_b = np.add(inner, [a.edges(b), a.edges(a), b.edges(b)])
    scale = float(square_a * square_b) ** 0.5
    return float(np.clip(cross / scale, -1.0, 1.0)) if scale else 0.0
