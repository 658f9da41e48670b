"""Two opened models in, the transform between them out, one layer after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from huref.kinship.alignment import Relation, relate
from huref.kinship.recovery.maps import neuron_scales, query_key_map, value_output_map
from huref.kinship.recovery.matching import CLEAR_LAYER, attention_map, feed_forward_map, settle_stream, shared_ids
from huref.kinship.recovery.partners import carried, expert_map, pair, pair_heads, unit_rows
from huref.kinship.recovery.parts import (
    AttentionRows,
    Branch,
    FeedForwardRows,
    heads_reading,
    is_silent,
    neurons_reading,
    read_attention,
    read_feed_forward,
)
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.transform import LayerTransform
from huref.model.arch.weights import CanonicalWeights
from huref.model.model import Model
from huref.numerics.arrays import Array, quietly
from huref.progress import Progress, Report

Shown = Callable[[LayerTransform, Stream, Branch, Callable[[int], Branch]], None]
"""Is shown a layer as far as it is known, and the rows of the branch that was found last, B's and a reader of A's."""


@dataclass(frozen=True)
class Recovered:
    """The transform that made B of A.

    Attributes:
        stream: the map between the two residual streams.
        layers: those of B that were asked for.
        ids: rows of B and of A that stand for the same strings; None where too few do.
    """

    stream: Stream
    layers: tuple[LayerTransform, ...]
    ids: tuple[np.ndarray, np.ndarray] | None


@quietly
def recover(
    a: Model, b: Model, asked: Sequence[int] | None = None, report: Report | None = None, shown: Shown | None = None
) -> Recovered | str:
    """Recover what was done to A to make B.

    Args:
        asked: layers of B; None for all.
        shown: is called with each branch that was found, while its rows are at hand.

    Returns:
        The transform, or why there is none: nothing of B agrees with anything of A.

    Raises:
        NotFiniteError: NaN or infinity in what was read.
    """
    for model in (a, b):
        if reason := obstacle(model.name, model.weights):
            return reason
    relation = relate(a, b, report=report)
    if isinstance(relation, str):
        return relation
    if not any(match.agreement >= CLEAR_LAYER for match in relation.layers):
        return _too_few(relation)
    ids = shared_ids(b, a)
    work = _Work(a, b, settle_stream(b, a, relation, ids), report, shown)
    layers = work.layers(relation, range(b.weights.geometry.n_layers) if asked is None else asked)
    if not any(layer.feed_forward >= 0 for layer in layers):
        return _too_few(relation)
    return Recovered(work.stream, tuple(layers), ids)


def obstacle(name: str, weights: CanonicalWeights) -> str:
    """Why no transform of a model is recovered, whatever the other one is; empty where one can be."""
    sizes = weights.geometry
    if weights.architecture.nope_dim:
        return f"{name} has latent attention, whose factors are not told apart"
    layers = range(sizes.n_layers)
    if not all(weights.has(layer, "down") for layer in layers):
        return f"{name} has layers without a feed-forward block, by which layers are found"
    query, width = f"{sizes.n_heads} x {sizes.head_dim}", sizes.n_heads * sizes.head_dim
    if any(weights.shape(f"layers.{layer}.q")[0] != width for layer in layers if weights.has(layer, "q")):
        return f"{name} has layers with other heads than {query}"
    return ""


def _too_few(relation: Relation) -> str:
    best = max((match.agreement for match in relation.layers), default=0.0)
    return f"{100 * best:.1f} % of the neurons at most; blind choice gives {100 * relation.layers[0].chance:.1f} %"


@dataclass
class _Work:
    """Recovers one layer after the other."""

    a: Model
    b: Model
    stream: Stream
    report: Report | None
    shown: Shown | None

    def __post_init__(self) -> None:
        self._heads_of_a = lru_cache(2)(lambda i: read_attention(self.a.weights, i))
        self._neurons_of_a = lru_cache(2)(lambda i: read_feed_forward(self.a.weights, i))

    def layers(self, relation: Relation, asked: Sequence[int]) -> list[LayerTransform]:
        """Every layer that was asked for."""
        feeds = feed_forward_map(relation, self.b.weights.geometry.n_layers)
        attends = attention_map(
            self.b, self.a, self.stream, feeds, lambda model, layer: is_silent(model.weights, layer, "o")
        )
        found = []
        for done, j in enumerate(asked):
            if self.report:
                self.report(Progress("undoing", done, len(asked), "layer"))
            found.append(self._layer(j, feeds[j], attends[j]))
        return found

    def _layer(self, j: int, feeds: int, attends: int) -> LayerTransform:
        silent = tuple(
            name
            for name, role in (("attention", "o"), ("feed_forward", "down"))
            if is_silent(self.b.weights, j, role)
        )
        layer = LayerTransform(j, silent=silent)
        if feeds >= 0 and "feed_forward" not in silent:
            rows, theirs = read_feed_forward(self.b.weights, j), self._neurons_of_a(feeds)
            layer = self._with_neurons(layer, feeds, neurons_reading(rows, self.stream.transform.scale), theirs)
            if layer.feed_forward >= 0 and self.shown:
                self.shown(layer, self.stream, rows, self._neurons_of_a)
        if attends >= 0 and (layer.feed_forward >= 0 or attends != feeds):
            heads, of = read_attention(self.b.weights, j), self._heads_of_a(attends)
            layer = self._with_heads(layer, attends, heads_reading(heads, self.stream.transform.scale), of)
            if layer.attention >= 0 and self.shown:
                self.shown(layer, self.stream, heads, self._heads_of_a)
        return layer

    def _with_neurons(self, layer: LayerTransform, of: int, b: FeedForwardRows, a: FeedForwardRows) -> LayerTransform:
        rows = unit_rows(b, self.stream, is_a=False), unit_rows(a, self.stream, is_a=True)
        pairs = pair(*rows, b.blocks)
        if int(pairs.is_agreed.sum()) < CLEAR_LAYER * max(1, int(b.is_live.sum())):
            return layer
        chosen = np.flatnonzero(pairs.neurons >= 0)
        scales = np.zeros(len(pairs.neurons), "<f4")
        scales[chosen] = neuron_scales(b, a, self.stream, chosen, pairs.neurons[chosen])
        neurons = pairs.neurons.astype("<i4")
        return replace(
            layer,
            feed_forward=of,
            neurons=neurons,
            first=pairs.first.astype("<i4"),
            second=pairs.second.astype("<i4"),
            scales=scales,
            experts=expert_map(neurons, b.blocks, a.blocks),
        )

    def _with_heads(self, layer: LayerTransform, of: int, b: AttentionRows, a: AttentionRows) -> LayerTransform:
        if b.k.shape[1] != a.k.shape[1]:
            return layer
        mine, theirs = (
            carried(b, self.stream, is_a=False),
            carried(a, self.stream, is_a=True),
        )
        pairs = pair_heads(mine, theirs)
        families = self.b.weights.architecture, self.a.weights.architecture
        qk, commutes = query_key_map(mine, theirs, pairs, families)
        vo = value_output_map(mine, theirs, pairs, self.stream.transform.scale)
        return replace(
            layer,
            attention=of,
            heads=pairs.heads.astype("<i4"),
            heads_first=pairs.first.astype("<i4"),
            heads_second=pairs.second.astype("<i4"),
            groups=pairs.groups.astype("<i4"),
            qk=_maps(qk),
            vo=_maps(vo),
            commutes=commutes,
        )


def _maps(maps: Array) -> np.ndarray | None:
    """float32; None where all are the identity."""
    return None if (maps == np.eye(maps.shape[1])).all() else maps.astype("<f4")
