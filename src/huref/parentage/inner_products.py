"""One pass over all models: inner products of their differences from the child, and a sample of entries.

Differences are taken before anything is multiplied: task vectors are a hundredth of the weights, and a product of
whole weights in float32 would drown them. Every fit, for any choice of base, follows from these sums.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.model.finite import require_finite
from huref.numerics.arrays import Floats, quietly
from huref.numerics.rounding import rounding_bound, rounding_square
from huref.parentage.members import Family

_BLOCK_ELEMENTS = 1 << 24
"""Of all models together: 64 MB of float32, twice."""
_CHUNK = 1 << 15
"""Entries of each model that are widened to float64 at a time: few enough to stay in the cache."""
RUN = 32
"""Entries are sampled in runs as long as a quantisation block, so that rounding errors can be told from a sample."""
_SAMPLED_RUNS = 1 << 15


@dataclass(frozen=True)
class Sample:
    """Some entries of every model, the child last.

    Attributes:
        values: (k + 1, s) float32.
        bounds: (k + 1, s) float32, how far each may be from the number it was rounded from.
        tensor: (s,) int64, which of the compared tensors.
    """

    values: np.ndarray
    bounds: np.ndarray
    tensor: np.ndarray


@dataclass(frozen=True)
class InnerProducts:
    """What one pass leaves, for k candidates and T tensors.

    Attributes:
        names: the tensors.
        layers: (T,) int64, the child's layer, -1 outside the layers.
        is_matrix: (T,) bool.
        sums: (T, 2, k + 1, k + 1) float64, inner products over even and over odd rows of the candidates'
            differences from the child and, last, of the child itself.
        rounding: (T, k + 1) float64, expected square of each model's rounding error, the child last.
        sample: some entries.
    """

    names: tuple[str, ...]
    layers: np.ndarray
    is_matrix: np.ndarray
    sums: np.ndarray
    rounding: np.ndarray
    sample: Sample

    def differences(self) -> np.ndarray:
        """(T, 2, k + 1, k + 1): among differences from the child; the last one is that of a model of zeros.

        As a base, the model of zeros makes task vectors of the weights themselves.
        """
        signed = self.sums.copy()
        signed[..., -1, :-1] *= -1
        signed[..., :-1, -1] *= -1
        return signed

    def in_layers(self) -> np.ndarray:
        """(T,) bool: the layers' matrices; every matrix where no layer has one."""
        chosen = self.is_matrix & (self.layers >= 0)
        return chosen if chosen.any() else self.is_matrix

    def cosines(self) -> np.ndarray:
        """(k,) cosine of each candidate's weights with the child's, over the layers' matrices.

        Gains near 1 are alike anyway, and embeddings of strangers share how often tokens occur: in narrow models
        that one direction makes a cosine of 0.15.
        """
        G = self.sums[self.in_layers()].sum(axis=(0, 1))
        child, cross = G[-1, -1], G[:-1, -1]
        scale = np.sqrt(np.maximum(child * (child + 2 * cross + np.diag(G)[:-1]), 0.0))
        found: np.ndarray = np.divide(child + cross, scale, out=np.zeros_like(scale), where=scale > 0)
        return found


@quietly
def gather(family: Family, report: Callable[[int, int], None] | None = None) -> InnerProducts:
    """Stream every compared tensor of every model once; memory is a block of each.

    Args:
        report: called with (tensors done, tensors in all).

    Raises:
        NotFiniteError: NaN or infinity in a tensor.
    """
    shapes = {name: family.child.weights.shape(name) for name in family.names}
    total = max(1, sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()))
    found, pieces, rounding = [], [], []
    for done, (name, shape) in enumerate(shapes.items()):
        if report:
            report(done, len(shapes))
        tensor = _Tensor(name, shape, total, len(family.candidates) + 1)
        tensor.read(family)
        found.append(tensor.sums)
        pieces.append(tensor.sample())
        rounding.append(tensor.rounding())
    counts = [piece[0].shape[1] for piece in pieces]
    return InnerProducts(
        names=family.names,
        layers=np.array([int(name.split(".")[1]) if name.startswith("layers.") else -1 for name in shapes]),
        is_matrix=np.array([len(shape) > 1 for shape in shapes.values()]),
        sums=np.stack(found),
        rounding=np.stack(rounding),
        sample=Sample(
            np.concatenate([values for values, _ in pieces], axis=1),
            np.concatenate([bounds for _, bounds in pieces], axis=1),
            np.repeat(np.arange(len(counts)), counts),
        ),
    )


class _Tensor:
    """Sums and sample of one tensor while it is read."""

    def __init__(self, name: str, shape: tuple[int, ...], total: int, n_models: int) -> None:
        self.name = name
        self.n_rows, self.per_row = shape[0], int(np.prod(shape[1:], dtype=np.int64))
        self.sums = np.zeros((2, n_models, n_models))
        self.runs = _runs(name, self.n_rows * self.per_row, total)
        self.kinds: list[str] = []
        self.values: list[Floats] = []
        per_model = _BLOCK_ELEMENTS // n_models
        self.step = max(1, per_model // max(1, self.per_row) // RUN) * RUN

    def read(self, family: Family) -> None:
        """All rows, block by block."""
        everyone = (*family.candidates, family.child)
        self.kinds = [member.stored_dtype(self.name) for member in everyone]
        for start in range(0, self.n_rows, self.step):
            rows = slice(start, min(start + self.step, self.n_rows))
            block = np.empty((len(everyone), rows.stop - start, self.per_row), np.float32)
            for i, member in enumerate(everyone):
                block[i] = member.read(self.name, rows).reshape(block.shape[1:])
                require_finite(block[i], member.own_name(self.name), member.weights)
            self.values.append(self._sampled(block, start))
            block[:-1] -= block[-1]
            for half in (0, 1):
                self.sums[half] += _products(block[:, half::2].reshape(len(everyone), -1))

    def sample(self) -> tuple[Floats, Floats]:
        """Values and rounding bounds of the sampled entries, (k + 1, s) each."""
        values = np.concatenate(self.values, axis=1)
        bounds = [rounding_bound(row, kind) for row, kind in zip(values, self.kinds, strict=True)]
        return values, np.stack(bounds)

    def rounding(self) -> np.ndarray:
        """(k + 1,) expected square of the whole tensor's rounding error, from the sample's mean."""
        values = np.concatenate(self.values, axis=1)
        if not values.shape[1]:
            return np.zeros(len(values))
        squares = (rounding_square(row, kind) for row, kind in zip(values, self.kinds, strict=True))
        return np.array([float(square.mean(dtype=np.float64)) for square in squares]) * self.n_rows * self.per_row

    def _sampled(self, block: Floats, start: int) -> Floats:
        """The block's part of the sample, (k + 1, entries)."""
        first, size = start * self.per_row, block[0].size
        inside = self.runs[(self.runs >= first) & (self.runs + RUN <= first + size)] - first
        entries = (inside[:, None] + np.arange(RUN)).ravel()
        return block.reshape(len(block), -1)[:, entries]


def _runs(name: str, n_values: int, total: int) -> np.ndarray:
    """Where the sampled runs of a tensor begin: a share of all that suits its size, chosen by its name."""
    n_runs = n_values // RUN
    wanted = min(n_runs, max(RUN, round(_SAMPLED_RUNS * n_values / total)))
    dice = np.random.default_rng(zlib.crc32(name.encode()))
    chosen = np.unique(dice.integers(0, max(1, n_runs), wanted)) if wanted < n_runs else np.arange(n_runs)
    return chosen.astype(np.int64) * RUN


def _products(rows: Floats) -> NDArray[np.float64]:
    """`rows @ rows.T` of (m, n) float32, in float64.

    A float32 sum depends on the order in which a processor adds, and moves weights by 1e-7: with another order of
    the candidates, or on another machine.
    """
    total = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], _CHUNK):
        wide = rows[:, start : start + _CHUNK].astype(np.float64)
        total += wide @ wide.T
    return total
