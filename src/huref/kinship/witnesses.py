"""Witnesses of kinship: do two layers pair the same neurons by criteria that know nothing of each other?

A trained network fixes what its neurons do together, but *which* gate sits with which up and down row is an accident
of its first weights. Match every neuron of A with one of B by what opens it, and again by what it reads or writes. In
kin the two matches are one neuron; in strangers they meet by chance, which is one in as many as there are candidates.

Gate, up and down rows give three pairings that each are a witness alone, and a fourth of all three. Who trains one
of them away leaves the others. The signs of `up` and `down` may be flipped together, so cosines are taken absolute
or multiplied; all rows are compared by their codes (`huref.fingerprints.codes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.codes import OPERATORS, LayerCodes, Packed, unpacked
from huref.numerics.arrays import Floats
from huref.numerics.cosine import cosine

MIN_NEURONS = 32
"""Fewer neurons than this say nothing."""

GATED = ("gate|up*down", "gate|up", "gate|down", "up|down")
"""The two criteria of every pairing of a block with a gate."""

UNGATED = ("up|down",)

_RESTS_ON = {
    "gate|up*down": ("gate|up", "gate|down"),
    "gate|up": ("gate|up",),
    "gate|down": ("gate|down",),
    "up|down": ("up|down",),
}
"""Which of a neuron's own rows have to be apart for a witness of a gated block to have two criteria."""

DEPENDENT = 0.4
"""Likeness of a neuron's own rows from which on, in both models, two criteria are one: trained models have at most
0.35 (`LayerCodes.dependences`)."""

_BLOCK = 1 << 21
"""Likenesses that are looked at together."""


@dataclass(frozen=True)
class Pairing:
    """How far two criteria agree on the partners of some neurons.

    Attributes:
        agreement: share of the tested neurons whose best partners by both criteria are one.
        partners: (n,) int64, the partner of each tested neuron, or -1 where the criteria disagree.
    """

    agreement: float
    partners: NDArray[np.int64]


@dataclass(frozen=True)
class Testimony:
    """What two layers say of each other.

    Attributes:
        pairings: by witness, whichever way they agree more: partners of A's neurons in B, or of B's in A.
        is_back: by witness, whether those are of B's neurons in A.
        chance: what blind choice gives: 1 / candidates of the smaller side.
        n_neurons: tested on the side that had fewer.
    """

    pairings: Mapping[str, Pairing]
    is_back: Mapping[str, bool]
    chance: float
    n_neurons: int

    @property
    def agreements(self) -> dict[str, float]:
        """By witness."""
        return {name: pairing.agreement for name, pairing in self.pairings.items()}

    @property
    def best(self) -> float:
        """Of the witness that agrees most; 0 where none can speak."""
        return max(self.agreements.values(), default=0.0)


def examine(a: LayerCodes, b: LayerCodes, most: int) -> Testimony:
    """Every pairing of two layers, both ways: where one side lost neurons or holds copies of them, only one way
    finds everybody a partner. A witness whose two criteria are one in both layers says nothing.

    Args:
        most: neurons of each side to find partners for; always the same ones for a layer of one size.
    """
    there, back = pair(a, b, sampled_rows(len(a), most)), pair(b, a, sampled_rows(len(b), most))
    there = {name: found for name, found in there.items() if not _is_one_criterion(name, a, b)}
    is_back = {name: back[name].agreement > found.agreement for name, found in there.items()}
    best = {name: back[name] if is_back[name] else found for name, found in there.items()}
    return Testimony(best, is_back, 1 / min(len(a), len(b)), min(len(a), len(b), most))


def pair(tested: LayerCodes, candidates: LayerCodes, rows: NDArray[np.int64]) -> dict[str, Pairing]:
    """By witness, the best partners of some neurons among all of another layer.

    A candidate counts for as many neurons as there are copies of it to be had, so that candidates which attract
    everybody, or are all alike, agree with nobody; a silent neuron has no partner.

    Args:
        rows: of the tested layer, ascending.
    """
    return paired(likest(tested, candidates, rows), tested.is_live[rows], fair_share(tested, candidates))


def fair_share(tested: LayerCodes, candidates: LayerCodes) -> int:
    """How many neurons may have one candidate for a partner: more than one where experts hold copies of it."""
    return max(1, -(-tested.n_copies // candidates.n_copies))


def paired(best: Mapping[str, NDArray[np.int64]], is_live: NDArray[np.bool_], fair: int) -> dict[str, Pairing]:
    """By witness, what some neurons' likest candidates make of them.

    Args:
        best: by criterion, (n,) the likest candidate of each.
        is_live: (n,) bool, whether the neuron has a direction.
        fair: how many of them a candidate counts for.
    """
    found = {}
    for name in GATED if "gate" in best else UNGATED:
        first, second = (best[criterion] for criterion in name.split("|"))
        agrees = (first == second) & is_live
        count = int(np.minimum(np.bincount(first[agrees]), fair).sum())
        found[name] = Pairing(count / max(1, len(is_live)), np.where(agrees, first, -1))
    return found


def likest(tested: LayerCodes, candidates: LayerCodes, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """By criterion, the likest candidate of every tested neuron, in blocks of them."""
    found: dict[str, list[NDArray[np.int64]]] = {}
    for likeness in _likenesses(tested, candidates, rows):
        for name, matrix in likeness.items():
            found.setdefault(name, []).append(matrix.argmax(axis=1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _is_one_criterion(name: str, a: LayerCodes, b: LayerCodes) -> bool:
    """Whether in both layers the two criteria of a witness look at rows that are alike."""
    is_gated = a.up is not None and b.up is not None
    rests = _RESTS_ON[name] if is_gated else ("gate|down",)
    return any(min(side.dependences[pair] for side in (a, b)) >= DEPENDENT for pair in rests)


def head_agreement(a: LayerCodes, b: LayerCodes) -> float | None:
    """Share of query heads whose best partners by query-key and value-output are one, the better way of two.

    None where a side has fewer than two heads that are not silent.
    """
    sides = [(unpacked(side.qk[live]), unpacked(side.vo[live])) for side in (a, b) for live in (_live_heads(side),)]
    if min(len(qk) for qk, _ in sides) < 2:
        return None
    shares = []
    for (qk, vo), (other_qk, other_vo) in (sides, sides[::-1]):
        first, second = (qk @ other_qk.T).argmax(axis=1), (vo @ other_vo.T).argmax(axis=1)
        shares.append(len(np.unique(first[first == second])) / len(first))
    return max(shares)


def operator_cosines(a: LayerCodes, b: LayerCodes) -> dict[str, float]:
    """Kind -> cosine of two layers' operators by their sketches, for those that both have and that are not zero."""
    return {
        kind: cosine(a.operators[kind], b.operators[kind])
        for kind in OPERATORS
        if kind in a.operators and kind in b.operators and a.operators[kind].any() and b.operators[kind].any()
    }


def sampled_rows(size: int, n: int) -> NDArray[np.int64]:
    """At most n of `size` row numbers, ascending."""
    if size <= n:
        return np.arange(size)
    dice = np.random.Generator(np.random.Philox(key=size))
    return np.sort(dice.choice(size, n, replace=False))


def _live_heads(side: LayerCodes) -> NDArray[np.bool_]:
    live: NDArray[np.bool_] = np.logical_and(side.qk.any(axis=1), side.vo.any(axis=1))
    return live


def _likenesses(tested: LayerCodes, candidates: LayerCodes, rows: NDArray[np.int64]) -> Iterator[dict[str, Floats]]:
    """By criterion, (block, m): how alike tested neurons and candidates are.

    Against a block without a gate, what opens a neuron stands for its reading too.
    """
    is_gated = tested.up is not None and candidates.up is not None
    gates, downs = _rows(candidates.gate).T, _rows(candidates.down).T
    ups = _rows(candidates.up).T if is_gated and candidates.up is not None else None
    step = max(1, _BLOCK // max(1, len(candidates)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]

        def seen(codes: Packed | Floats, others: Floats, block: NDArray[np.int64] = block) -> Floats:
            product: Floats = _rows(codes[block]) @ others
            return product

        gate, down = seen(tested.gate, gates), seen(tested.down, downs)
        if ups is None or tested.up is None:
            yield {"up": gate, "down": down}
            continue
        up = seen(tested.up, ups)
        yield {"gate": gate, "up*down": up * down, "up": np.abs(up, out=up), "down": np.abs(down, out=down)}


def _rows(part: Packed | Floats) -> Floats:
    """(n, bits) of +1 and -1 from codes; rows that are kept whole as they are."""
    return unpacked(cast(Packed, part)) if part.dtype == np.uint8 else cast(Floats, part)
