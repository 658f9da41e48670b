"""Scales of neurons, maps between queries and keys and between values and outputs, by least squares.

Each is fitted to one side and tried on the other: a factor found on `up` has to undo `down`, a map found on queries
the keys, one found on values the outputs. Where it does no better there than no map at all, there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from huref.kinship.recovery.partners import HeadPartners
from huref.kinship.recovery.parts import AttentionRows, FeedForwardRows
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.sums import dot
from huref.model.arch.weights import Architecture
from huref.numerics.arrays import Array, Floats
from huref.numerics.rows import row_products

_WORSE = 1.25
"""How much more error a simpler map may leave on the other side and still be taken."""

_MOST_LOPSIDED = 1e7
_FLOOR = 1e-6
"""Error, as a share of the weights' square, that arithmetic in float32 may leave."""


def neuron_scales(
    b: FeedForwardRows, a: FeedForwardRows, stream: Stream, chosen: np.ndarray, partners: np.ndarray
) -> Floats:
    """(n,) `up` of B over `up` of A of partners, with the sign; 1 or -1 where `down` knows of no factor.

    Args:
        chosen: (n,) neurons of B.
        partners: (n,) theirs in A.
    """
    scales = fitted_scales(b, a, stream, chosen, partners)
    down_b, down_a = stream.b(b.downs[chosen]), stream.a(a.downs[partners])

    def error(factor: Floats) -> float:
        undone = down_b * (factor / stream.transform.scale)[:, None]
        return _error(fitted(undone, down_a) if b.has_norm_behind else undone, down_a)

    plain = np.sign(scales)
    return plain if _is_as_good(error(plain), error(scales)) else scales


def fitted_scales(
    b: FeedForwardRows, a: FeedForwardRows, stream: Stream, chosen: np.ndarray, partners: np.ndarray
) -> Array:
    """`neuron_scales` as they are fitted to `up`, whatever `down` says."""
    left = stream.b_biased((b.acts if b.ups is None else b.ups)[chosen])
    right = stream.a_biased((a.acts if a.ups is None else a.ups)[partners])
    scales: Array = row_products(left, right) / np.maximum(row_products(right, right), 1e-30)
    return scales


def query_key_map(
    b: AttentionRows,
    a: AttentionRows,
    pairs: HeadPartners,
    families: tuple[Architecture, Architecture],
    *,
    is_fitted: bool = False,
) -> tuple[Array, float | None]:
    """(g_b, e, e) float64 C with `Wq_b = C Wq_a`, and how far they are from commuting with rotary positions.

    Args:
        b, a: rows in one stream.
        families: of B and of A.
        is_fitted: take the map that commutes as it is fitted, without asking the keys.
    """
    rotary = rotary_pairs(families)
    maps, furthest = _identities(b), 0.0
    for group, of in _matched_groups(pairs):
        mine, theirs = _partners_of(group, b, pairs)
        left, right = _flat(b.q[mine]), _flat(a.q[theirs])
        C = _least_squares(left, right)
        tried = [C] if rotary is None else [_commuting(C, left, right, rotary), C]
        k_b, k_a = b.k[group].astype(np.float64), a.k[of].astype(np.float64)

        def error(map_: Array, k_b: Array = k_b, k_a: Array = k_a) -> float:
            return _error(undo_key(map_, k_b, k_a, b.has_norms), k_a)

        maps[group] = tried[0] if is_fitted else _kept(tried, error)
        if rotary is not None:
            furthest = max(furthest, _distance_from_commuting(maps[group], rotary))
    return maps, furthest if rotary is not None else None


def value_output_map(
    b: AttentionRows, a: AttentionRows, pairs: HeadPartners, scale: float, *, is_fitted: bool = False
) -> Array:
    """(g_b, e, e) float64 C with `Wv_b = C Wv_a`, `Wo_b = Wo_a C^-1`; as fitted, or only where the outputs agree."""
    maps = _identities(b)
    for group, of in _matched_groups(pairs):
        mine, theirs = _partners_of(group, b, pairs)
        C = _least_squares(b.v[group].astype(np.float64), a.v[of].astype(np.float64))
        o_b, o_a = b.o[mine].astype(np.float64), a.o[theirs].astype(np.float64)

        def error(map_: Array, o_b: Array = o_b, o_a: Array = o_a) -> float:
            undone = map_.T @ o_b / scale
            return _error(fitted(undone, o_a) if b.has_norm_behind else undone, o_a)

        maps[group] = C if is_fitted else _kept([C], error)
    return maps


def undo_key(C: Array, k_b: Array, k_a: Array, is_scale_free: bool) -> Array:
    """`C^T Wk_b`, which is `Wk_a`; where queries and keys are normed, of the length that fits best."""
    undone = C.T @ k_b
    return fitted(undone, k_a) if is_scale_free else undone


def fitted(undone: Array, wanted: Array) -> Array:
    """Of the length that fits best: where a norm follows, it is free."""
    square = dot(undone, undone)
    return undone * (dot(undone, wanted) / square) if square else undone


def _kept(tried: Sequence[Array], error: Callable[[Array], float]) -> Array:
    """The simplest map that undoes the other side as well as any: none, then those tried, in order."""
    sound = [C for C in tried if np.isfinite(C).all() and np.linalg.cond(C) < _MOST_LOPSIDED]
    maps = [np.eye(len(tried[0])), *sound]
    errors = [error(C) for C in maps]
    return next(C for C, found in zip(maps, errors, strict=True) if _is_as_good(found, min(errors)))


def _is_as_good(simpler: float, other: float) -> bool:
    return simpler <= _WORSE * other + _FLOOR


def _error(undone: Array, wanted: Array) -> float:
    off = undone - wanted
    return dot(off, off) / max(dot(wanted, wanted), 1e-30)


def _identities(b: AttentionRows) -> Array:
    e = b.k.shape[1]
    return np.tile(np.eye(e), (len(b.k), 1, 1))


def _matched_groups(pairs: HeadPartners) -> list[tuple[int, int]]:
    return [(group, int(of)) for group, of in enumerate(pairs.groups) if of >= 0]


def _partners_of(group: int, b: AttentionRows, pairs: HeadPartners) -> tuple[np.ndarray, np.ndarray]:
    """The heads of a group of B that have a partner, and the partners."""
    mine = np.arange(group * b.per_group, (group + 1) * b.per_group)
    mine = mine[pairs.heads[mine] >= 0]
    return mine, pairs.heads[mine]


def _flat(heads: Array) -> Array:
    """(m, e, d) -> (e, m d), float64."""
    return heads.transpose(1, 0, 2).reshape(heads.shape[1], -1).astype(np.float64)


def _least_squares(left: Array, right: Array) -> Array:
    """C of least error in `left = C right`; zero where `right` is."""
    gram = right @ right.T
    ridge = max(1e-14 * gram.diagonal().mean(), np.finfo(gram.dtype).tiny) * np.eye(len(gram))
    C: Array = np.linalg.solve(gram + ridge, right @ left.T).T
    return C


def rotary_pairs(families: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The two dimensions of every pair that rotates together, and how many dimensions rotate; None without any."""
    b, a = families
    r = a.rotary_dim
    if b.position != a.position or b.rotary_dim != r or a.position not in ("rope_half", "rope_interleaved"):
        return None
    if a.position == "rope_interleaved":
        return np.arange(0, r, 2), np.arange(1, r, 2), r
    return np.arange(r // 2), np.arange(r // 2, r), r


def _commuting(C: Array, left: Array, right: Array, rotary: tuple[np.ndarray, np.ndarray, int]) -> Array:
    """The map of least error among those that turn and scale every pair, free in what does not turn."""
    first, second, r = rotary
    square = np.maximum(row_products(right[first], right[first]) + row_products(right[second], right[second]), 1e-300)
    cos = (row_products(left[first], right[first]) + row_products(left[second], right[second])) / square
    sin = (row_products(left[second], right[first]) - row_products(left[first], right[second])) / square
    out = np.zeros_like(C)
    out[first, first] = out[second, second] = cos
    out[second, first], out[first, second] = sin, -sin
    if r < len(C):
        out[r:, r:] = _least_squares(left[r:], right[r:])
    return out


def commuting_part(C: Array, rotary: tuple[np.ndarray, np.ndarray, int]) -> Array:
    """What of a map (e, e) turns and scales every pair, and acts freely on what does not turn."""
    first, second, r = rotary
    part = np.zeros_like(C)
    part[first, first] = part[second, second] = (C[first, first] + C[second, second]) / 2
    part[second, first] = (C[second, first] - C[first, second]) / 2
    part[first, second] = -part[second, first]
    part[r:, r:] = C[r:, r:]
    return part


def _distance_from_commuting(C: Array, rotary: tuple[np.ndarray, np.ndarray, int]) -> float:
    """What remains of C after its part that commutes, as a share of its length."""
    off = C - commuting_part(C, rotary)
    return float(np.linalg.norm(off)) / max(float(np.linalg.norm(C)), 1e-300)
