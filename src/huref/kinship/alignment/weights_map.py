"""The map between two residual streams from the weights alone, for models whose embeddings tell nothing.

Where a tokenizer was replaced, no token is shared or the shared ones were trained anew. The neurons still know where
they are among their like: the angles between a neuron's rows and those of its layer do not change when the stream
turns, when neurons are reordered, scaled or flipped. Neurons of two models with the same sorted angles are taken for
partners; an orthogonal map is fitted to the rows *that open them* only, the partners are sought again under it, and
so on (iterated closest points; Besl and McKay 1992). The map is not fitted to what neurons read and write besides,
so that this stays a witness: pairing agreement under this map means what it means under any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from huref.kinship.alignment.neurons import Neurons
from huref.kinship.alignment.residual_map import ResidualMap, polar
from huref.numerics.tensors import product

_QUANTILES, _EXTREMES = 48, 12
_MOST_NEURONS = 3072
_ROUNDS = 10
_WIDE, _ROUNDS_WIDE = 2048, 3
"""Streams so wide that a round takes many seconds get fewer."""


def weights_map(a: Sequence[Neurons], b: Sequence[Neurons]) -> ResidualMap | None:
    """Fit a map to the neurons of some layers of A and of B; None where too few partners are found to fix one.

    Args:
        a: layers of A in order.
        b: layers of B. As many as of A are taken for partners in order; else each of A's is given the one of B
            whose neurons resemble its own most.
    """
    a, b = ([_outstanding(layer) for layer in side] for side in (a, b))
    is_gated = all(layer.ups is not None for layer in (*a, *b))
    found = _partners(*([_signatures(layer, is_gated) for layer in side] for side in (a, b)))
    pairs = [(a[i], b[j]) for i, j, _ in found]
    left = torch.cat([x.acts[match.rows] for (x, _), (_, _, match) in zip(pairs, found, strict=True)])
    right = torch.cat([y.acts[match.columns] for (_, y), (_, _, match) in zip(pairs, found, strict=True)])
    order = torch.cat([match.margin for _, _, match in found]).argsort(descending=True)
    width = max(left.shape[1], right.shape[1])
    if len(order) < width // 2:
        return None
    chosen = order[: 4 * width]
    R, best = polar(left[chosen].T @ right[chosen]), 0.0
    for _ in range(_ROUNDS if width <= _WIDE else _ROUNDS_WIDE):
        C, likeness = _refit(pairs, R)
        if likeness <= best + 1e-3:
            break
        best, R = likeness, polar(C)
    return ResidualMap(R, "weights", quality=best)


def _outstanding(layer: Neurons) -> Neurons:
    """Of a very wide layer the neurons that write most along what opens them: the same ones in kin, in any order."""
    if len(layer) <= _MOST_NEURONS:
        return layer
    along = (layer.acts * layer.downs).sum(1).abs()
    return layer.take(along.topk(_MOST_NEURONS).indices)


@dataclass(frozen=True)
class _Match:
    """Neurons that are each other's nearest by signature, and how much nearer each is than the runner-up."""

    rows: Tensor
    columns: Tensor
    margin: Tensor


def _partners(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[tuple[int, int, _Match]]:
    """For each layer of A, by its signatures, the layer of B that it is to be fitted with."""
    if len(a) == len(b):
        return [(i, i, _confident(x, b[i])) for i, x in enumerate(a)]
    found = []
    for i, x in enumerate(a):
        matches = [_confident(x, y) for y in b]
        best = max(range(len(b)), key=lambda j: float(matches[j].margin.sum()))
        found.append((i, best, matches[best]))
    return found


def _refit(pairs: Sequence[tuple[Neurons, Neurons]], R: Tensor) -> tuple[Tensor, float]:
    """Cross-covariance of mutually best partners under R, and their mean cosine; a neuron without one counts 0."""
    C, total, count = torch.zeros_like(R), 0.0, 0
    for x, y in pairs:
        likeness = product(x.acts @ R, y.acts.T)
        there, back = likeness.max(1).indices, likeness.max(0).indices
        mutual = torch.nonzero(back[there] == torch.arange(len(there))).flatten()
        weight = likeness[mutual, there[mutual]].clamp_min(0)
        C += (x.acts[mutual] * weight[:, None] ** 2).T @ y.acts[there[mutual]]
        total += float(weight.sum())
        count += len(x)
    return C, total / max(1, count)


def _signatures(layer: Neurons, is_gated: bool) -> Tensor:
    """(n, features): what no rearrangement changes of a neuron, each feature with mean 0 and variance 1."""
    level = (torch.arange(_QUANTILES) + 0.5) / _QUANTILES
    grams = [product(layer.acts, layer.acts.T)]
    own = [(layer.acts * layer.downs).sum(1).abs()]
    if is_gated and layer.ups is not None:
        grams.append(product(layer.ups, layer.ups.T) * product(layer.downs, layer.downs.T))
        grams.append(product(layer.acts, layer.ups.T).abs())
        own += [(layer.acts * layer.ups).sum(1).abs(), (layer.ups * layer.downs).sum(1)]
    else:
        grams.append(product(layer.acts, layer.downs.T))
    n = len(layer)
    places = torch.cat((torch.arange(_EXTREMES), (level * n).long(), torch.arange(n - _EXTREMES, n))).clamp(0, n - 1)
    sorted_angles = [gram.sort(1).values[:, places] for gram in grams]
    features = torch.cat([*sorted_angles, *(o[:, None] for o in own)], dim=1)
    return (features - features.mean(0)) / features.std(0).clamp_min(1e-6)


def _confident(a: Tensor, b: Tensor) -> _Match:
    distance = torch.cdist(a, b)
    two = distance.topk(2, dim=1, largest=False)
    there, back = two.indices[:, 0], distance.min(0).indices
    mutual = torch.nonzero(back[there] == torch.arange(len(there))).flatten()
    margin = 1 - two.values[mutual, 0] / two.values[mutual, 1].clamp_min(1e-9)
    return _Match(mutual, there[mutual], margin)
