"""Similarity of all parameters of two models: PCS, HuRef (NeurIPS 2024), section 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.numerics.arrays import Floats, float32, quietly
from huref.numerics.rounding import within_rounding
from huref.numerics.rows import inner_product

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

    def add(self, a: Floats, b: Floats, types: tuple[str, str]) -> None:
        """Take in one block of two tensors of these stored types."""
        self.dot += inner_product(a, b)
        self.square_a += inner_product(a, a)
        self.square_b += inner_product(b, b)
        self.n_values += a.size
        self.n_equal += int(np.count_nonzero(a == b))
        self.n_within_rounding += int(np.count_nonzero(within_rounding(a, b, types)))

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


@quietly
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


def _add_tensor(result: ParameterComparison, a: CanonicalWeights, b: CanonicalWeights, name: str) -> None:
    tensor = Moments()
    types = (a.stored_dtype(name), b.stored_dtype(name))
    for block_a, block_b in _blocks(a, b, name):
        require_finite(block_a, name, a)
        require_finite(block_b, name, b)
        tensor.add(block_a, block_b, types)
    for item in ("dot", "square_a", "square_b", "n_values", "n_equal", "n_within_rounding"):
        setattr(result.total, item, getattr(result.total, item) + getattr(tensor, item))
    if tensor.n_values:
        result.worst_rounding = min(result.worst_rounding, tensor.n_within_rounding / tensor.n_values)


def _blocks(a: CanonicalWeights, b: CanonicalWeights, name: str) -> Iterator[tuple[Floats, Floats]]:
    shape = a.shape(name)
    per_row = int(np.prod(shape[1:], dtype=np.int64)) or 1
    step = max(1, _BLOCK_ELEMENTS // per_row)
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        yield float32(a.read(name, rows)), float32(b.read(name, rows))
