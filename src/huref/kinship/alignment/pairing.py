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

import torch
from torch import Tensor

from huref.kinship.alignment.neurons import Criterion, Heads, Neurons
from huref.numerics.products import has_fast_bfloat16
from huref.numerics.tensors import product

MIN_NEURONS = 32
"""Fewer neurons than this say nothing."""


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
    first: Tensor
    second: Tensor
    is_back: bool = False


@dataclass(frozen=True)
class Stack:
    """Layers of one model on top of each other, rounded as products of this machine take them.

    Attributes:
        acts, ups, downs: (layers n, d), as in `Neurons`.
        is_live: (layers, n) bool.
        n_copies: as in `Neurons`.
    """

    acts: Tensor
    ups: Tensor | None
    downs: Tensor
    is_live: Tensor
    n_copies: int

    @classmethod
    def of(cls, layers: Sequence[Neurons], move: Callable[[Tensor], Tensor] = lambda rows: rows) -> Stack:
        """Stack layers of equally many neurons, each carried into another stream first."""

        def stacked(parts: Sequence[Tensor]) -> Tensor:
            rows = torch.cat([move(part) for part in parts]) if len(parts) > 1 else move(parts[0])
            return rows.to(torch.bfloat16) if has_fast_bfloat16() else rows

        ups = [layer.ups for layer in layers if layer.ups is not None]
        return cls(
            stacked([layer.acts for layer in layers]),
            stacked(ups) if ups else None,
            stacked([layer.downs for layer in layers]),
            torch.stack([layer.is_live for layer in layers]),
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
        best.append(likeness.view(layers, n, others, m).max(3).indices.permute(0, 2, 1))  # (i, j, n)
    first, second = best
    fair = max(1, -(-tested.n_copies // candidates.n_copies))
    return [
        [_pairing(first[i, j], second[i, j], tested.is_live[i], m, fair) for j in range(others)]
        for i in range(layers)
    ]


def _pairing(first: Tensor, second: Tensor, is_live: Tensor, n_candidates: int, fair: int) -> Pairing:
    partners = first[(first == second) & is_live]
    agreed = int(torch.bincount(partners, minlength=1).clamp_max(fair).sum())
    return Pairing(agreed / len(first), 1 / n_candidates, first, second)


def pair_heads(a: Heads, b: Heads) -> Pairing:
    """The same for query heads: the query-key operator of a head against its value-output operator.

    Args:
        a: mapped into the residual stream of `b`; (h, e, d) each.
        b: (h', e', d).
    """
    scores = []
    for left, right in (("q", "k"), ("v", "o")):
        A1, A2, B1, B2 = (getattr(x, name) for x in (a, b) for name in (left, right))
        inner = _by_heads(A1, B1) * _by_heads(A2, B2)  # (h, h', e, e')
        length = (_own(B1) * _own(B2)).sum((1, 2)).clamp_min(1e-30).sqrt()  # (h',), of the operator
        scores.append(inner.sum((2, 3)) / length)
    first, second = scores[0].argmax(1), scores[1].argmax(1)
    counts = torch.bincount(first[first == second], minlength=1)
    return Pairing(int(counts.clamp_max(1).sum()) / len(first), 1 / b.q.shape[0], first, second)


def _by_heads(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows, (h, e, d) with (h', e', d) -> (h, h', e, e')."""
    flat = product(a.flatten(0, 1), b.flatten(0, 1).T)
    return flat.reshape(a.shape[0], a.shape[1], b.shape[0], b.shape[1]).transpose(1, 2)


def _own(heads: Tensor) -> Tensor:
    """(h, e, e) Gram matrix of each head's rows."""
    return heads @ heads.transpose(1, 2)
