"""Similarity of all parameters of two models: PCS, HuRef (NeurIPS 2024), section 3."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.rounding import packed_bounds
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.remote.mirror import is_elsewhere, sha256_of
from huref.numerics.arrays import Floats, float32, quietly
from huref.numerics.rounding import within_rounding
from huref.numerics.rows import inner_product

_BLOCK_ELEMENTS = 1 << 24
_BLOCK_BYTES = 1 << 22

_MOST_VALUES, _SAMPLE_ELEMENTS = 1 << 29, 1 << 18
"""Values from which on a sample of rows is read; values in one block of it."""

_FIRST_VALUES, _MAY_BE_ROUNDED = 1 << 12, 0.9
"""Values of a tensor that are looked at before all are, and the share of them that agree within rounding in a model
that was stored otherwise."""

_BY_CHANCE = 0.95
"""Share of values at the wrong places that agree where rounding explains nothing."""

_FLOATS = ("F64", "F32", "F16", "BF16")
_LEAST_COSINE = 0.8
"""Of what was stored otherwise: formats of one bit a value leave 0.9; the few values that may not agree, no less."""

MOST_ROUNDED = 0.99
"""Share of every tensor's values that agree within rounding in a model that was stored otherwise."""


@dataclass(frozen=True)
class Rounding:
    """What two blocks may differ by: their stored types, and each value's bound where a format says it."""

    types: tuple[str, str]
    bounds: tuple[Floats | None, Floats | None] = (None, None)

    def count(self, a: Floats, b: Floats) -> int:
        """Values that agree within rounding; only equal ones count where any others would agree as well.

        A scale that is far too large for its numbers would otherwise explain every model.
        """
        if self.types[0] == self.types[1] and self.types[0] in _FLOATS and self.bounds == (None, None):
            return int(np.count_nonzero(a == b))  # nothing was rounded
        if any(side is not None for side in self.bounds) and self._explains_anything(a, b):
            return int(np.count_nonzero(a == b))
        return int(np.count_nonzero(within_rounding(a, b, self.types, self.bounds)))

    def _explains_anything(self, a: Floats, b: Floats) -> bool:
        """Whether values at the wrong places agree too: a block against the other's, moved by half of it."""
        n = min(a.size, _FIRST_VALUES)
        first = a.reshape(-1)[:n]
        moved = np.roll(b.reshape(-1)[:n], n // 2)
        bounds = [None if side is None else side.reshape(-1)[:n] for side in self.bounds]
        second = None if bounds[1] is None else np.roll(bounds[1], n // 2)
        agreeing = np.count_nonzero(within_rounding(first, moved, self.types, (bounds[0], second)))
        return bool(agreeing >= _BY_CHANCE * n)


@dataclass
class Moments:
    """Running sums over the paired parameters of two models, in double precision."""

    dot: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0
    n_values: int = 0
    n_equal: int = 0
    n_within_rounding: int = 0

    def add(self, a: Floats, b: Floats, agrees: Rounding | None) -> None:
        """Take in one block of two tensors; None where no rounding is asked about any more."""
        self.dot += inner_product(a, b)
        self.square_a += inner_product(a, a)
        self.square_b += inner_product(b, b)
        self.n_values += a.size
        if agrees is not None:
            self.n_equal += int(np.count_nonzero(a == b))
            self.n_within_rounding += agrees.count(a, b)

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
        worst_rounding: the smallest share, over tensors, of values that agree within rounding; once it is too small
            for `is_requantised`, values that are equal or agree within rounding are not counted any more.
        skipped: tensors of either model without a partner of equal shape.
        blocks: dot product and both squares of every block of a sample; empty where every value was read.
    """

    total: Moments = field(default_factory=Moments)
    worst_rounding: float = 1.0
    skipped: list[str] = field(default_factory=list)
    blocks: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Standard error of PCS from a sample of blocks, as of a ratio of sums; 0 where every value was read."""
        if len(self.blocks) < 2:
            return 0.0
        dot, a, b = np.array(self.blocks).T
        size = np.sqrt(a.sum() * b.sum())
        if not size:
            return 0.0
        left, right = np.sqrt(b.sum() / a.sum()), np.sqrt(a.sum() / b.sum())
        rest = dot - dot.sum() / size * (left * a + right * b) / 2
        return float(np.sqrt(np.square(rest).sum()) / size)

    @property
    def pcs(self) -> float | None:
        """Parameters' cosine similarity, or None when no tensor has a partner."""
        return self.total.cosine if self.total.n_values else None

    @property
    def is_identical(self) -> bool:
        """Every value of every tensor is equal, and no tensor lacks a partner."""
        return not self.skipped and not self.blocks and 0 < self.total.n_values == self.total.n_equal

    @property
    def is_requantised(self) -> bool:
        """Every tensor agrees within the stored types' rounding, and none lacks a partner.

        Of a format of blocks 99 % of it: a symmetric one such as Q4_0 clips the largest value of the rarer sign by up
        to a step.
        """
        return self._may_be_requantised and not self.blocks and self.total.cosine >= _LEAST_COSINE

    @property
    def only_difference(self) -> str:
        """`rows` (of the embeddings) or `unembedding`, where every value of all others is equal; else empty."""
        if not self.skipped or self.blocks or not 0 < self.total.n_values == self.total.n_equal:
            return ""
        if all(text.split(" ")[0] in ("embedding", "unembedding") and "/" in text for text in self.skipped):
            return "rows"
        return "unembedding" if all(text.startswith("unembedding (only in ") for text in self.skipped) else ""

    @property
    def says_something(self) -> bool:
        """Whether the stored weights say themselves that they are the same."""
        return self.is_identical or self.is_requantised or bool(self.only_difference)

    @property
    def _may_be_requantised(self) -> bool:
        return not self.skipped and self.total.n_values > 0 and self.worst_rounding >= MOST_ROUNDED


@quietly
def compare_parameters(
    a: CanonicalWeights,
    b: CanonicalWeights,
    report: Callable[[int, int], None] | None = None,
    *,
    is_exact: bool = True,
) -> ParameterComparison:
    """Stream both checkpoints once; memory is a block of each, not two models.

    Args:
        is_exact: read every value. Otherwise of models with more than half a billion of them a sample of rows of each
            tensor, and the rest only where all of these agree within rounding.
        report: called with (tensors done, tensors in all).

    Raises:
        NotFiniteError: NaN or infinity in a paired tensor.
    """
    share = 1.0 if is_exact else min(1.0, _MOST_VALUES / max(1, _n_paired(a, b)))
    found = _compare(a, b, report, share)
    if share < 1 and found._may_be_requantised:
        return _compare(a, b, report, 1.0)
    return found


@quietly
def same_parameters(
    a: CanonicalWeights, b: CanonicalWeights, report: Callable[[int, int], None] | None = None
) -> ParameterComparison | None:
    """The comparison of all values, where they may say that the weights are the same; None where a few say not.

    Raises:
        NotFiniteError: NaN or infinity in a paired tensor.
    """
    names = set(b.names())
    for name in a.names():
        if name in names and a.shape(name) == b.shape(name) and not _may_be_same(a, b, name):
            return None
    found = _compare(a, b, report, 1.0)
    return found if found.says_something else None


def _may_be_same(a: CanonicalWeights, b: CanonicalWeights, name: str) -> bool:
    """Whether the middle rows of a tensor agree within rounding."""
    shape = a.shape(name)
    n_rows = max(1, _FIRST_VALUES // max(1, math.prod(shape[1:])))
    start = max(0, shape[0] - n_rows) // 2
    rows = slice(start, min(start + n_rows, shape[0]))
    left, right = (float32(side.read(name, rows)) for side in (a, b))
    agreeing = np.count_nonzero(within_rounding(left, right, *_rounding(a, b, name, rows)))
    return bool(agreeing >= _MAY_BE_ROUNDED * left.size)


def _rounding(
    a: CanonicalWeights, b: CanonicalWeights, name: str, rows: slice
) -> tuple[tuple[str, str], tuple[Floats | None, Floats | None]]:
    """The stored types of some rows, and what packed formats say of each value."""
    types = (a.stored_dtype(name), b.stored_dtype(name))
    return types, (packed_bounds(a, name, rows), packed_bounds(b, name, rows))


def rounding_of(a: CanonicalWeights, b: CanonicalWeights, name: str, rows: slice) -> Rounding:
    """What some rows of a tensor of two models may differ by."""
    return Rounding(*_rounding(a, b, name, rows))


def _n_paired(a: CanonicalWeights, b: CanonicalWeights) -> int:
    """Values of the tensors that have a partner of equal shape."""
    names = set(b.names())
    return sum(math.prod(a.shape(name)) for name in a.names() if name in names and a.shape(name) == b.shape(name))


def _compare(
    a: CanonicalWeights, b: CanonicalWeights, report: Callable[[int, int], None] | None, share: float
) -> ParameterComparison:
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
            _add_tensor(result, a, b, name, share)
    return result


def have_one_content(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether two checkpoints' weight files are equal byte for byte, in the order of their names.

    Files of other sizes are not opened; others are read up to the first difference. Files elsewhere are known by the
    SHA-256 that their publisher tells, and not read.
    """
    files = [
        sorted(zip(side.files, side.files.values(), side.paths, strict=True), key=lambda file: file[0])
        for side in (a, b)
    ]
    if [size for _, size, _ in files[0]] != [size for _, size, _ in files[1]]:
        return False
    return all(_are_equal(x, y) for (*_, x), (*_, y) in zip(*files, strict=True))


def _are_equal(x: Path, y: Path) -> bool:
    if is_elsewhere(x) or is_elsewhere(y):
        digests = [sha256_of(path) if is_elsewhere(path) else _sha256(path) for path in (x, y)]
        return None not in digests and digests[0] == digests[1]
    try:
        if x.samefile(y):
            return True
        with x.open("rb") as left, y.open("rb") as right:
            while block := left.read(_BLOCK_BYTES):
                if block != right.read(_BLOCK_BYTES):
                    return False
    except OSError:  # not a file of this machine, or gone: its tensors are compared one by one
        return False
    return True


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _add_tensor(
    result: ParameterComparison, a: CanonicalWeights, b: CanonicalWeights, name: str, share: float
) -> None:
    tensor = Moments()
    is_asked = result.worst_rounding >= MOST_ROUNDED
    for rows in _blocks(a.shape(name), share):
        block_a, block_b = float32(a.read(name, rows)), float32(b.read(name, rows))
        require_finite(block_a, name, a)
        require_finite(block_b, name, b)
        before = tensor.dot, tensor.square_a, tensor.square_b
        tensor.add(block_a, block_b, Rounding(*_rounding(a, b, name, rows)) if is_asked else None)
        if share < 1:
            after = tensor.dot, tensor.square_a, tensor.square_b
            result.blocks.append((after[0] - before[0], after[1] - before[1], after[2] - before[2]))
    for item in ("dot", "square_a", "square_b", "n_values", "n_equal", "n_within_rounding"):
        setattr(result.total, item, getattr(result.total, item) + getattr(tensor, item))
    if tensor.n_values and is_asked:
        agreeing = tensor.n_within_rounding / tensor.n_values
        is_plain = {a.stored_dtype(name), b.stored_dtype(name)} <= set(_FLOATS)  # nothing is clipped between floats
        result.worst_rounding = min(result.worst_rounding, agreeing if agreeing == 1 or not is_plain else 0.0)


def _blocks(shape: tuple[int, ...], share: float) -> Iterator[slice]:
    """Blocks of rows of a tensor; of a sample evenly spaced ones, each less than a megabyte or a row."""
    per_row = math.prod(shape[1:]) or 1
    step = max(1, (_BLOCK_ELEMENTS if share == 1 else _SAMPLE_ELEMENTS) // per_row)
    starts: Sequence[int] = range(0, shape[0], step)
    if share < 1 and len(starts) > 1:
        n = math.ceil(share * len(starts))
        starts = [starts[int((k + 0.5) * len(starts) / n)] for k in range(n)]
    for start in starts:
        yield slice(start, min(start + step, shape[0]))
