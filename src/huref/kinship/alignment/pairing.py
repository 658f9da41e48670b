"""Pairing agreement: do two layers pair the same neurons by two criteria that know nothing of each other?

A trained network fixes what its neurons do together, but *which* gate sits with which up and down vector is an
accident of its first weights. Match every neuron of A with one of B by what opens it, and again by what it then reads
and writes. In kin the two matches are one neuron; in strangers they meet by chance, also where the same data made
both networks learn the same features (docs/explanation/method.md).

Invariant to permutations of neurons, to their scales and signs, and, by the map between the two residual streams, to
permutations, signs and rotations of the stream and to absorbed norm gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.model.layers import Heads, Neurons
from huref.numerics.arrays import Array, Floats
from huref.numerics.products import product

Criterion = tuple[Array, ...]
"""Matrices (n, d) whose rows belong to the same neurons: likeness is the product of the rows' cosines."""


@dataclass(frozen=True)
class Pairing:
    """How far two criteria agree on the partners of some neurons.

    Attributes:
        agreement: share of the tested neurons whose best partners by both criteria are one.
        chance: what blind choice gives: 1 / candidates.
        first, second: (n,) int64, the partner of each tested neuron by either criterion.
        is_back: the tested neurons are B's, sought in A.
    """

    agreement: float
    chance: float
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_back: bool = False


@dataclass(frozen=True)
class Stack:
    """Layers of one model on top of each other, rounded as products of this machine take them.

    Attributes:
        acts, ups, downs: (layers n, d), as in `Neurons`.
        is_live: (layers, n) bool.
        n_copies: as in `Neurons`.
    """

    acts: Array
    ups: Array | None
    downs: Array
    is_live: NDArray[np.bool_]
    n_copies: int

    @classmethod
    def of(cls, layers: Sequence[Neurons], move: Callable[[Floats], Floats] = lambda rows: rows) -> Stack:
        """Stack layers of equally many neurons, each carried into another stream first."""

        def stacked(parts: Sequence[Floats]) -> Array:
            return np.concatenate([move(part) for part in parts]) if len(parts) > 1 else move(parts[0])

        ups = [layer.ups for layer in layers if layer.ups is not None]
        return cls(
            stacked([layer.acts for layer in layers]),
            stacked(ups) if ups else None,
            stacked([layer.downs for layer in layers]),
            np.stack([layer.is_live for layer in layers]),
            layers[0].n_copies,
        )

    def criteria(self, is_gated: bool) -> tuple[Criterion, Criterion]:
        """Two independent descriptions of every neuron: what opens it, and what it then reads and writes.

        The signs of `up` and `down` may be flipped together: only their product of cosines is compared. Against a
        block without a gate, what opens a neuron stands for its reading too.
        """
        if is_gated and self.ups is not None:
            return (self.acts,), (self.ups, self.downs)
        return (self.acts,), (self.downs,)


def pair_neurons(tested: Neurons, candidates: Neurons) -> Pairing:
    """Best partners of `tested` among `candidates`; both in one residual stream.

    A candidate counts for as many neurons as there are copies of it to be had, so that candidates which attract
    everybody, or are all alike, agree with nobody.

    Args:
        tested: (n, d) rows, at least one neuron.
        candidates: (m, d) rows.
    """
    return pair_layers(Stack.of([tested]), Stack.of([candidates]))[0][0]


def pair_layers(tested: Stack, candidates: Stack) -> list[list[Pairing]]:
    """`pair_neurons` of every layer of one stack with every layer of another: [i][j]."""
    is_gated = tested.ups is not None and candidates.ups is not None
    (layers, n), (others, m) = tested.is_live.shape, candidates.is_live.shape
    best = []
    for left, right in zip(tested.criteria(is_gated), candidates.criteria(is_gated), strict=True):
        likeness = product(left[0], right[0].T)
        for A, B in zip(left[1:], right[1:], strict=True):
            likeness *= product(A, B.T)
        best.append(likeness.reshape(layers, n, others, m).argmax(axis=3).swapaxes(1, 2))  # (i, j, n)
    first, second = best
    fair = max(1, -(-tested.n_copies // candidates.n_copies))
    return [
        [_pairing(first[i, j], second[i, j], tested.is_live[i], m, fair) for j in range(others)]
        for i in range(layers)
    ]


def _pairing(
    first: NDArray[np.int64], second: NDArray[np.int64], is_live: NDArray[np.bool_], n_candidates: int, fair: int
) -> Pairing:
    agreed = _counted(first[(first == second) & is_live], fair)
    return Pairing(agreed / len(first), 1 / n_candidates, first, second)


def _counted(partners: NDArray[np.int64], fair: int) -> int:
    """How many partners there are when each counts `fair` times at most."""
    return int(np.minimum(np.bincount(partners), fair).sum())


def pair_heads(a: Heads, b: Heads) -> Pairing:
    """The same for query heads: the query-key operator of a head against its value-output operator.

    Args:
        a: mapped into the residual stream of `b`; (h, e, d) each.
        b: (h', e', d).
    """
    first, second = _likest(a.q, a.k, b.q, b.k), _likest(a.v, a.o, b.v, b.o)
    return Pairing(_counted(first[first == second], 1) / len(first), 1 / len(b.q), first, second)


def _likest(A1: Floats, A2: Floats, B1: Floats, B2: Floats) -> NDArray[np.int64]:
    """(h,) the head of B whose operator, sum of B1^T B2, is most alike to each head of A's."""
    inner = _by_heads(A1, B1)  # (h, e, h', e')
    inner *= _by_heads(A2, B2)
    length = np.sqrt(np.maximum((_own(B1) * _own(B2)).sum(axis=(1, 2)), 1e-30))  # (h',), of the operator
    found: NDArray[np.int64] = (inner.sum(axis=3).sum(axis=1) / length).argmax(axis=1)
    return found


def _by_heads(a: Floats, b: Floats) -> Floats:
    """Inner products of rows, (h, e, d) with (h', e', d) -> (h, e, h', e')."""
    flat = product(a.reshape(-1, a.shape[2]), b.reshape(-1, b.shape[2]).T)
    return flat.reshape(*a.shape[:2], *b.shape[:2])


def _own(heads: Floats) -> Floats:
    """(h, e, e) Gram matrix of each head's rows."""
    gram: Floats = heads @ heads.swapaxes(1, 2)
    return gram
