"""Two models side by side: the map between their residual streams, partners among layers, neurons and heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from huref.kinship.alignment.aligned import AVERAGED, aligned_scores, operators, rotation_deviation
from huref.kinship.alignment.layers import LayerPlan, plan_layers
from huref.kinship.alignment.pairing import Pairing, Stack, pair_heads, pair_layers
from huref.kinship.alignment.residual_map import ResidualMap, SharedRows, identity_map, procrustes_map, shared_rows
from huref.kinship.alignment.weights_map import weights_map
from huref.kinship.partners import match_layers
from huref.kinship.record import LayerMatch
from huref.kinship.witnesses import MIN_NEURONS, sampled_rows
from huref.model.layers import Heads, Neurons, read_heads, read_neurons
from huref.model.model import Model
from huref.model.tokens import MIN_TOKENS
from huref.numerics.arrays import quietly
from huref.progress import Progress, Report

CLEAR = 0.5
"""Agreement of the best half of the layers at which no other map is tried: strangers do not come near it."""

_MATCHING, _TESTED = 128, 2048
_SHALLOW, _MANY_PAIRS = 8, 256
"""Depth up to which every pair of layers is tried at once; pairs beyond which a third of the neurons match them."""

Reader = Callable[[int], Neurons]

_KEPT_LAYERS, _BLOCK = 4, 8192
_MOST_RESULTS, _MOST_ROWS = 1 << 22, 1 << 26


@dataclass(frozen=True)
class Relation:
    """What aligning two models shows.

    Attributes:
        where: the map between the residual streams.
        shared_tokens: token strings that both vocabularies have and that a map was sought by; 0: too few.
        layers: matched layers with their scores.
        table: (L_a, L_b) agreement over the neurons that layers were matched by; NaN where a pair was not tried.
        rotation_deviation: see `huref.kinship.alignment.aligned`.
        is_complete: whether every layer was tried with every other.
        tried: every map that was tried -> mean agreement of its best half of layers.
        silent: of A and of B: the share of neurons in the matched layers that are zero.
        copies: neurons of experts for each neuron of the dense block that they agree with, a mean; None where both
            sides are of one sort.
    """

    where: ResidualMap
    shared_tokens: int
    layers: tuple[LayerMatch, ...]
    table: np.ndarray
    rotation_deviation: float
    is_complete: bool
    tried: dict[str, float]
    silent: tuple[float, float] = (0.0, 0.0)
    copies: float | None = None

    @property
    def agreement(self) -> float:
        """Mean over the matched layers."""
        return float(np.mean([layer.agreement for layer in self.layers]))

    @property
    def aligned(self) -> float | None:
        """Mean over the matched layers and averaged kinds; None where every operator is silent."""
        scores = [layer.aligned[kind] for layer in self.layers for kind in AVERAGED if kind in layer.aligned]
        return float(np.mean(scores)) if scores else None

    @property
    def mismatched(self) -> np.ndarray:
        """Agreement of the pairs of layers that are not partners: this pair's own null."""
        left = self.table.copy()
        for layer in self.layers:
            left[layer.layer_a, layer.layer_b] = np.nan
        null: np.ndarray = left[~np.isnan(left)]
        return null


@quietly
def relate(
    a: Model,
    b: Model,
    asked: tuple[int, ...] | None = None,
    report: Report | None = None,
    readers: tuple[Reader, Reader] | None = None,
) -> Relation | str:
    """Align two models and compare what is aligned.

    Args:
        asked: layers of A to look at; None chooses them by what can be afforded.
        readers: of the neurons of A's and of B's layers, where somebody keeps them; else the last few are kept.

    Returns:
        The relation, or why there is none.

    Raises:
        NotFiniteError: NaN or infinity in what was read.
    """
    sizes = a.weights.geometry, b.weights.geometry
    if min(size.d_ff for size in sizes) < MIN_NEURONS:
        return f"fewer than {MIN_NEURONS} feed-forward neurons in a layer"
    plan = plan_layers(sizes[0].n_layers, sizes[1].n_layers, max(3 * s.d_ff * s.d_model for s in sizes), asked)
    pair = _Pair(a, b, plan, report, readers or (_reader(a, b), _reader(b, a)))
    best = pair.best_map()
    if best is None:
        return (
            f"no map between residual streams: other widths, fewer than {MIN_TOKENS} shared tokens, no like neurons"
        )
    where, table, tried = best
    layers = tuple(pair.test(where, i, j) for i, j in match_layers(table))
    if not layers:
        return "no layer of one has a partner in the other"
    deviation = rotation_deviation(max(size.d_model for size in sizes))
    silent, copies = pair.silent(layers), pair.copies(where, layers[0])
    return Relation(where, pair.n_shared, layers, table, deviation, pair.is_complete, tried, silent, copies)


class _Pair:
    """Two opened models, their layers read when asked for."""

    def __init__(
        self, a: Model, b: Model, plan: LayerPlan, report: Report | None, readers: tuple[Reader, Reader]
    ) -> None:
        self.a, self.b, self.plan, self.report = a, b, plan, report
        self.n_shared, self.is_complete = 0, plan.is_complete
        self.neurons_a, self.neurons_b = readers

    def best_map(self) -> tuple[ResidualMap, np.ndarray, dict[str, float]] | None:
        """The first map that leaves no doubt, else the one under which layers agree most; None if there is none."""
        tried: dict[str, float] = {}
        maps = self._maps()
        if self.is_deep:  # in kin whose layers stand where they stood, a strip of the table tells enough
            maps = list(maps)
            for where in maps:
                table = self._table(where, self._strip())
                tried[where.method] = _best_half(table)
                if bool((table.diagonal() >= CLEAR).all()):
                    self.is_complete = False
                    return where, table, tried
        best: tuple[float, ResidualMap, np.ndarray] | None = None
        for known in (*maps, None):
            chosen = known or self._from_weights()
            if chosen is None:
                break
            table = self._table(chosen, self.plan)
            found = tried[chosen.method] = _best_half(table)
            if best is None or found > best[0]:
                best = (found, chosen, table)
            if found >= CLEAR:
                break
        return None if best is None else (best[1], best[2], tried)

    def test(self, where: ResidualMap, i: int, j: int) -> LayerMatch:
        """Every score of a layer of A and its partner."""
        x, y = self.neurons_a(i), self.neurons_b(j)
        heads = tuple(read_heads(model.weights, layer) for model, layer in ((self.a, i), (self.b, j)))
        paired = _both_ways(x, y, where)
        scores = aligned_scores(operators(x, heads[0]), operators(y, heads[1]), where)
        of_heads = _pair_heads(heads[0], heads[1], where)
        place = _in_place(paired, sampled_rows(len(y if paired.is_back else x), _TESTED))
        return LayerMatch(i, j, paired.agreement, paired.chance, len(paired.first), of_heads, place, scores)

    def silent(self, layers: Sequence[LayerMatch]) -> tuple[float, float]:
        """Shares of neurons without a direction, A's and B's, in the first few matched layers."""
        seen = layers[:_KEPT_LAYERS]
        of_a = [1 - float(self.neurons_a(match.layer_a).is_live.mean()) for match in seen]
        of_b = [1 - float(self.neurons_b(match.layer_b).is_live.mean()) for match in seen]
        return float(np.mean(of_a)), float(np.mean(of_b))

    def copies(self, where: ResidualMap, match: LayerMatch) -> float | None:
        """How often a mixture's layer holds each neuron of a dense one that it holds at all."""
        x, y = self.neurons_a(match.layer_a), self.neurons_b(match.layer_b)
        if (x.n_copies > 1) == (y.n_copies > 1):
            return None
        sparse, dense, carry = (x, y, where.forward) if x.n_copies > 1 else (y, x, where.backward)
        candidates = Stack.of([_sample(dense, _TESTED)])
        partners = []
        for start in range(0, len(sparse), _BLOCK):
            block = sparse.take(np.arange(start, min(start + _BLOCK, len(sparse))))
            found = pair_layers(Stack.of([block], carry), candidates)[0][0]
            partners.append(found.first[found.first == found.second])
        held = np.concatenate(partners)
        return len(held) / len(np.unique(held)) if len(held) else None

    def _maps(self) -> Iterable[ResidualMap]:
        """The identity and the embeddings' map, where there are such."""
        rows = shared_rows(self.a, self.b)
        self.n_shared = 0 if rows is None else rows.n_tokens
        widths = [model.weights.geometry.d_model for model in (self.a, self.b)]
        if widths[0] == widths[1]:
            yield identity_map(rows)
        if rows is not None:
            yield procrustes_map(rows)

    @property
    def is_deep(self) -> bool:
        """Two models of one depth, so many layers that the whole table of their pairs is most of the work."""
        depths = [model.weights.geometry.n_layers for model in (self.a, self.b)]
        return self.plan.is_complete and depths[0] == depths[1] > _SHALLOW

    def _strip(self) -> LayerPlan:
        """Each layer with the one in its place and that one's neighbours."""
        n = len(self.plan.rows)
        return LayerPlan(self.plan.rows, tuple(tuple(range(max(0, i - 1), min(n, i + 2))) for i in range(n)), False)

    def _from_weights(self) -> ResidualMap | None:
        some = [self.plan.rows[int((k + 0.5) * len(self.plan.rows) / 4)] for k in range(min(4, len(self.plan.rows)))]
        if self.a.weights.geometry.n_layers == self.b.weights.geometry.n_layers:
            others = some
        else:
            others = sorted({j for i in some for j in self.plan.windows[self.plan.rows.index(i)]})
        return weights_map([self.neurons_a(i) for i in some], [self.neurons_b(j) for j in others])

    def _table(self, where: ResidualMap, plan: LayerPlan) -> np.ndarray:
        """Agreement of a sample of neurons for every planned pair of layers, the better way of two."""
        table = np.full((self.a.weights.geometry.n_layers, self.b.weights.geometry.n_layers), np.nan)
        n = _MATCHING if sum(map(len, plan.windows)) <= _MANY_PAIRS else _MATCHING // 3
        for done, (rows, some) in enumerate(blocks := self._blocks(plan)):
            if self.report:
                self.report(Progress(f"pairing neurons, map by {where.method}", done, len(blocks), "block of layers"))
            others = [self.neurons_b(j) for j in some]
            whole, sample = Stack.of(others), Stack.of([_sample(y, n) for y in others], where.backward)
            for i in rows:
                x = self.neurons_a(i)
                there = pair_layers(Stack.of([_sample(x, n)], where.forward), whole)[0]
                back = pair_layers(sample, Stack.of([x]))
                best = [max(one.agreement, other[0].agreement) for one, other in zip(there, back, strict=True)]
                table[i, list(some)] = best
        return table

    def _blocks(self, plan: LayerPlan) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Layers of A with the layers of B that go through one product together."""
        sizes, windows = self.b.weights.geometry, dict[tuple[int, ...], list[int]]()
        for i, window in zip(plan.rows, plan.windows, strict=True):
            windows.setdefault(window, []).append(i)
        at_once = max(1, min(_MOST_RESULTS // (_MATCHING * sizes.d_ff), _MOST_ROWS // (sizes.d_ff * sizes.d_model)))
        return [
            (tuple(rows), some)
            for window, rows in windows.items()
            for alike in _by_width(window, self.b)
            for some in _chunks(alike, at_once)
        ]


def _reader(model: Model, other: Model) -> Reader:
    """Reads the neurons of a model's layers and keeps the last few."""
    per_layer = max(3 * g.d_ff * g.d_model for g in (model.weights.geometry, other.weights.geometry))
    kept = max(_KEPT_LAYERS, (1 << 28) // per_layer)
    return lru_cache(kept)(lambda layer: read_neurons(model.weights, layer))


def _by_width(window: tuple[int, ...], model: Model) -> list[tuple[int, ...]]:
    """Layers of equally many neurons: a model of experts may have dense layers too."""
    groups: dict[int, list[int]] = {}
    for j in window:
        groups.setdefault(model.weights.n_neurons(j), []).append(j)
    return [tuple(group) for n, group in groups.items() if n]


def _chunks(items: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _both_ways(x: Neurons, y: Neurons, where: ResidualMap) -> Pairing:
    """Partners of A's neurons in B or of B's in A, whichever way they agree more.

    Where one side lost neurons or holds copies of them, only one way finds everybody a partner.
    """
    there = pair_layers(Stack.of([_sample(x, _TESTED)], where.forward), Stack.of([y]))[0][0]
    if there.agreement == 1.0:
        return there
    back = pair_layers(Stack.of([_sample(y, _TESTED)], where.backward), Stack.of([x]))[0][0]
    return max(there, replace(back, is_back=True), key=lambda found: found.agreement)


def _in_place(paired: Pairing, rows: NDArray[np.int64]) -> float | None:
    """Share of the agreeing neurons whose partner has their own number."""
    agreeing = paired.first == paired.second
    return float((paired.first == rows)[agreeing].mean()) if agreeing.any() else None


def _pair_heads(x: Heads, y: Heads, where: ResidualMap) -> float | None:
    """Agreement of the heads of two layers, both ways; None where there are too few to tell, or they are silent."""
    is_silent = not all(part.any() for heads in (x, y) for part in (heads.q, heads.o))
    if min(x.q.shape[0], y.q.shape[0]) < 2 or is_silent:
        return None
    there = pair_heads(Heads(*(where.forward(part) for part in (x.q, x.k, x.v, x.o))), y)
    back = pair_heads(Heads(*(where.backward(part) for part in (y.q, y.k, y.v, y.o))), x)
    return max(there.agreement, back.agreement)


def _sample(layer: Neurons, n: int) -> Neurons:
    """At most n neurons, always the same ones for a layer of one size."""
    return layer if len(layer) <= n else layer.take(sampled_rows(len(layer), n))


def _best_half(table: np.ndarray) -> float:
    """Mean agreement of the better half of the matched layers: part of a model may come from elsewhere."""
    found = sorted((table[i, j] for i, j in match_layers(table)), reverse=True)
    return float(np.mean(found[: (len(found) + 1) // 2])) if found else 0.0


__all__ = ["CLEAR", "Relation", "SharedRows", "relate"]
