"""The map between two residual streams from the weights alone, for models whose embeddings tell nothing.

Where a tokenizer was replaced, no token is shared or the shared ones were trained anew. The neurons still know where
they are among their like: the angles between a neuron's rows and those of its layer do not change when the stream
turns, when neurons are reordered, scaled or flipped. Neurons of two models with the same sorted angles are taken for
partners; an orthogonal map is fitted to the rows *that open them* only, the partners are sought again under it, and
so on (iterated closest points; Besl and McKay 1992). The map is not fitted to what neurons read and write besides,
so that this stays a witness: pairing agreement under this map means what it means under any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.kinship.alignment.residual_map import ResidualMap, polar
from huref.model.layers import Neurons
from huref.numerics.arrays import Floats, float32
from huref.numerics.products import product
from huref.numerics.rows import row_products

_QUANTILES, _EXTREMES = 48, 12
_MOST_NEURONS = 1024
_ROUNDS, _GROWTH = 10, 1.08
"""Refits, and by what factor the neurons' likeness has to grow by one for another: kin leap, strangers creep."""

_LEAST = 5e-19
"""Half the square of the least distance that a runner-up may have."""

_WIDE, _LEAST_MARGIN = 2048, 0.25
"""Streams so wide that a map takes many seconds are given one where partners stand out as kin's do: strangers' have a
median margin near 0.07."""


def weights_map(a: Sequence[Neurons], b: Sequence[Neurons]) -> ResidualMap | None:
    """Fit a map to the neurons of some layers of A and of B; None where too few partners are found to fix one.

    Args:
        a: layers of A in order.
        b: layers of B. As many as of A are taken for partners in order; else each of A's is given the one of B
            whose neurons resemble its own most.
    """
    if not a or not b:  # no layer has neurons
        return None
    a, b = ([outstanding(layer) for layer in side] for side in (a, b))
    is_gated = all(layer.ups is not None for layer in (*a, *b))
    found = _partners(*([_signatures(layer, is_gated) for layer in side] for side in (a, b)))
    pairs = [(a[i], b[j]) for i, j, _ in found]
    left = np.concatenate([x.acts[match.rows] for (x, _), (_, _, match) in zip(pairs, found, strict=True)])
    right = np.concatenate([y.acts[match.columns] for (_, y), (_, _, match) in zip(pairs, found, strict=True)])
    margins = np.concatenate([match.margin for _, _, match in found])
    order = np.argsort(-margins, kind="stable")
    width = max(left.shape[1], right.shape[1])
    if len(order) < width // 2 or (width > _WIDE and float(np.median(margins)) < _LEAST_MARGIN):
        return None
    chosen = order[: 4 * width]
    R = polar(left[chosen].T @ right[chosen])
    C, best = _refit(pairs, R)
    for _ in range(_ROUNDS):
        refitted = polar(C)
        C, likeness = _refit(pairs, refitted)
        if likeness <= best:
            break
        is_growing = likeness > _GROWTH * best
        best, R = likeness, refitted
        if not is_growing:
            break
    return ResidualMap(R, "weights", quality=best)


def outstanding(layer: Neurons) -> Neurons:
    """Of a very wide layer the neurons that write most along what opens them: the same ones in kin, in any order."""
    if len(layer) <= _MOST_NEURONS:
        return layer
    along = np.abs(row_products(layer.acts, layer.downs))
    return layer.take(np.argsort(-along, kind="stable")[:_MOST_NEURONS])


@dataclass(frozen=True)
class _Match:
    """Neurons that are each other's nearest by signature, and how much nearer each is than the runner-up."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    margin: Floats


def _partners(a: Sequence[Floats], b: Sequence[Floats]) -> list[tuple[int, int, _Match]]:
    """For each layer of A, by its signatures, the layer of B that it is to be fitted with."""
    if len(a) == len(b):
        return [(i, i, _confident(x, b[i])) for i, x in enumerate(a)]
    found = []
    for i, x in enumerate(a):
        matches = [_confident(x, y) for y in b]
        best = max(range(len(b)), key=lambda j: float(matches[j].margin.sum()))
        found.append((i, best, matches[best]))
    return found


def _refit(pairs: Sequence[tuple[Neurons, Neurons]], R: Floats) -> tuple[Floats, float]:
    """Cross-covariance of mutually best partners under R, and their mean cosine; a neuron without one counts 0."""
    C, total, count = np.zeros_like(R), 0.0, 0
    for x, y in pairs:
        likeness = product(x.acts @ R, y.acts.T)
        rows, columns = _mutual(likeness)
        weight = np.maximum(likeness[rows, columns], 0)
        C += (x.acts[rows] * weight[:, None] ** 2).T @ y.acts[columns]
        total += float(weight.sum(dtype=np.float64))
        count += len(x)
    return C, total / max(1, count)


def _mutual(likeness: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns that are each other's best, by row; of equally good rows the first."""
    there = likeness.argmax(axis=1)
    best = np.take_along_axis(likeness, there[:, None], axis=1)[:, 0]
    rows = np.flatnonzero(best == likeness.max(axis=0)[there])
    _, first = np.unique(there[rows], return_index=True)
    rows = rows[np.sort(first)]
    return rows, there[rows]


def _signatures(layer: Neurons, is_gated: bool) -> Floats:
    """(n, features): what no rearrangement changes of a neuron, each feature with mean 0 and variance 1."""
    own = [np.abs(row_products(layer.acts, layer.downs))]
    if is_gated and layer.ups is not None:
        own += [np.abs(row_products(layer.acts, layer.ups)), row_products(layer.ups, layer.downs)]
    features = np.concatenate([*_sorted_angles(layer, is_gated), np.stack(own, axis=1)], axis=1)
    features -= float32(features.mean(axis=0, dtype=np.float64))
    features /= np.maximum(float32(features.std(axis=0, dtype=np.float64, ddof=1)), 1e-6)
    return features


def _sorted_angles(layer: Neurons, is_gated: bool) -> Iterator[Floats]:
    """(n, places) each: quantiles and extremes of every neuron's angles with all others, of three kinds or two."""
    n = len(layer)
    inside, ends = (2 * np.arange(_QUANTILES) + 1) * n // (2 * _QUANTILES), np.arange(_EXTREMES)
    places = np.clip(np.concatenate([ends, inside, n - _EXTREMES + ends]), 0, n - 1)
    for gram in _angles(layer, is_gated):
        np.fill_diagonal(gram, 0)  # a row with itself: always 1, but for rounding
        gram.sort(axis=1)
        yield gram[:, places]


def _angles(layer: Neurons, is_gated: bool) -> Iterator[Floats]:
    """(n, n) cosines between the neurons of a layer that signs leave alone."""
    yield product(layer.acts, layer.acts.T)
    if is_gated and layer.ups is not None:
        both = product(layer.ups, layer.ups.T)
        both *= product(layer.downs, layer.downs.T)
        yield both
        across = product(layer.acts, layer.ups.T)
        yield np.abs(across, out=across)
    else:
        yield product(layer.acts, layer.downs.T)


def _confident(a: Floats, b: Floats) -> _Match:
    nearness = a @ b.T  # less half the squares of both lengths: half the squared distance, negative
    nearness -= row_products(a, a)[:, None] / 2
    nearness -= row_products(b, b) / 2
    np.minimum(nearness, 0, out=nearness)
    rows, columns = _mutual(nearness)
    nearest = nearness[rows, columns]
    nearness[rows, columns] = -np.inf
    runner_up = np.minimum(nearness.max(axis=1)[rows], -_LEAST)
    return _Match(rows, columns, 1 - np.sqrt(nearest / runner_up))
