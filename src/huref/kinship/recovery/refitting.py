"""A map fitted once more between models of one order: against a mixture, once it is known what was mixed.

A map that was fitted against one parent of a merge takes the other's part in it for a rearrangement, as far as one
can look like the other. Against the mixture itself an exact merge leaves nothing to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from huref.kinship.alignment.residual_map import polar
from huref.kinship.recovery.maps import fitted_scales, query_key_map, value_output_map
from huref.kinship.recovery.matching import Sample, cross_products
from huref.kinship.recovery.partners import HeadPartners, NeuronPartners, carried
from huref.kinship.recovery.parts import is_silent, read_attention, read_embedding, read_feed_forward
from huref.kinship.recovery.recovering import Recovered
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.sums import dot
from huref.kinship.recovery.transform import IDENTITY, ROTATION, LayerTransform, ResidualTransform
from huref.model.model import Model
from huref.numerics.arrays import Array, quietly

_SAMPLED_LAYERS = 4
_UNSCALED = 1e-3


@dataclass(frozen=True)
class Freedom:
    """Which parts of a transform are numbers that were fitted, not an order.

    Attributes:
        turns, scales: the stream is turned; is of another length.
        neurons, qk, vo: neurons have scales; heads have maps.
        gains: norms got other gains.
    """

    turns: bool
    scales: bool
    neurons: bool
    qk: bool
    vo: bool
    gains: bool

    @classmethod
    def of(cls, found: Recovered, *, has_new_gains: bool) -> Freedom:
        """What a transform has."""
        layers, residual = found.layers, found.stream.transform
        factors = [np.abs(layer.scales[layer.scales != 0]) for layer in layers]
        return cls(
            turns=residual.kind == ROTATION,
            scales=residual.scale != 1.0 or residual.kind == ROTATION,  # next to much training a scale is not told
            neurons=any(len(each) and float(np.abs(np.log(each)).max()) > _UNSCALED for each in factors),
            qk=any(layer.qk is not None for layer in layers),
            vo=any(layer.vo is not None for layer in layers),
            gains=has_new_gains,
        )

    @property
    def is_order(self) -> bool:
        """Nothing was fitted."""
        return not (self.turns or self.scales or self.neurons or self.qk or self.vo or self.gains)


@quietly
def refit(a: Model, b: Model, freedom: Freedom) -> Recovered:
    """The transform between two models whose parts stand in one order, free where it is said to be.

    Args:
        a, b: of one depth, shape and vocabulary.
    """
    d, depth = b.weights.geometry.d_model, b.weights.geometry.n_layers
    ids = np.arange(b.n_rows) if "embedding" in a.weights and a.n_rows == b.n_rows else None
    residual = ResidualTransform(IDENTITY, d, d)
    if freedom.turns:
        R = polar(cross_products(b, a, _samples(a, b), None if ids is None else (ids, ids)))
        residual = ResidualTransform(ROTATION, d, d, rotation=R.astype(np.float32))
    scale = _scale(a, b, Stream(residual), ids) if freedom.scales and ids is not None else 1.0
    stream = Stream(ResidualTransform(residual.kind, d, d, rotation=residual.rotation, scale=scale))
    layers = tuple(_layer(a, b, j, stream, freedom) for j in range(depth))
    return Recovered(stream, layers, None if ids is None else (ids, ids))


def _samples(a: Model, b: Model) -> list[Sample]:
    depth = b.weights.geometry.n_layers
    live = [j for j in range(depth) if not is_silent(b.weights, j, "down")]
    chosen = np.unique(np.linspace(0, len(live) - 1, min(_SAMPLED_LAYERS, len(live))).round().astype(int))
    found = []
    for j in (live[k] for k in chosen):
        rows = read_feed_forward(b.weights, j), read_feed_forward(a.weights, j)
        order = np.arange(len(rows[0].acts))
        found.append(Sample(rows, NeuronPartners(order, order, order)))
    return found


def _scale(a: Model, b: Model, stream: Stream, ids: Array) -> float:
    left, right = stream.a(read_embedding(a.weights, ids)), stream.b(read_embedding(b.weights, ids))
    return dot(left, right) / max(dot(left, left), 1e-30)


def _layer(a: Model, b: Model, j: int, stream: Stream, freedom: Freedom) -> LayerTransform:
    silent = tuple(
        name for name, role in (("attention", "o"), ("feed_forward", "down")) if is_silent(b.weights, j, role)
    )
    mine, theirs = read_feed_forward(b.weights, j), read_feed_forward(a.weights, j)
    order = np.arange(len(mine.acts), dtype="<i4")
    scales = np.ones(len(order), "<f4")
    if freedom.neurons and "feed_forward" not in silent:
        fitted = fitted_scales(mine, theirs, stream, order, order)
        scales = np.where(np.abs(fitted) > _UNSCALED, fitted, 1.0).astype("<f4")
    n_heads, n_groups = b.weights.geometry.n_heads, b.weights.geometry.n_kv_heads
    heads, groups = np.arange(n_heads, dtype="<i4"), np.arange(n_groups, dtype="<i4")
    qk = vo = None
    if (freedom.qk or freedom.vo) and "attention" not in silent:
        own = carried(read_attention(b.weights, j), stream, is_a=False)
        sides = own, carried(read_attention(a.weights, j), stream, is_a=True)
        pairs = HeadPartners(heads, heads, heads, groups)
        families = b.weights.architecture, a.weights.architecture
        qk = query_key_map(*sides, pairs, families, is_fitted=True)[0] if freedom.qk else None
        vo = value_output_map(*sides, pairs, stream.transform.scale, is_fitted=True) if freedom.vo else None
    return LayerTransform(
        j, j, j, silent, order, order, order, scales, _experts(mine.blocks), heads, heads, heads, groups, qk, vo
    )


def _experts(blocks: Sequence[int]) -> np.ndarray:
    return np.arange(len(blocks), dtype="<i4")
