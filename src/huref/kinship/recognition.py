"""Two models' codes side by side: which layers are partners, and how many of their neurons are.

Codes of one frame need no map between the models. A few neurons of every layer tell which layer is whose partner; of
the partners more are tested, by every witness and both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.codes import LayerCodes
from huref.kinship.partners import match_layers
from huref.kinship.record import FRAMES, LayerMatch
from huref.kinship.witnesses import Testimony, examine, head_agreement, operator_cosines, pair, sampled_rows
from huref.numerics.threads import in_two
from huref.progress import Progress, Report

T = TypeVar("T")

CLEAR = 0.5
"""Agreement of the better half of the layers at which nothing else is tried: strangers do not come near it."""

NO_PARTNERS = (
    "no layers can be partners by two criteria: they stand in other places, or a neuron's own rows are alike in both"
)

TURNED_BY = 128
"""Neurons of one layer that tell whether a stream was turned."""

AVERAGED = ("qk", "vo", "up_down")

_MATCHING = 64
"""Neurons that layers are matched by, of each side."""

_TESTED, _FEWEST, _MOST = 4096, 128, 2048
"""Neurons tested of all matched layers together, and of one layer at least and at most."""

_ENOUGH = 1536
"""Neurons of all matched layers together that are enough: those that layers were matched by, of deep models."""

_ALL_PAIRS, _FEW_ROWS = 64, 4
"""Pairs of layers that are all tried; layers that are tried with others where none stands in its place."""

_STRANGERS = 8
"""Layers of models that show no kinship that are looked at; half of the neurons that kin's are tested by."""

_BLOCK = 32
"""Pairs of layers between two messages of progress."""

_TRACE = 0.05
"""Agreement of a pair of layers that strangers do not reach: layers came or went, and all of them are looked for."""


@dataclass(frozen=True)
class Coded:
    """One model's codes in one frame.

    Attributes:
        n_layers: its depth.
        layers: whose codes there are, ascending.
        read: the codes of one of them.
    """

    n_layers: int
    layers: tuple[int, ...]
    read: Callable[[int], LayerCodes]


@dataclass(frozen=True)
class Recognition:
    """What the codes of two models show.

    Attributes:
        method: where the frame is from.
        layers: matched layers with their scores, by the witness that agrees most over all of them.
        witnesses: by name, the mean agreement over the matched layers.
        table: (L_a, L_b) agreement of the best witness over the neurons that layers were matched by; NaN where a
            pair was not tried.
        is_complete: whether every layer was tried with every other.
        silent: of A and of B: the share of neurons in the matched layers that are zero.
        copies: neurons of experts for each neuron of the dense block that they agree with; None where both sides are
            of one sort.
    """

    method: str
    layers: tuple[LayerMatch, ...]
    witnesses: Mapping[str, float]
    table: np.ndarray
    is_complete: bool
    silent: tuple[float, float] = (0.0, 0.0)
    copies: float | None = None

    @property
    def witness(self) -> str:
        """The one that agrees most."""
        return max(self.witnesses, key=self.witnesses.__getitem__)

    @property
    def agreement(self) -> float:
        """Of that witness."""
        return max(self.witnesses.values())

    @property
    def aligned(self) -> float | None:
        """Mean over the matched layers and kinds of operators; None where every operator is silent."""
        scores = [layer.aligned[kind] for layer in self.layers for kind in AVERAGED if kind in layer.aligned]
        return float(np.mean(scores)) if scores else None

    @cached_property
    def mismatched(self) -> np.ndarray:
        """Agreement of the pairs of layers that are not partners: this pair's own null."""
        left = self.table.copy()
        for layer in self.layers:
            left[layer.layer_a, layer.layer_b] = np.nan
        null: np.ndarray = left[~np.isnan(left)]
        return null


@dataclass(frozen=True)
class Recognised:
    """The frame that shows most, and what was tried.

    Attributes:
        found: in that frame.
        shared_tokens: strings that the samples of both models have, 0 where they are too few to make a frame.
        tried: every frame that was tried -> agreement in it.
        is_turned: neurons agree there, and not dimension by dimension of streams of one width.
        aligned: of the frame, or of the first that has operators, where it has none.
    """

    found: Recognition
    shared_tokens: int
    tried: Mapping[str, float]
    is_turned: bool = False
    aligned: float | None = None


def best_of(tried: Mapping[str, Recognition]) -> Recognised:
    """The frame that shows most, beside what unrelated models show in it, of one or more."""
    best = max(tried.values(), key=lambda each: each.agreement / FRAMES[each.method].accused_from)
    aligned = next((each.aligned for each in (best, *tried.values()) if each.aligned is not None), None)
    return Recognised(best, 0, {name: each.agreement for name, each in tried.items()}, aligned=aligned)


def recognise(
    a: Coded, b: Coded, method: str, asked: tuple[int, ...] | None = None, report: Report | None = None
) -> Recognition | None:
    """Match the layers of two models and count the neurons that have one partner.

    Args:
        method: where the frame is from.
        asked: layers of A that the user named; each is compared with every layer of B.

    Returns:
        None where no layer of one can be compared with one of the other, or no witness has two criteria.
    """
    table = _Table(a, b, method, report)
    table.fill(asked)
    matched = match_layers(table.ranks)
    if not matched:
        return None
    is_kin = table.best_half >= CLEAR
    if not is_kin:  # of strangers a few layers say enough, evenly spaced
        matched = _spread(matched, _STRANGERS)
    if len(matched) * _MATCHING >= _ENOUGH:
        most, found = _MATCHING, [(i, j, table.said[i, j]) for i, j in matched]
    else:
        most = int(np.clip((_TESTED if is_kin else _TESTED // 2) // len(matched), _FEWEST, _MOST))
        found = in_two(matched, lambda pair: (*pair, examine(a.read(pair[0]), b.read(pair[1]), most)))
    names = [name for name in found[0][2].agreements if all(name in said.agreements for _, _, said in found)]
    if not names:
        return None
    witnesses = {name: float(np.mean([said.agreements[name] for _, _, said in found])) for name in names}
    best = max(witnesses, key=witnesses.__getitem__)
    layers = tuple(_layer_match(a, b, i, j, said, best, most) for i, j, said in found)
    seen = [(a.read(i), b.read(j)) for i, j in matched[:4]]
    silent = tuple(float(np.mean([1 - side[k].is_live.mean() for side in seen])) for k in (0, 1))
    return Recognition(
        method,
        layers,
        witnesses,
        table.values,
        table.is_complete,
        (silent[0], silent[1]),
        _copies(*seen[0], best),
    )


class _Table:
    """Agreement of layers by few neurons, filled as far as is needed to match them.

    Attributes:
        values: (L_a, L_b) of the best witness, NaN where a pair was not tried.
        said: by pair, what was heard.
        ranks: the same, and of equals those before others that more witnesses speak for: what layers are matched by.
    """

    def __init__(self, a: Coded, b: Coded, method: str, report: Report | None) -> None:
        self.a, self.b, self.method, self.report = a, b, method, report
        self.values = np.full((a.n_layers, b.n_layers), np.nan)
        self.ranks = self.values.copy()
        self.said: dict[tuple[int, int], Testimony] = {}
        self.is_complete = False

    @property
    def best_half(self) -> float:
        """Mean agreement of the better half of the matched layers: part of a model may come from elsewhere."""
        found = sorted((self.values[i, j] for i, j in match_layers(self.values)), reverse=True)
        return float(np.mean(found[: (len(found) + 1) // 2])) if found else 0.0

    @property
    def _highest(self) -> float:
        return float(np.nan_to_num(self.values).max(initial=0.0))

    def fill(self, asked: tuple[int, ...] | None) -> None:
        """Every pair where they are few; else those in place, and more where these are not clear."""
        rows = self.a.layers if asked is None else tuple(i for i in asked if i in self.a.layers)
        columns = self.b.layers
        if asked is not None or len(rows) * len(columns) <= _ALL_PAIRS:
            self._try((i, j) for i in rows for j in columns)
            self.is_complete = len(rows) == self.a.n_layers and len(columns) == self.b.n_layers
            return
        shift = self.b.n_layers - self.a.n_layers
        some = _spread(rows, _STRANGERS)
        self._try((i, i + at) for i in some for at in (0, shift))
        if not shift and self._highest >= _TRACE:
            self._try([*((i, i) for i in rows), *((i, i + 1) for i in some)])
            if bool((self.values[rows, rows] >= CLEAR).all()):
                return  # layers stand where they stood, and their neighbours are a null
        few = _spread(rows, _FEW_ROWS)
        self._try((i, j) for i in few for j in columns if self._is_near(i, j))
        if self._highest >= _TRACE:
            self._try((i, j) for i in rows for j in columns if self._is_near(i, j))

    def _is_near(self, i: int, j: int) -> bool:
        """Whether a layer of B may be A's layer i after as many came or went as the depths differ by."""
        shift = self.b.n_layers - self.a.n_layers
        if not shift:
            return True
        return min(0, shift) - 1 <= j - i <= max(0, shift) + 1

    def _try(self, pairs: Iterable[tuple[int, int]]) -> None:
        left = sorted({(i, j) for i, j in pairs if self._is_open(i, j)})
        for start in range(0, len(left), _BLOCK):
            if self.report:
                self.report(Progress(f"pairing neurons, frame by {self.method}", start, len(left), "pair of layers"))
            block = left[start : start + _BLOCK]
            for (i, j), said in zip(block, in_two(block, self._examine), strict=True):
                self.said[i, j] = said
                self.values[i, j] = said.best
                spoken = list(said.agreements.values())
                self.ranks[i, j] = said.best + (1e-3 * float(np.mean(spoken)) if spoken else 0.0)

    def _examine(self, pair: tuple[int, int]) -> Testimony:
        return examine(self.a.read(pair[0]), self.b.read(pair[1]), _MATCHING)

    def _is_open(self, i: int, j: int) -> bool:
        return i in self.a.layers and j in self.b.layers and bool(np.isnan(self.values[i, j]))


def _spread(items: Sequence[T], n: int) -> list[T]:
    """At most n of some items, evenly spaced."""
    return list(items) if len(items) <= n else [items[int((k + 0.5) * len(items) / n)] for k in range(n)]


def _layer_match(a: Coded, b: Coded, i: int, j: int, said: Testimony, best: str, most: int) -> LayerMatch:
    x, y = a.read(i), b.read(j)
    tested = sampled_rows(len(y if said.is_back[best] else x), most)
    return LayerMatch(
        i,
        j,
        said.agreements[best],
        said.chance,
        len(tested),
        head_agreement(x, y),
        _in_place(said.pairings[best].partners, tested),
        operator_cosines(x, y),
        said.agreements,
    )


def _in_place(partners: NDArray[np.int64], rows: NDArray[np.int64]) -> float | None:
    """Share of the agreeing neurons whose partner has their own number."""
    agreeing = partners >= 0
    return float((partners == rows)[agreeing].mean()) if agreeing.any() else None


def _copies(x: LayerCodes, y: LayerCodes, witness: str) -> float | None:
    """How often a mixture's layer holds each neuron of a dense one that it holds at all."""
    if (x.n_copies > 1) == (y.n_copies > 1):
        return None
    sparse, dense = (x, y) if x.n_copies > 1 else (y, x)
    partners = pair(sparse, dense, np.arange(len(sparse)))[witness].partners
    held = partners[partners >= 0]
    return len(held) / len(np.unique(held)) if len(held) else None
