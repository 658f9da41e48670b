"""Which part of B goes to which place of A: partners first, whoever has none to the places that are left.

Any order of neurons, heads, layers that add nothing, or tokens keeps the function, so that completing one is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from huref.kinship.recovery.transform import LayerTransform
from huref.model.tokens import Vocabulary
from huref.numerics.arrays import Array


def completed(partners: Array, n_places: int) -> Array:
    """(n,) which part stands at each place.

    Args:
        partners: (n,) the place in A of each part of B, or -1.
        n_places: places in A. Where they are not as many as the parts, partners keep their order, the rest follows.
    """
    n = len(partners)
    if n != n_places:
        return np.argsort(np.where(partners >= 0, partners, n_places), kind="stable")
    order, is_taken = np.full(n, -1), np.zeros(n, bool)
    for part, place in enumerate(partners.tolist()):
        if 0 <= place < n and order[place] < 0:
            order[place], is_taken[part] = part, True
    order[order < 0] = np.flatnonzero(~is_taken)
    return order


@dataclass(frozen=True)
class LayerPlan:
    """A layer of the undone model.

    Attributes:
        attention, feed_forward: the layers of B that its two branches come from.
        of_attention, of_feed_forward: those of A that they came from, or -1.
    """

    attention: int
    feed_forward: int
    of_attention: int
    of_feed_forward: int


def layer_plan(
    layers: Sequence[LayerTransform], depth_a: int, *, is_parallel: bool, is_fixed: bool
) -> list[LayerPlan]:
    """B's layers without those that add nothing, split ones joined; all of them where A would then be the deeper.

    Args:
        layers: all of B's.
        is_parallel: both branches read one stream, so that two layers are no split one.
        is_fixed: a silent layer still acts, or a layer's number matters.
    """
    plan: list[LayerPlan] = []
    waiting: LayerTransform | None = None
    for layer in layers:
        attends, feeds = (name not in layer.silent for name in ("attention", "feed_forward"))
        if waiting and feeds and not attends:
            plan.append(LayerPlan(waiting.layer, layer.layer, waiting.attention, layer.feed_forward))
            waiting = None
            continue
        plan += [_alone(waiting)] if waiting else []
        waiting = layer if attends and not feeds and not is_parallel else None
        if not waiting and (attends or feeds):
            plan.append(_alone(layer))
    plan += [_alone(waiting)] if waiting else []
    return [_alone(layer) for layer in layers] if is_fixed or len(plan) < min(depth_a, len(layers)) else plan


def _alone(layer: LayerTransform) -> LayerPlan:
    return LayerPlan(layer.layer, layer.layer, layer.attention, layer.feed_forward)


def neuron_order(layer: LayerTransform, blocks_b: Sequence[int], blocks_a: Sequence[int]) -> tuple[Array, Array]:
    """(f,) which neuron of B stands at each place, and (n,) which expert.

    Experts change places only where each of B's is one of A's; neurons stay within theirs.
    """
    starts_b, starts_a = ([0, *accumulate(blocks)] for blocks in (blocks_b, blocks_a))
    experts = layer.experts.astype(np.int64)
    is_whole = tuple(blocks_b) == tuple(blocks_a) and sorted(experts.tolist()) == list(range(len(blocks_a)))
    is_whole = is_whole and all(blocks_b[i] == blocks_b[of] for i, of in enumerate(experts.tolist()))
    blocks = np.argsort(experts) if is_whole else np.arange(len(blocks_b))
    parts = []
    for block in blocks.tolist():
        inside = layer.neurons[starts_b[block] : starts_b[block + 1]].astype(np.int64)
        of = int(experts[block])
        n_places = blocks_a[of] if of >= 0 else len(inside)
        first = starts_a[of] if of >= 0 else 0
        is_there = (inside >= first) & (inside < first + n_places) & (of >= 0)
        parts.append(starts_b[block] + completed(np.where(is_there, inside - first, -1), n_places))
    return np.concatenate(parts), blocks


def head_order(layer: LayerTransform, n_groups_a: int, n_heads_a: int) -> tuple[Array, Array]:
    """(g,) which KV head of B stands at each place, and (h,) which query head; these stay within their group."""
    groups = completed(layer.groups.astype(np.int64), n_groups_a)
    per_b, per_a = len(layer.heads) // len(layer.groups), n_heads_a // n_groups_a
    parts = []
    for group in groups.tolist():
        inside = layer.heads[group * per_b : (group + 1) * per_b].astype(np.int64)
        parts.append(group * per_b + completed(np.where(inside >= 0, inside % per_a, -1), per_a))
    return groups, np.concatenate(parts)


def token_order(b: Vocabulary, a: Vocabulary, movable: Array) -> Array | None:
    """B's number of the token that stands at each movable number of A; None where all stay.

    Args:
        movable: ids of B, ascending, that may change places with each other.

    Returns:
        (len(movable),) int64.
    """
    place = {id_: i for i, id_ in enumerate(movable.tolist())}
    of_a = _by_spelling(a, place)
    partners = np.full(len(movable), -1, np.int64)
    for key, id_ in _by_spelling(b, place).items():
        if key in of_a:
            partners[place[id_]] = place[of_a[key]]
    if (partners < 0).all() or (partners[partners >= 0] == np.flatnonzero(partners >= 0)).all():
        return None
    order: Array = movable[completed(partners, len(movable))]
    return order


def _by_spelling(vocabulary: Vocabulary, movable: dict[int, int]) -> dict[tuple[bytes, bool], int]:
    """Ids of tokens by what they stand for, the lowest of equals; special ones by themselves."""
    found: dict[tuple[bytes, bool], int] = {}
    for id_, token in enumerate(vocabulary.tokens):
        if token and id_ in movable:
            found.setdefault((token, id_ in vocabulary.special), id_)
    return found
