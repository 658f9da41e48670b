"""Undo a transform and see what is equal: shares of weights, by kind.

Only stated numbers are used: the map of the stream, partners, scales, maps of heads as the evidence file has them. So
a third party who has the file and the two models arrives at the same shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from huref.explanation.transform import TOLERANCE, Share
from huref.kinship.recovery.maps import fitted, undo_key
from huref.kinship.recovery.parts import (
    AttentionRows,
    Branch,
    FeedForwardRows,
    read_embedding,
    read_positions,
    read_unembedding,
    rounding_of,
)
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.sums import dot
from huref.kinship.recovery.transform import LayerTransform
from huref.model.model import Model
from huref.numerics.arrays import Array, Floats, float32

_ROUNDINGS = 4.0
_CHUNK_ROWS = 4096
_CHUNK = 1 << 15
"""Differences that are looked at while they are in the cache."""


@dataclass(frozen=True)
class _Undone:
    """Weights of A, and of B after undoing, of one kind; what both types round off, relative."""

    kind: str
    a: Floats
    b: Floats
    rounding: float


def agreement(pairs: Sequence[tuple[Floats, Floats]], rounding: float) -> Share:
    """How far arrays of A and of B, in pairs of equal shape, agree, all of a kind taken together.

    The tolerance is a share of the root mean square of A's.
    """
    n = sum(a.size for a, _ in pairs)
    if not n:
        return Share()
    square_a = sum(dot(a, a) for a, _ in pairs)
    bounds = np.array([TOLERANCE, max(TOLERANCE, _ROUNDINGS * rounding)]) * (square_a / n) ** 0.5
    n_equal, n_rounded = np.sum([_counts(a, b, bounds) for a, b in pairs], axis=0).tolist()
    return Share(n, n_equal, n_rounded, sum(dot(a, b) for a, b in pairs), square_a, sum(dot(b, b) for _, b in pairs))


def _counts(a: Floats, b: Floats, bounds: np.ndarray) -> np.ndarray:
    """For every bound, how many entries differ by no more."""
    counts, step = np.zeros(len(bounds), np.int64), max(1, _CHUNK * len(a) // max(1, a.size))
    for start in range(0, len(a), step):
        off = a[start : start + step] - b[start : start + step]
        np.abs(off, out=off)
        counts += [np.count_nonzero(off <= bound) for bound in bounds.astype(off.dtype)]
    return counts


def feed_forward_shares(
    b: FeedForwardRows, a: FeedForwardRows, stream: Stream, layer: LayerTransform
) -> dict[str, Share]:
    """Kind -> agreement of one layer's neurons that have partners."""
    return _summed(_undone_neurons(b, a, stream, layer))


def attention_shares(b: AttentionRows, a: AttentionRows, stream: Stream, layer: LayerTransform) -> dict[str, Share]:
    """Kind -> agreement of one layer's heads that have partners."""
    return _summed(_undone_heads(b, a, stream, layer))


def as_they_stand(b: Branch, a: Branch) -> dict[str, Share]:
    """Kind -> agreement of two layers with nothing undone; only of kinds of equal shape, biases left out."""
    theirs, found = _matrices(a), dict[str, Share]()
    for kind, rows in _matrices(b).items():
        if kind in theirs and rows.shape == theirs[kind].shape:
            found[kind] = agreement([(theirs[kind], rows)], 0.0)
    return found


def end_shares(b: Model, a: Model, stream: Stream, ids: tuple[np.ndarray, np.ndarray]) -> dict[str, Share]:
    """Kind -> agreement of the embedding, the output matrix where one of the models has its own, and positions.

    Args:
        ids: rows of B and of A that stand for the same strings.
    """
    found: dict[str, Share] = {}
    kinds = ("embedding", "unembedding", "position")
    roundings = {kind: _rounding(b, a, kind) for kind in kinds if kind in a.weights and kind in b.weights}
    scale, has_output = stream.transform.scale, _has_output(b, a)
    for start in range(0, len(ids[0]), _CHUNK_ROWS):
        here = [side[start : start + _CHUNK_ROWS] for side in ids]
        left = stream.a(read_embedding(a.weights, here[1]))
        right = stream.b(read_embedding(b.weights, here[0])) / scale
        _add(found, "embedding", agreement([(left, right)], roundings["embedding"]))
        if has_output:
            out_a = stream.a_biased(read_unembedding(a.weights, here[1]))
            out_b = stream.b_biased(read_unembedding(b.weights, here[0]))
            for part in _with_bias("unembedding", out_a, out_b, roundings["unembedding"]):
                _add(found, part.kind, agreement([(part.a, part.b)], part.rounding))
    places_a, places_b = (read_positions(model.weights) for model in (a, b))
    if places_a is not None and places_b is not None:
        n = min(len(places_a), len(places_b))
        undone = stream.b(places_b[:n]) / scale
        _add(found, "position", agreement([(stream.a(places_a[:n]), undone)], roundings["position"]))
    return found


def ends_as_they_stand(b: Model, a: Model, ids: np.ndarray) -> dict[str, Share]:
    """Kind -> agreement of embedding rows of equal number with nothing undone; none where widths differ.

    Args:
        ids: rows of A.
    """
    found: dict[str, Share] = {}
    if a.weights.geometry.d_model != b.weights.geometry.d_model:
        return found
    both, has_output = ids[ids < b.n_rows], _has_output(b, a)
    for start in range(0, len(both), _CHUNK_ROWS):
        here = both[start : start + _CHUNK_ROWS]
        left, right = (read_embedding(model.weights, here) for model in (a, b))
        _add(found, "embedding", agreement([(left, right)], 0.0))
        if has_output:
            left, right = (read_unembedding(model.weights, here)[:, :-1] for model in (a, b))
            _add(found, "unembedding", agreement([(left, right)], 0.0))
    return found


def _undone_neurons(
    b: FeedForwardRows, a: FeedForwardRows, stream: Stream, layer: LayerTransform
) -> Iterator[_Undone]:
    chosen = np.flatnonzero(layer.neurons >= 0)
    partners, factor = layer.neurons[chosen], layer.scales[chosen, None]
    scale = stream.transform.scale
    acts_b, acts_a = stream.b_biased(b.acts[chosen]), stream.a_biased(a.acts[partners])
    is_plain = b.ups is None and a.ups is None
    kind = "up" if is_plain else "gate"
    yield from _with_bias(kind, acts_a, acts_b / factor if is_plain else acts_b, _both(b, a, kind, "up"))
    if b.ups is not None and a.ups is not None:
        ups_b = stream.b_biased(b.ups[chosen]) / factor
        yield from _with_bias("up", stream.a_biased(a.ups[partners]), ups_b, _both(b, a, "up"))
    down_b, down_a = stream.b(b.downs[chosen]) * factor / scale, stream.a(a.downs[partners])
    yield _Undone("down", down_a, fitted(down_b, down_a) if b.has_norm_behind else down_b, _both(b, a, "down"))
    if a.down_bias.any() or b.down_bias.any():
        yield _Undone("biases", stream.a(a.down_bias), stream.b(b.down_bias) / scale, _both(b, a, "down"))
    if b.routers is not None and a.routers is not None:
        experts = layer.experts[: len(b.routers)]
        known = np.flatnonzero((experts >= 0) & (experts < len(a.routers)))
        routers = stream.b_biased(b.routers[known])
        yield from _with_bias("router", stream.a_biased(a.routers[experts[known]]), routers, _both(b, a, "router"))


def _undone_heads(b: AttentionRows, a: AttentionRows, stream: Stream, layer: LayerTransform) -> Iterator[_Undone]:
    scale, outputs = stream.transform.scale, list[tuple[Floats, Floats]]()
    for group, of in enumerate(layer.groups.tolist()):
        if of < 0:
            continue
        mine = np.arange(group * b.per_group, (group + 1) * b.per_group)
        mine = mine[layer.heads[mine] >= 0]
        C, D = (None if maps is None else maps[group].astype(np.float64) for maps in (layer.qk, layer.vo))
        for head, partner in zip(mine.tolist(), layer.heads[mine].tolist(), strict=True):
            q = _mapped(None if C is None else np.linalg.inv(C), stream.b_biased(b.q[head]))
            yield from _with_bias("q", stream.a_biased(a.q[partner]), q, _both(b, a, "q"))
            o = _mapped(None if D is None else D.T, stream.b(b.o[head])) / scale
            outputs.append((stream.a(a.o[partner]), o))
        k_b, k_a = stream.b_biased(b.k[group]), stream.a_biased(a.k[of])
        k = float32(undo_key(np.eye(len(k_b)) if C is None else C, k_b, k_a, b.has_norms))
        yield from _with_bias("k", k_a, k, _both(b, a, "k"))
        v = _mapped(None if D is None else np.linalg.inv(D), stream.b_biased(b.v[group]))
        yield from _with_bias("v", stream.a_biased(a.v[of]), v, _both(b, a, "v"))
    if outputs:
        o_a, o_b = (np.stack(side) for side in zip(*outputs, strict=True))
        yield _Undone("o", o_a, fitted(o_b, o_a) if b.has_norm_behind else o_b, _both(b, a, "o"))
    if a.o_bias.any() or b.o_bias.any():
        yield _Undone("biases", stream.a(a.o_bias), stream.b(b.o_bias) / scale, _both(b, a, "o"))


def _with_bias(kind: str, a: Floats, b: Floats, rounding: float) -> Iterator[_Undone]:
    """Rows, and their biases by themselves where there are any."""
    yield _Undone(kind, a[..., :-1], b[..., :-1], rounding)
    if a[..., -1].any() or b[..., -1].any():
        yield _Undone("biases", a[..., -1], b[..., -1], rounding)


def _mapped(C: Array | None, rows: Floats) -> Floats:
    return rows if C is None else float32(C @ rows)


def _summed(parts: Iterator[_Undone]) -> dict[str, Share]:
    """Each kind is taken together; every bias is one of its own."""
    found, kinds = dict[str, Share](), dict[str, list[_Undone]]()
    for part in parts:
        if part.kind == "biases":
            _add(found, part.kind, agreement([(part.a, part.b)], part.rounding))
        else:
            kinds.setdefault(part.kind, []).append(part)
    for kind, some in kinds.items():
        _add(found, kind, agreement([(part.a, part.b) for part in some], some[0].rounding))
    return found


def _add(found: dict[str, Share], kind: str, share: Share) -> None:
    found[kind] = found.get(kind, Share()) + share


def _matrices(rows: Branch) -> dict[str, Floats]:
    """Kind -> the rows in the stream."""
    if isinstance(rows, AttentionRows):
        return {"q": rows.q[..., :-1], "k": rows.k[..., :-1], "v": rows.v[..., :-1], "o": rows.o}
    if rows.ups is None:
        return {"up": rows.acts[:, :-1], "down": rows.downs}
    return {"gate": rows.acts[:, :-1], "up": rows.ups[:, :-1], "down": rows.downs}


def _has_output(b: Model, a: Model) -> bool:
    """Both have an output matrix, and one of them its own."""
    is_there = "unembedding" in a.weights and "unembedding" in b.weights
    return is_there and not (a.weights.architecture.is_tied and b.weights.architecture.is_tied)


def _both(b: Branch, a: Branch, *roles: str) -> float:
    """What both stored types round off, relative; of the first role that a model has."""
    squares = [next((side.rounding[role] for role in roles if role in side.rounding), 0.0) ** 2 for side in (a, b)]
    return float(sum(squares) ** 0.5)


def _rounding(b: Model, a: Model, name: str) -> float:
    return float(sum(rounding_of(model.weights, name) ** 2 for model in (a, b)) ** 0.5)
