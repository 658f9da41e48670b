"""Which stream, which layers: the coarse part of a transform, from what `huref.kinship.alignment` found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from huref.errors import TokenizerError
from huref.kinship.alignment import Relation
from huref.kinship.alignment.residual_map import polar
from huref.kinship.recovery.partners import NeuronPartners, carried, pair, pair_heads, unit_rows
from huref.kinship.recovery.parts import FeedForwardRows, read_attention, read_embedding, read_feed_forward
from huref.kinship.recovery.stream import Stream, candidates
from huref.kinship.recovery.sums import dot, unit_length
from huref.kinship.recovery.transform import NONE, ROTATION, ResidualTransform
from huref.model.model import Model
from huref.model.tokens import shared
from huref.numerics.arrays import Array, Floats
from huref.numerics.cosine import cosine
from huref.numerics.rows import row_products

CLEAR_LAYER = 0.25
"""Share of a layer's neurons that must have one partner by both criteria: twice what networks reach that learned the
same from the same text (over all layers of a pair at most 0.09: docs/explanation/verdict.md)."""

_POLISHING = 4
_SAMPLED_TOKENS = 4096
_NO_SCALE = 1e-3
_SAME_SCALE = 0.02
_LEAST_GAIN = 1e-5


def shared_ids(b: Model, a: Model) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of B and of A that stand for the same strings, by A's number; None where too few are shared."""
    try:
        left, right = shared(b.vocabulary, a.vocabulary, max(b.n_rows, a.n_rows), (b.n_rows, a.n_rows))
    except TokenizerError:
        return None
    order = np.argsort(right.ids)
    return left.ids[order].astype(np.int64), right.ids[order].astype(np.int64)


@dataclass(frozen=True)
class Sample:
    """Matched neurons of a few layers of both models, from which the map of the stream is settled."""

    rows: tuple[FeedForwardRows, FeedForwardRows]
    pairs: NeuronPartners

    @property
    def chosen(self) -> tuple[np.ndarray, np.ndarray]:
        """Neurons of B, and theirs of A."""
        mine = np.flatnonzero(self.pairs.is_agreed)
        return mine, self.pairs.neurons[mine]


def settle_stream(b: Model, a: Model, relation: Relation, ids: tuple[np.ndarray, np.ndarray] | None) -> Stream:
    """The simplest map under which what the map was not fitted to agrees as well as under any.

    An orthogonal map is fitted, in double precision, to embeddings and to what opens the neurons; whether it is
    better than an order with signs, or than nothing, is asked of what the neurons read besides and write.
    """
    start = _found_by(relation, b, a)
    first = Stream(start)
    samples = [_sample(b, a, j, i, first) for i, j in _best_layers(relation)]
    R = polar(cross_products(b, a, samples, ids if relation.where.method != "weights" else None))
    is_layer_norm = all(model.weights.architecture.norm == "layer" for model in (a, b))
    tried = [replace(each, method=start.method) for each in candidates(R, is_layer_norm)]
    errors = [_held_out(samples, Stream(each)) for each in tried]
    chosen = next(
        each for each, error in zip(tried, errors, strict=True) if error <= 1.05 * min(errors) + _LEAST_GAIN
    )
    stream = Stream(replace(chosen, embeddings=_embedding_cosine(b, a, Stream(chosen), ids)))
    return Stream(replace(stream.transform, scale=_scale(b, a, samples, stream, ids)))


def feed_forward_map(relation: Relation, n_layers: int) -> list[int]:
    """For every layer of B the layer of A whose neurons it has, or -1; a layer of A may have several copies in B.

    Layers that were not tried are taken to follow their neighbours: their own agreement decides later.
    """
    table, found = relation.table, [NONE] * n_layers
    for match in relation.layers:
        if table[match.layer_a, match.layer_b] >= CLEAR_LAYER:
            found[match.layer_b] = match.layer_a
    is_tried = ~np.isnan(table)
    for j in range(n_layers):
        if found[j] == NONE and is_tried[:, j].any():
            best = int(np.nanargmax(table[:, j]))
            found[j] = best if table[best, j] >= CLEAR_LAYER else NONE
    known = [j for j in range(n_layers) if found[j] != NONE]
    for j in range(n_layers):
        if not relation.is_complete and not is_tried[:, j].all() and found[j] == NONE and known:
            nearest = min(known, key=lambda k: abs(k - j))
            guess = found[nearest] + j - nearest
            found[j] = guess if 0 <= guess < table.shape[0] else NONE
    return found


def attention_map(
    b: Model, a: Model, stream: Stream, layers: list[int], is_silent: Callable[[Model, int], bool]
) -> list[int]:
    """For every layer of B the layer of A whose heads it has, or -1.

    Mostly the one whose neurons it has; where that one, or this layer, only feeds forward (a layer split in two),
    the neighbour whose heads agree.
    """
    found = [NONE] * len(layers)
    for j in range(len(layers)):
        if is_silent(b, j):
            continue
        if layers[j] >= 0 and not is_silent(a, layers[j]):
            found[j] = layers[j]
            continue
        near = {
            layers[k] + step
            for k in (j, j - 1, j + 1)
            if 0 <= k < len(layers)
            for step in (0, -1, 1)
            if layers[k] >= 0
        }
        tried = [i for i in sorted(near) if 0 <= i < a.weights.geometry.n_layers and not is_silent(a, i)]
        agreements = {i: _head_agreement(b, a, j, i, stream) for i in tried}
        best = max(agreements, key=lambda i: agreements[i], default=NONE)
        found[j] = best if best >= 0 and agreements[best] >= 0.5 else NONE
    return found


def _head_agreement(b: Model, a: Model, j: int, i: int, stream: Stream) -> float:
    mine = carried(read_attention(b.weights, j), stream, is_a=False)
    theirs = carried(read_attention(a.weights, i), stream, is_a=True)
    return pair_heads(mine, theirs).agreement if len(mine.q) > 1 else 0.0


def _found_by(relation: Relation, b: Model, a: Model) -> ResidualTransform:
    R = relation.where.R
    d_a, d_b = a.weights.geometry.d_model, b.weights.geometry.d_model
    if R is None:
        return ResidualTransform("identity", d_a, d_b)
    return ResidualTransform(ROTATION, d_a, d_b, rotation=R, method=relation.where.method)


def _best_layers(relation: Relation) -> list[tuple[int, int]]:
    """A few matched layers that leave no doubt, from all over the model: (A's, B's)."""
    clear = [(m.layer_a, m.layer_b) for m in relation.layers if m.agreement >= CLEAR_LAYER]
    places = np.unique(np.linspace(0, len(clear) - 1, min(_POLISHING, len(clear))).round().astype(int))
    return [clear[k] for k in places]


def _sample(b: Model, a: Model, j: int, i: int, stream: Stream) -> Sample:
    mine, theirs = read_feed_forward(b.weights, j), read_feed_forward(a.weights, i)
    pairs = pair(unit_rows(mine, stream, is_a=False), unit_rows(theirs, stream, is_a=True), mine.blocks)
    return Sample((mine, theirs), pairs)


def cross_products(b: Model, a: Model, samples: list[Sample], ids: tuple[np.ndarray, np.ndarray] | None) -> Array:
    """(d_a, d_b) float64: outer products of unit rows that open partners, and as much of embeddings."""
    C = np.zeros((a.weights.geometry.d_model, b.weights.geometry.d_model))
    for sample in samples:
        mine, theirs = sample.chosen
        left, right = (
            unit_length(rows.acts[chosen, :-1].astype(np.float64))
            for rows, chosen in ((sample.rows[1], theirs), (sample.rows[0], mine))
        )
        C += left.T @ right
    if ids is not None:
        X = [_centred_rows(model, some) for model, some in ((a, ids[1]), (b, ids[0]))]
        C += X[0].T @ X[1] * max(1, sum(len(sample.chosen[0]) for sample in samples))
    return C


def _centred_rows(model: Model, ids: np.ndarray) -> Array:
    rows: Array = read_embedding(model.weights, _spread_out(ids)).astype(np.float64)
    rows -= rows.mean(0)
    rows /= max(dot(rows, rows) ** 0.5, 1e-30)
    return rows


def _spread_out(ids: np.ndarray) -> np.ndarray:
    """At most so many of the ids, evenly spaced."""
    return ids[np.linspace(0, len(ids) - 1, min(len(ids), _SAMPLED_TOKENS)).astype(np.int64)]


def _held_out(samples: list[Sample], stream: Stream) -> float:
    """One less the mean likeness of what partners read besides and write; a map that negates what opens them is none.

    A stream that is negated as a whole negates what a gated neuron reads besides and what it writes: their product
    does not see it.
    """
    likeness = []
    for sample in samples:
        mine, theirs = sample.chosen
        b, a = unit_rows(sample.rows[0], stream, is_a=False), unit_rows(sample.rows[1], stream, is_a=True)
        one = row_products(b.downs[mine], a.downs[theirs])
        if b.ups is not None and a.ups is not None:
            one = one * row_products(b.ups[mine], a.ups[theirs]) * np.sign(row_products(b.acts[mine], a.acts[theirs]))
        likeness.append(one)
    return 1 - float(np.concatenate(likeness).mean()) if likeness else 1.0


def _embedding_cosine(b: Model, a: Model, stream: Stream, ids: tuple[np.ndarray, np.ndarray] | None) -> float | None:
    if ids is None:
        return None
    left = stream.a(read_embedding(a.weights, _spread_out(ids[1])))
    right = stream.b(read_embedding(b.weights, _spread_out(ids[0])))
    return cosine(left, right)


def _scale(
    b: Model, a: Model, samples: list[Sample], stream: Stream, ids: tuple[np.ndarray, np.ndarray] | None
) -> float:
    """How much longer B's stream is; 1 unless neurons, and embeddings of one origin, say otherwise.

    Where a norm acts on what neurons write, their lengths are free and embeddings alone tell.
    """
    ratios = []
    for sample in samples:
        mine, theirs = sample.chosen
        ratio = _lengths(sample.rows[0].downs[mine]) / _lengths(sample.rows[1].downs[theirs])
        ups_b, ups_a = (rows.acts if rows.ups is None else rows.ups for rows in sample.rows)
        ratios.append(ratio * _lengths(ups_b[mine, :-1]) / _lengths(ups_a[theirs, :-1]))
    if not ratios or not len(found := np.concatenate(ratios)):
        return 1.0
    by_neurons, likeness = float(np.quantile(found, 0.5, method="lower")), 1 - _held_out(samples, stream)
    cosine = stream.transform.embeddings
    is_free = any(rows.has_norm_behind for sample in samples for rows in sample.rows)
    if ids is None or cosine is None or cosine < 0.5:
        return by_neurons if not is_free and _is_beyond_training(by_neurons, likeness) else 1.0
    left = stream.a(read_embedding(a.weights, _spread_out(ids[1])))
    right = stream.b(read_embedding(b.weights, _spread_out(ids[0])))
    by_embedding = dot(left, right) / dot(left, left)
    is_one = is_free or abs(by_embedding / by_neurons - 1) <= max(_SAME_SCALE, _by_training(likeness))
    return by_embedding if is_one and _is_beyond_training(by_embedding, cosine) else 1.0


def _lengths(rows: Floats) -> Floats:
    lengths: Floats = np.sqrt(row_products(rows, rows))
    return lengths


def _is_beyond_training(scale: float, likeness: float) -> bool:
    """Whether lengths differ by more than weights of such a cosine may by training alone."""
    return abs(scale - 1) > max(_NO_SCALE, _by_training(likeness))


def _by_training(likeness: float) -> float:
    """How far weights of a cosine have moved, as a share of their length."""
    moved: float = (1 - min(1.0, max(0.0, likeness)) ** 2) ** 0.5
    return moved
