"""Entry by entry: merges that keep, drop and rescale single entries (TIES, DARE) copy them exactly.

A dense merge or further training leaves an entry of the child's task vector equal to a constant times a parent's only
by accident. A merge that drops entries at random (DARE) or elects signs after trimming (TIES) leaves most entries
either zero, or one parent's entry times that parent's one factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from huref.parentage.inner_products import Sample

_CLEAR = 8.0
"""An entry has moved when it left the base by so many times what rounding may do."""
_ARITHMETIC = 2.0**-22
"""What float32 arithmetic on whole weights may cost, relative to them."""
_HALF_PRECISION = 1e-2
"""What arithmetic in bfloat16 may cost a task vector's entry, relative to it."""


@dataclass(frozen=True)
class EntryCounts:
    """Shares of the sampled entries that any of the candidates moved.

    Attributes:
        n_entries: how many such entries.
        zero: the child has the base's value.
        factor: candidate -> the factor its entries have most often in the child.
        copied: candidate -> entries that are that factor times the candidate's and no other candidate's.
        chance: candidate -> the same with the child's entries paired with the wrong ones.
        sign: candidate -> of the entries that it and the child moved, those with equal sign.
    """

    n_entries: int
    zero: float
    factor: Mapping[int, float]
    copied: Mapping[int, float]
    chance: Mapping[int, float]
    sign: Mapping[int, float]

    def copies(self, candidate: int) -> float:
        """Share of entries copied beyond chance."""
        return self.copied[candidate] - self.chance[candidate]


def count_entries(sample: Sample, base: int, candidates: Sequence[int]) -> EntryCounts | None:
    """Compare the child's entries with the candidates', relative to a base.

    Args:
        base: index of the base in the sample.
        candidates: indices of the others.

    Returns:
        None where no candidate has moved anything.
    """
    entries = _Entries.of(sample, base, candidates)
    if entries is None:
        return None
    factor = {i: _usual_factor(entries, i) for i in candidates}
    copied = _copied(entries, factor, entries.child)
    chance = _copied(entries, factor, np.roll(entries.child, len(entries.child) // 2 + 1))
    return EntryCounts(
        n_entries=len(entries.child),
        zero=float((np.abs(entries.child) <= entries.slack).mean()),
        factor=factor,
        copied=copied,
        chance=chance,
        sign={i: _equal_signs(entries, i) for i in candidates},
    )


@dataclass(frozen=True)
class _Entries:
    """Task vectors over the entries that any candidate moved.

    Attributes:
        child: (s,) its task vector.
        tasks: candidate -> (s,).
        moved: candidate -> (s,) bool.
        slack: (s,) what rounding and arithmetic may have done to the child's.
        relative: the part of it that goes with the entry itself.
    """

    child: np.ndarray
    tasks: Mapping[int, np.ndarray]
    moved: Mapping[int, np.ndarray]
    slack: np.ndarray
    relative: float

    @classmethod
    def of(cls, sample: Sample, base: int, candidates: Sequence[int]) -> _Entries | None:
        values = sample.values.astype(np.float64)
        slack = sample.bounds[-1] + _ARITHMETIC * np.abs(values[-1])
        tasks = {i: values[i] - values[base] for i in candidates}
        moved = {i: np.abs(task) > _CLEAR * (slack + sample.bounds[i]) for i, task in tasks.items()}
        kept = np.logical_or.reduce(list(moved.values())) if moved else np.zeros(0, bool)
        if not kept.any():
            return None
        size = np.abs(values[-1][kept])
        is_coarse = float(np.median(sample.bounds[-1][kept])) > 2.0**-20 * float(np.median(size))
        return cls(
            (values[-1] - values[base])[kept],
            {i: task[kept] for i, task in tasks.items()},
            {i: mask[kept] for i, mask in moved.items()},
            slack[kept],
            _HALF_PRECISION if is_coarse else 1e-4,
        )

    def tolerance(self, expected: np.ndarray) -> np.ndarray:
        """How far an exact copy may lie from what is expected."""
        total: np.ndarray = self.slack + self.relative * np.abs(expected)
        return total


def _usual_factor(entries: _Entries, i: int) -> float:
    """The factor around which most ratios of the child's entries to the candidate's gather; 1 where none does."""
    used = entries.moved[i] & (np.abs(entries.child) > _CLEAR * entries.slack)
    task, child = entries.tasks[i][used], entries.child[used]
    ratio = child / task
    positive = np.sort(np.log(ratio[ratio > 0]))
    if len(positive) < 32:
        return 1.0
    width = 2 * max(1e-3, float(np.median(entries.tolerance(entries.child)[used] / np.abs(child))))
    ends = np.searchsorted(positive, positive + width, side="right")
    first = int(np.argmax(ends - np.arange(len(positive))))
    return float(np.exp(np.median(positive[first : ends[first]])))


def _copied(entries: _Entries, factor: Mapping[int, float], child: np.ndarray) -> dict[int, float]:
    """Share of entries that are one candidate's times its factor, and no other's."""
    is_left = np.abs(child) > entries.slack
    fits = {}
    for i, task in entries.tasks.items():
        expected = factor[i] * task
        fits[i] = is_left & entries.moved[i] & (np.abs(child - expected) <= entries.tolerance(expected))
    total = np.sum(list(fits.values()), axis=0)
    return {i: float((mask & (total == 1)).mean()) for i, mask in fits.items()}


def _equal_signs(entries: _Entries, i: int) -> float:
    both = entries.moved[i] & (np.abs(entries.child) > entries.slack)
    return float((np.sign(entries.tasks[i]) == np.sign(entries.child))[both].mean()) if both.any() else 0.0
