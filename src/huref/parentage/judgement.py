"""From fits to a verdict: merged, derived from one, identical, requantised, or left open, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from huref.parentage.explanations import (
    MOST_ROUNDING,
    Exactness,
    Explanation,
    by_layer,
    by_tensor,
    exact_by_group,
    exactness,
    fit_by_group,
    global_selection,
    one_fit,
    share_of,
    share_within,
)
from huref.parentage.fits import jackknife, task_system, unconstrained
from huref.parentage.inner_products import InnerProducts
from huref.parentage.sparse import EntryCounts, count_entries

KIN = 0.1
"""Least cosine of the layers' matrices between relatives."""

PARENT_WEIGHT = 0.02
PARENT_ERRORS = 5.0
"""A parent's weight is at least this, and at least so many of its standard errors."""
PARENT_SHARE = 0.5
"""Of the residual without it, what a parent must take away: training alike gives a fine-tune's sibling less."""
LEAN_SHARE, LEAN_SHARE_OF_SEVERAL, LEAN_WEIGHT = 0.25, 0.1, (0.2, 1.05)
"""From which share on a child lies between candidates; for two or more besides the base less will do, if so heavy."""
UNCLEAR_GAIN = 0.5
"""From here on a child that is no exact merge lies too far between candidates to be called one's offspring."""

COPIED = 0.02
"""Least share of entries copied exactly from each parent of a sparse merge, beyond chance."""
SPARSE = 0.3
"""Least share of entries that are zero or copies in a sparse merge."""
PASSES_THROUGH, PASSES_EVERYWHERE = (0.9, 1.45), 0.85
"""A child trained from a candidate has its task vector so many times, and in nine of ten matrices at least the
second number. Siblings trained on like data have less in some matrices or, where they went far, much more in all."""
CERTAIN = 3.0
"""Standard errors by which the nearest candidate must be nearer than the next."""


@dataclass(frozen=True)
class Judgement:
    """What was decided, with the numbers it rests on.

    Attributes:
        verdict, kind: as in `Parentage`.
        parents: indices.
        weights: (k + 1,) of the fit of `kind`; where weights differ by layer or tensor, their mean by size.
        errors: (k + 1,) standard errors, NaN where weights differ by layer or tensor.
        shares: (k + 1,) of the fit with one set of weights, as in `Selection`.
        residual: held-out squared residual of the fit of `kind`.
        explanation: the fit by layer or tensor.
        exact: how near the fit of `kind` comes to rounding.
        entries: entry counts; None without a base.
        reasons: in words.
    """

    verdict: str
    kind: str
    parents: tuple[int, ...]
    weights: np.ndarray
    errors: np.ndarray
    shares: np.ndarray
    residual: float
    explanation: Explanation
    exact: Exactness
    entries: EntryCounts | None
    reasons: tuple[str, ...] = field(default=())


def judge(products: InnerProducts, names: Sequence[str], pool: Sequence[int], base: int) -> Judgement:
    """Decide about a child.

    Args:
        names: the candidates'.
        pool: the child's relatives among them; not empty.
        base: one of them, or the model of zeros (index k).
    """
    return _Judge(products, names, pool, base).decide()


class _Judge:
    """The decision in steps, the strictest explanation first."""

    def __init__(self, products: InnerProducts, names: Sequence[str], pool: Sequence[int], base: int) -> None:
        self.products, self.names, self.pool, self.base = products, names, list(pool), base
        self.blocks = products.differences().sum(axis=1)
        self.G = self.blocks.sum(axis=0)
        self.nearest = min(self.pool, key=lambda i: self.G[i, i])
        self.single = float(self.G[self.nearest, self.nearest])
        self.selection = global_selection(products, [*self.pool, base], base)
        self.errors = jackknife(self.blocks, self.selection.chosen, base)
        self.one = one_fit(products, self.selection)
        self.exact = exactness(products, self.one, self.single)
        self.entries: EntryCounts | None = None

    def decide(self) -> Judgement:
        """Copy, merge, offspring of one, or open."""
        for attempt in (self._copy, self._linear, self._by_group, self._sparse, self._unclear):
            found = attempt()
            if found is not None:
                return found
        return self._offspring()

    def _copy(self) -> Judgement | None:
        """The child is a candidate, bit by bit or within rounding."""
        name = self.names[self.nearest]
        if self.single == 0.0:
            return self._said("identical", "single parent", [self.nearest], f"every compared value is {name}'s")
        weights = np.zeros((len(self.blocks), self.G.shape[0]))
        weights[:, self.nearest] = 1.0
        alone = Explanation(weights, self.one.groups, self.single, self.one.left, self.one.is_same)
        if exactness(self.products, alone, self.single).rounding < 0.5:
            return None
        within = share_within(self.products, alone)
        if within >= 0.99:
            reason = f"{100 * within:.2f} % of the entries are {name}'s within rounding"
            return self._said("requantised", "single parent", [self.nearest], reason)
        return None

    def _linear(self) -> Judgement | None:
        """One set of weights leaves nothing but rounding."""
        parents = self._parents_of_one_fit(PARENT_SHARE)
        if not self.exact.is_exact or len(parents) < 2:
            return None
        return self._said("merged", "linear", parents, self._how_exact("one set of weights", self.exact))

    def _by_group(self) -> Judgement | None:
        """Weights for each layer, or for each tensor with a free scale (SLERP), leave nothing but rounding."""
        zeros = self.G.shape[0] - 1
        for groups, base, words in (
            (by_layer(self.products), self.base, "one set of weights a layer"),
            (by_tensor(self.products), zeros, "one set of weights a tensor"),
        ):
            pool = [*self.pool, base]
            found = exact_by_group(self.products, groups, pool, base, self.single)
            exact = None if found is None else exactness(self.products, found, self.single)
            if found is None or exact is None or not exact.is_exact:
                continue
            parents = self._parents_of_groups(found, pool, base)
            if len(parents) < 2:
                continue
            spread = max(weight_spread(found, i) for i in parents)
            kind = "per-layer" if spread > 0.05 else "linear"
            reason = self._how_exact(words, exact)
            more = (
                "" if kind == "per-layer" else f"; they differ little (standard deviation {spread:.3f}), as in SLERP"
            )
            return self._said_of_groups(kind, parents, reason + more, found, exact)
        return None

    def _sparse(self) -> Judgement | None:
        """Most entries are zero or one parent's, times its factor."""
        others = [i for i in self.pool if i != self.base]
        if self.base not in self.pool or not others:
            return None
        self.entries = count_entries(self.products.sample, self.base, others)
        if self.entries is None:
            return None
        counts = self.entries
        parents = [i for i in others if counts.copies(i) >= COPIED]
        covered = counts.zero + sum(counts.copies(i) for i in parents)
        if len(parents) < 2 or covered < SPARSE:
            return None
        said = ", ".join(
            f"{100 * counts.copied[i]:.1f} % are {counts.factor[i]:.3f} times {self.names[i]}'s" for i in parents
        )
        reason = (
            f"of the entries that candidates moved, {100 * counts.zero:.1f} % are the base's and {said} exactly: "
            "entries were dropped or elected one by one, as TIES and DARE do"
        )
        return self._said("merged", "sparse", sorted(parents, key=lambda i: -counts.copied[i]), reason)

    def _unclear(self) -> Judgement | None:
        """Between several, but not exactly: a merge with something added, or training on like data."""
        between = self._parents_of_one_fit(LEAN_SHARE)
        leaning = [
            i
            for i in self._clear_ones(LEAN_SHARE_OF_SEVERAL, LEAN_WEIGHT[0])
            if i != self.base and self.selection.weights[i] <= LEAN_WEIGHT[1]
        ]
        several = max(between, leaning, key=len)
        if len(several) < 2:
            return None
        if self.exact.rounding > MOST_ROUNDING:
            reason = (
                f"rounding of the child's stored type alone makes {100 * self.exact.rounding:.0f} % of its squared "
                f"distance to {self.names[self.nearest]}: it hides whether the child is a merge"
            )
            return self._said("inconclusive", "none", [], reason)
        if self.exact.gain < UNCLEAR_GAIN and len(leaning) < 2:
            return None
        said = " and ".join(f"{self.names[i]} ({self.selection.weights[i]:.2f})" for i in several)
        reason = (
            f"the child lies between {said}, but they leave {100 * (1 - self.exact.gain):.2f} % of its squared "
            "distance to the nearest: a merge that was trained, rounded or made noisy afterwards, or training from "
            "one of them on data like the others'; the weights do not tell which"
        )
        return self._said("inconclusive", "none", [], reason)

    def _offspring(self) -> Judgement:
        """Derived from one: the nearest that the child lies beyond, else the base."""
        parent = self._passed()
        reasons = [f"no mixture of candidates explains the child; {self._why(parent)}"]
        lean = [
            i
            for i in self.selection.chosen
            if i not in (parent, self.base) and i < len(self.names) and self.selection.shares[i] >= 0.05
        ]
        reasons += [
            f"the child leans towards {self.names[i]} ({self.selection.weights[i]:.2f}), as siblings trained on like "
            "data do: not counted as a parent"
            for i in lean
        ]
        rival = self._rival(parent)
        if rival is not None:
            reasons.append(f"{self.names[rival]} is as near within the uncertainty: it may be the parent as well")
        return self._said("derived", "single parent", [parent], *reasons)

    def _why(self, parent: int) -> str:
        name, nearest = self.names[parent], self.names[self.nearest]
        if parent != self.nearest:
            return (
                f"{nearest} is nearer than {name}, but not on the child's way from it: a sibling trained on like data"
            )
        if parent == self.base or self.base not in self.pool:
            return f"{name} is the nearest"
        return (
            f"{name} is the nearest, and the child has all that sets it apart: its parent, or a sibling trained alike"
        )

    def _passed(self) -> int:
        """The nearest candidate on the child's way from the base; else the base."""
        for i in sorted(self.pool, key=lambda i: self.G[i, i]):
            if i == self.base or self.base not in self.pool:
                return i
            if self._passes(i):
                return i
        return self.base

    def _passes(self, candidate: int) -> bool:
        """Whether the child has a candidate's task vector whole, in nearly every matrix."""
        blocks = self.blocks[self.products.is_matrix]
        systems = [task_system(G, [candidate], self.base) for G in (self.G, *blocks)]
        slopes = [float(g[0] / H[0, 0]) for H, g in systems if H[0, 0] > 0]
        low, high = PASSES_THROUGH
        return bool(slopes) and low <= slopes[0] <= high and float(np.quantile(slopes, 0.1)) >= PASSES_EVERYWHERE

    def _rival(self, parent: int) -> int | None:
        """A relative whose distance from the child does not differ clearly from the parent's."""
        for i in sorted(self.pool, key=lambda i: self.G[i, i]):
            if i == parent:
                continue
            difference = self.blocks[:, i, i] - self.blocks[:, parent, parent]
            error = np.sqrt(len(difference)) * difference.std()
            if abs(difference.sum()) < CERTAIN * error and self.G[i, i] < 1.1 * self.G[parent, parent]:
                return i
        return None

    def _parents_of_one_fit(self, least_share: float) -> list[int]:
        """Those whose weight is clear and needed; the base where only one other is."""
        found = self._clear_ones(least_share, PARENT_WEIGHT)
        others = [i for i in found if i != self.base]
        return found if len(others) == 1 else others

    def _clear_ones(self, least_share: float, least_weight: float) -> list[int]:
        """Candidates of the sparse fit by weight; a base's share is not known, its weight is."""
        a, shares, errors = self.selection.weights, self.selection.shares, self.errors
        found = [i for i in self.selection.chosen if i < len(self.names) and a[i] >= least_weight]
        found = [
            i for i in found if not a[i] < PARENT_ERRORS * errors[i] and (i == self.base or shares[i] >= least_share)
        ]
        return sorted(found, key=lambda i: -a[i])

    def _parents_of_groups(self, found: Explanation, pool: Sequence[int], base: int) -> list[int]:
        """Those that some group needs; the base where only one other is."""
        mean = self._mean_weights(found)
        used = [i for i in self.pool if i != base and found.weights[:, i].max() >= PARENT_WEIGHT]
        parents = [i for i in used if share_of(self.products, found, i, pool, base) >= PARENT_SHARE]
        if len(parents) == 1 and base in self.pool and found.weights[:, base].max() >= PARENT_WEIGHT:
            parents.append(base)
        return sorted(parents, key=lambda i: -mean[i])

    def _how_exact(self, words: str, exact: Exactness) -> str:
        return (
            f"{words} takes away {100 * exact.gain:.4f} % of the squared distance to the nearest candidate, of which "
            f"rounding is {100 * exact.rounding:.4f} %"
        )

    def _said(self, verdict: str, kind: str, parents: Sequence[int], *reasons: str) -> Judgement:
        """A judgement that rests on one set of weights."""
        return Judgement(
            verdict,
            kind,
            tuple(parents),
            weights=self.selection.weights,
            errors=self.errors,
            shares=self.selection.shares,
            residual=self.selection.residual,
            explanation=fit_by_group(self.products, by_layer(self.products), [*self.pool, self.base], self.base),
            exact=self.exact,
            entries=self.entries,
            reasons=reasons,
        )

    def _said_of_groups(
        self, kind: str, parents: Sequence[int], reason: str, found: Explanation, exact: Exactness
    ) -> Judgement:
        """A merge whose weights differ by layer or tensor."""
        return Judgement(
            "merged",
            kind,
            tuple(parents),
            weights=self._mean_weights(found),
            errors=np.full(len(self.G), np.nan),
            shares=self.selection.shares,
            residual=found.residual,
            explanation=found,
            exact=exact,
            entries=None,
            reasons=(reason,),
        )

    def _mean_weights(self, found: Explanation) -> np.ndarray:
        """Over tensors in which the candidates differ, by the squared length of the child's weights there."""
        lengths = self.products.differences()[:, :, -1, -1].sum(axis=1)
        for group, is_same in zip(found.groups, found.is_same, strict=True):
            lengths[group] *= not is_same
        mean: np.ndarray = np.average(found.weights, axis=0, weights=lengths if lengths.any() else None)
        return mean


def weight_spread(found: Explanation, candidate: int) -> float:
    """Standard deviation of a candidate's weight over groups in which the candidates differ."""
    firsts = [group[0] for group, same in zip(found.groups, found.is_same, strict=True) if not same]
    return float(found.weights[firsts, candidate].std()) if firsts else 0.0


def least_squares(G: np.ndarray, pool: Sequence[int], base: int) -> np.ndarray:
    """Unconstrained weights over all relatives, for the record."""
    return unconstrained(G, [*pool, *(() if base in pool else (base,))], base)
