"""Whose neuron is whose, whose head is whose: partners by two criteria, and one partner each by assignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from huref.kinship.recovery.parts import AttentionRows, FeedForwardRows
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.sums import unit_length
from huref.kinship.recovery.transform import NONE
from huref.numerics.arrays import Floats
from huref.numerics.products import product
from huref.numerics.rows import row_products

_CHUNK = 1024
_MOST_LEFT = 1 << 25
"""Entries of the table over which neurons left without a partner are assigned one."""

_CLEAR, _AGREED = 4.0, 2.5
"""How many standard deviations of a neuron's other likenesses its partner must stand out by, in both criteria: where
the criteria do not agree on it, and where they do."""


@dataclass(frozen=True)
class Rows:
    """Neurons as unit rows in one stream: what opens them, what they read besides, what they write."""

    acts: Floats
    ups: Floats | None
    downs: Floats
    is_live: np.ndarray

    def take(self, chosen: np.ndarray | slice) -> Rows:
        """Some of the neurons."""
        return Rows(
            self.acts[chosen],
            None if self.ups is None else self.ups[chosen],
            self.downs[chosen],
            self.is_live[chosen],
        )


@dataclass(frozen=True)
class NeuronPartners:
    """For every neuron of B a neuron of A.

    Attributes:
        neurons: (f_b,) int64, or -1.
        first, second: (f_b,) int64, the best candidates by either criterion.
    """

    neurons: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def is_agreed(self) -> np.ndarray:
        """(f_b,) bool: both criteria name the partner."""
        agreed: np.ndarray = (self.neurons >= 0) & (self.first == self.neurons) & (self.second == self.neurons)
        return agreed


def unit_rows(rows: FeedForwardRows, stream: Stream, *, is_a: bool) -> Rows:
    """Rows for comparing directions, in the common stream."""
    move = stream.a if is_a else stream.b
    ups = None if rows.ups is None else unit_length(move(rows.ups[:, :-1]))
    return Rows(unit_length(move(rows.acts[:, :-1])), ups, unit_length(move(rows.downs)), rows.is_live)


def criteria(b: Rows, a: Rows) -> tuple[Floats, Floats]:
    """(n_b, n_a) likeness by what opens a neuron, and by what it then reads and writes.

    `up` and `down` may change sign together, so the second is the product of their cosines.
    """
    second = product(b.downs, a.downs.T)
    if b.ups is not None and a.ups is not None:
        second *= product(b.ups, a.ups.T)
    return product(b.acts, a.acts.T), second


def pair(b: Rows, a: Rows, blocks: Sequence[int]) -> NeuronPartners:
    """Partners of B's neurons in A; within a block (an expert) of B no neuron of A is taken twice.

    Mutual favourites are taken at once; the rest are assigned (Jonker-Volgenant) where the table is affordable, and
    keep a partner only if it stands out among all candidates by both criteria.
    """
    found = [_pair_block(b.take(slice(start, stop)), a) for start, stop in pairwise(accumulate(blocks, initial=0))]
    return NeuronPartners(*(np.concatenate([getattr(part, name) for part in found]) for name in _FIELDS))


_FIELDS = ("neurons", "first", "second")


def expert_map(neurons: np.ndarray, blocks_b: Sequence[int], blocks_a: Sequence[int]) -> np.ndarray:
    """(experts of B,) int32: the expert of A that most of a block's neurons came from, or -1."""
    owner = np.repeat(np.arange(len(blocks_a)), blocks_a)
    found = np.full(len(blocks_b), NONE, "<i4")
    for block, (start, stop) in enumerate(pairwise(accumulate(blocks_b, initial=0))):
        known = neurons[start:stop][neurons[start:stop] >= 0]
        votes = np.bincount(owner[known], minlength=len(blocks_a))
        if 2 * votes.max() > stop - start:
            found[block] = votes.argmax()
    return found


@dataclass(frozen=True)
class HeadPartners:
    """For every query head of B a head of A, and for every KV head.

    Attributes:
        heads, first, second: (h_b,) int64, as for neurons.
        groups: (g_b,) int64, or -1 where a group's heads do not come from one group.
    """

    heads: np.ndarray
    first: np.ndarray
    second: np.ndarray
    groups: np.ndarray

    @property
    def agreement(self) -> float:
        """Share of B's heads whose partner both criteria name."""
        return float(((self.first == self.heads) & (self.second == self.heads)).mean())


def carried(rows: AttentionRows, stream: Stream, *, is_a: bool) -> AttentionRows:
    """Heads without their biases, in the common stream."""
    move = stream.a if is_a else stream.b
    q, k, v = (move(part[..., :-1]) for part in (rows.q, rows.k, rows.v))
    return replace(rows, q=q, k=k, v=v, o=move(rows.o))


def head_likeness(b: AttentionRows, a: AttentionRows) -> tuple[Floats, Floats]:
    """(h_b, h_a) cosines of the heads' operators: `q^T k`, and `v^T o`. Rows in one stream, without biases."""
    qk = _operators(b.q, _spread(b.k, b), a.q, _spread(a.k, a))
    return qk, _operators(_spread(b.v, b), b.o, _spread(a.v, a), a.o)


def pair_heads(b: AttentionRows, a: AttentionRows) -> HeadPartners:
    """Partners of B's heads by assignment, kept where all heads of a KV group come from one group."""
    from scipy.optimize import linear_sum_assignment  # heavy, and only where models are explained

    qk, vo = head_likeness(b, a)
    both = (qk + vo).astype(np.float64)
    rows, columns = linear_sum_assignment(both, maximize=True)
    heads = np.full(len(qk), NONE)
    for row, column in zip(rows, columns, strict=True):
        if both[row, column] > _LIKE:
            heads[row] = column
    groups = np.full(len(b.k), NONE)
    for group in range(len(b.k)):
        mine = heads[group * b.per_group : (group + 1) * b.per_group]
        theirs = set((mine[mine >= 0] // a.per_group).tolist())
        if len(theirs) == 1:
            groups[group] = theirs.pop()
        else:
            heads[group * b.per_group : (group + 1) * b.per_group] = NONE
    return HeadPartners(heads, qk.argmax(1), vo.argmax(1), groups)


_LIKE = 0.1
"""Sum of the two cosines below which heads are not partners."""


def _pair_block(b: Rows, a: Rows) -> NeuronPartners:
    n_b, n_a = len(b.acts), len(a.acts)
    first, second, best = (np.empty(n_b, np.int64) for _ in range(3))
    stands_out = np.empty(n_b, np.float32)
    favourite, of = np.full(n_a, -np.inf, np.float32), np.full(n_a, NONE)
    for start in range(0, n_b, _CHUNK):
        here = slice(start, min(n_b, start + _CHUNK))
        G, W = criteria(b.take(here), a)
        both = _joint(G, W, b.is_live[here], a.is_live)
        first[here], second[here] = G.argmax(1), W.argmax(1)
        best[here] = both.argmax(1)
        stands_out[here] = np.minimum(_deviations(G, best[here]), _deviations(W, best[here]))
        value, row = both.max(0), both.argmax(0)
        is_more = value > favourite
        favourite[is_more], of[is_more] = value[is_more], row[is_more] + start
    is_mutual = (of[best] == np.arange(n_b)) & b.is_live & a.is_live[best]
    agrees = (first == best) & (second == best)
    kept = is_mutual & (stands_out >= np.where(agrees, _AGREED, _CLEAR))
    return NeuronPartners(_assign_rest(np.where(kept, best, NONE), b, a), first, second)


def _assign_rest(neurons: np.ndarray, b: Rows, a: Rows) -> np.ndarray:
    """Give those without a partner one of the neurons of A that are still free."""
    from scipy.optimize import linear_sum_assignment

    is_free = a.is_live.copy()
    is_free[neurons[neurons >= 0]] = False
    rows, columns = np.flatnonzero((neurons < 0) & b.is_live), np.flatnonzero(is_free)
    if not 0 < len(rows) * len(columns) <= _MOST_LEFT:
        return neurons
    some = b.take(rows)
    G, W = criteria(some, a)
    both = _joint(G, W, some.is_live, a.is_live)[:, columns]
    chosen, places = linear_sum_assignment(both, maximize=True)
    partners = columns[places]
    stands_out = np.minimum(_deviations(G[chosen], partners), _deviations(W[chosen], partners))
    kept = stands_out >= _CLEAR
    out = neurons.copy()
    out[rows[chosen[kept]]] = partners[kept]
    return out


def _joint(G: Floats, W: Floats, live_b: np.ndarray, live_a: np.ndarray) -> Floats:
    """Likeness by both criteria; a pair that is unlike by either has none, one with a part that is zero -1."""
    both = np.maximum(G, 0)
    both *= np.maximum(W, 0)
    both[~live_b] = -1
    both[:, ~live_a] = -1
    return both


def _deviations(likeness: Floats, chosen: np.ndarray) -> Floats:
    """How far a row's chosen entry stands above its others, in their standard deviations."""
    n = likeness.shape[1]
    value: Floats = np.take_along_axis(likeness, chosen[:, None], axis=1)[:, 0]
    if n < 3:
        return np.full_like(value, np.inf)
    mean = (likeness.sum(1) - value) / (n - 1)
    square = (row_products(likeness, likeness) - np.square(value)) / (n - 1)
    found: Floats = (value - mean) / np.sqrt(np.maximum(square - np.square(mean), 1e-12))
    return found


def _operators(B1: Floats, B2: Floats, A1: Floats, A2: Floats) -> Floats:
    inner = _by_heads(B1, A1)
    inner *= _by_heads(B2, A2)
    length = [_operator_length(P, Q) for P, Q in ((B1, B2), (A1, A2))]
    found: Floats = inner.sum((2, 3)) / np.maximum(length[0][:, None] * length[1][None, :], 1e-30)
    return found


def _operator_length(P: Floats, Q: Floats) -> Floats:
    """(h,) of heads (h, e, d)."""
    both = P @ P.transpose(0, 2, 1)
    both *= Q @ Q.transpose(0, 2, 1)
    length: Floats = np.sqrt(both.sum((1, 2)))
    return length


def _by_heads(b: Floats, a: Floats) -> Floats:
    """Inner products of rows, (h, e, d) with (h', e', d) -> (h, h', e, e')."""
    flat = product(b.reshape(-1, b.shape[2]), a.reshape(-1, a.shape[2]).T)
    return flat.reshape(b.shape[0], b.shape[1], a.shape[0], a.shape[1]).transpose(0, 2, 1, 3)


def _spread(kv: Floats, rows: AttentionRows) -> Floats:
    """Each KV head for every query head that uses it."""
    return np.repeat(kv, rows.per_group, axis=0)
