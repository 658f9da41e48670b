"""Scales of neurons, maps between queries and keys and between values and outputs, by least squares.

Each is fitted to one side and tried on the other: a factor found on `up` has to undo `down`, a map found on queries
the keys, one found on values the outputs. Where it does no better there than no map at all, there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from huref.explanation.partners import HeadPartners
from huref.explanation.parts import AttentionRows, FeedForwardRows
from huref.explanation.stream import Stream
from huref.model.arch.weights import Architecture

_WORSE = 1.25
"""How much more error a simpler map may leave on the other side and still be taken."""

_MOST_LOPSIDED = 1e7
_FLOOR = 1e-6
"""Error, as a share of the weights' square, that arithmetic in float32 may leave."""


def neuron_scales(b: FeedForwardRows, a: FeedForwardRows, stream: Stream, chosen: Tensor, partners: Tensor) -> Tensor:
    """(n,) `up` of B over `up` of A of partners, with the sign; 1 or -1 where `down` knows of no factor.

    Args:
        chosen: (n,) neurons of B.
        partners: (n,) theirs in A.
    """
    left = stream.b_biased((b.acts if b.ups is None else b.ups)[chosen])
    right = stream.a_biased((a.acts if a.ups is None else a.ups)[partners])
    scales = (left * right).sum(1) / right.square().sum(1).clamp_min(1e-30)
    down_b, down_a = stream.b(b.downs[chosen]), stream.a(a.downs[partners])

    def error(factor: Tensor) -> float:
        undone = down_b * (factor / stream.transform.scale)[:, None]
        return _error(fitted(undone, down_a) if b.has_norm_behind else undone, down_a)

    plain = scales.sign()
    return plain if _is_as_good(error(plain), error(scales)) else scales


def query_key_map(
    b: AttentionRows, a: AttentionRows, pairs: HeadPartners, families: tuple[Architecture, Architecture]
) -> tuple[Tensor, float | None]:
    """(g_b, e, e) float64 C with `Wq_b = C Wq_a`, and how far they are from commuting with rotary positions.

    Args:
        b, a: rows in one stream.
        families: of B and of A.
    """
    rotary = _rotary_pairs(families)
    maps, furthest = _identities(b), 0.0
    for group, of in _matched_groups(pairs):
        mine, theirs = _partners_of(group, b, pairs)
        left, right = _flat(b.q[mine]), _flat(a.q[theirs])
        C = _least_squares(left, right)
        tried = [C] if rotary is None else [_commuting(C, left, right, rotary), C]
        k_b, k_a = b.k[group].double(), a.k[of].double()

        def error(map_: Tensor, k_b: Tensor = k_b, k_a: Tensor = k_a) -> float:
            return _error(undo_key(map_, k_b, k_a, b.has_norms), k_a)

        maps[group] = _kept(tried, error)
        if rotary is not None:
            furthest = max(furthest, _distance_from_commuting(maps[group], rotary))
    return maps, furthest if rotary is not None else None


def value_output_map(b: AttentionRows, a: AttentionRows, pairs: HeadPartners, scale: float) -> Tensor:
    """(g_b, e, e) float64 C with `Wv_b = C Wv_a`, `Wo_b = Wo_a C^-1`."""
    maps = _identities(b)
    for group, of in _matched_groups(pairs):
        mine, theirs = _partners_of(group, b, pairs)
        C = _least_squares(b.v[group].double(), a.v[of].double())
        o_b, o_a = b.o[mine].double(), a.o[theirs].double()

        def error(map_: Tensor, o_b: Tensor = o_b, o_a: Tensor = o_a) -> float:
            undone = map_.T @ o_b / scale
            return _error(fitted(undone, o_a) if b.has_norm_behind else undone, o_a)

        maps[group] = _kept([C], error)
    return maps


def undo_key(C: Tensor, k_b: Tensor, k_a: Tensor, is_scale_free: bool) -> Tensor:
    """`C^T Wk_b`, which is `Wk_a`; where queries and keys are normed, of the length that fits best."""
    undone = C.T @ k_b
    return fitted(undone, k_a) if is_scale_free else undone


def fitted(undone: Tensor, wanted: Tensor) -> Tensor:
    """Of the length that fits best: where a norm follows, it is free."""
    square = float(undone.double().square().sum())
    return undone * (float((undone.double() * wanted.double()).sum()) / square) if square else undone


def _kept(tried: Sequence[Tensor], error: Callable[[Tensor], float]) -> Tensor:
    """The simplest map that undoes the other side as well as any: none, then those tried, in order."""
    sound = [C for C in tried if bool(torch.isfinite(C).all()) and float(torch.linalg.cond(C)) < _MOST_LOPSIDED]
    maps = [torch.eye(len(tried[0]), dtype=tried[0].dtype), *sound]
    errors = [error(C) for C in maps]
    return next(C for C, found in zip(maps, errors, strict=True) if _is_as_good(found, min(errors)))


def _is_as_good(simpler: float, other: float) -> bool:
    return simpler <= _WORSE * other + _FLOOR


def _error(undone: Tensor, wanted: Tensor) -> float:
    return float((undone - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))


def _identities(b: AttentionRows) -> Tensor:
    e = b.k.shape[1]
    return torch.eye(e, dtype=torch.float64).repeat(len(b.k), 1, 1)


def _matched_groups(pairs: HeadPartners) -> list[tuple[int, int]]:
    return [(group, int(of)) for group, of in enumerate(pairs.groups) if of >= 0]


def _partners_of(group: int, b: AttentionRows, pairs: HeadPartners) -> tuple[Tensor, Tensor]:
    """The heads of a group of B that have a partner, and the partners."""
    mine = torch.arange(group * b.per_group, (group + 1) * b.per_group)
    mine = mine[pairs.heads[mine] >= 0]
    return mine, pairs.heads[mine]


def _flat(heads: Tensor) -> Tensor:
    """(m, e, d) -> (e, m d), float64."""
    return heads.double().transpose(0, 1).flatten(1)


def _least_squares(left: Tensor, right: Tensor) -> Tensor:
    """C of least error in `left = C right`."""
    gram = right @ right.T
    ridge = 1e-14 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    C: Tensor = torch.linalg.solve(gram + ridge, right @ left.T).T
    return C


def _rotary_pairs(families: Sequence[Architecture]) -> tuple[Tensor, Tensor, int] | None:
    """The two dimensions of every pair that rotates together, and how many dimensions rotate; None without any."""
    b, a = families
    r = a.rotary_dim
    if b.position != a.position or b.rotary_dim != r or a.position not in ("rope_half", "rope_interleaved"):
        return None
    if a.position == "rope_interleaved":
        return torch.arange(0, r, 2), torch.arange(1, r, 2), r
    return torch.arange(r // 2), torch.arange(r // 2, r), r


def _commuting(C: Tensor, left: Tensor, right: Tensor, rotary: tuple[Tensor, Tensor, int]) -> Tensor:
    """The map of least error among those that turn and scale every pair, free in what does not turn."""
    first, second, r = rotary
    square = (right[first].square() + right[second].square()).sum(1).clamp_min(1e-300)
    cos = (left[first] * right[first] + left[second] * right[second]).sum(1) / square
    sin = (left[second] * right[first] - left[first] * right[second]).sum(1) / square
    out = torch.zeros_like(C)
    out[first, first] = out[second, second] = cos
    out[second, first], out[first, second] = sin, -sin
    if r < len(C):
        out[r:, r:] = _least_squares(left[r:], right[r:])
    return out


def _distance_from_commuting(C: Tensor, rotary: tuple[Tensor, Tensor, int]) -> float:
    """What remains of C after its part that commutes, as a share of its length."""
    first, second, r = rotary
    part = torch.zeros_like(C)
    part[first, first] = part[second, second] = (C[first, first] + C[second, second]) / 2
    part[second, first] = (C[second, first] - C[first, second]) / 2
    part[first, second] = -part[second, first]
    part[r:, r:] = C[r:, r:]
    return float((C - part).norm() / C.norm().clamp_min(1e-300))
