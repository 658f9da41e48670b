"""One branch of a layer put in A's order: neurons, experts, heads, and the maps between them.

Everything here keeps what the branch computes, to the last digit of the arithmetic, however well or badly the
numbers were recovered: what is fitted is applied to one side and its inverse to the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from huref.kinship.recovery.maps import commuting_part, rotary_pairs
from huref.kinship.recovery.places import head_order, neuron_order
from huref.kinship.recovery.transform import LayerTransform
from huref.model.arch.canonical import Geometry
from huref.model.arch.weights import Architecture
from huref.numerics.arrays import Array

Tensors = Mapping[str, Array]
"""By role: `q`, `q_bias`, `attention_norm`, ..."""

_TRADED = 0.05
"""From this factor on, as a logarithm, gains of queries and keys count as traded."""


def blocks_of(architecture: Architecture, tensors: Tensors) -> tuple[int, ...]:
    """Neurons of each expert, a shared one's last; one number in a dense layer."""
    if "router" not in tensors:
        return (len(tensors["up"]),)
    shared = (architecture.shared_width,) if architecture.shared_width else ()
    return (architecture.expert_width,) * architecture.n_experts + shared


def undo_neurons(
    T: Tensors, layer: LayerTransform, architecture: Architecture, activation: str, blocks_a: tuple[int, ...]
) -> dict[str, Array]:
    """The neurons of a layer in A's order, scales and signs taken off where the activation allows any."""
    order, experts = neuron_order(layer, blocks_of(architecture, T), blocks_a)
    factor = np.where(layer.scales == 0, 1.0, layer.scales.astype(np.float64))
    if not architecture.gated:
        factor = np.abs(factor) if activation == "relu" else np.ones_like(factor)
    scaled = {"up": T["up"] / factor[:, None], "down": T["down"] * factor}
    scaled |= {"up_bias": T["up_bias"] / factor} if "up_bias" in T else {}
    rows = {**{name: T[name] for name in ("gate", "gate_bias") if name in T}, **scaled}
    new = {name: tensor[order] for name, tensor in rows.items() if name != "down"}
    routed = experts[: len(T["router"])] if "router" in T else experts
    new |= {name: T[name][routed] for name in ("router", "router_bias") if name in T}
    return {**new, "down": scaled["down"][:, order]}


def undo_heads(
    T: Tensors, layer: LayerTransform, architecture: Architecture, geometry: Geometry, of_a: Geometry
) -> dict[str, Array]:
    """The heads of a layer in A's order, maps between queries and keys, and values and outputs, taken off."""
    new = dict(T)
    has_norms = "q_norm" in T or "k_norm" in T
    if layer.vo is not None:
        D = layer.vo.astype(np.float64)
        for name in ("v", "v_bias"):
            if name in T:
                new[name] = _by_head(np.linalg.inv(D), T[name])
        per_group = geometry.n_heads // geometry.n_kv_heads
        new["o"] = _by_head(D.swapaxes(1, 2).repeat(per_group, axis=0), T["o"].T).T
    if layer.qk is not None and not has_norms:
        new |= _without_map(new, layer.qk.astype(np.float64), architecture, geometry)
    if layer.qk is not None and has_norms and architecture.norm == "rms":
        new |= _without_signs(new, layer.qk.astype(np.float64), architecture, geometry)
    if architecture.position == "alibi":  # each head has a slope of its own, by its number
        return new
    groups, heads = head_order(layer, of_a.n_kv_heads, of_a.n_heads)
    new["o"] = _ordered(new["o"].T, heads, geometry.head_dim).T
    for role, order in (("q", heads), ("k", groups), ("v", groups)):
        for name in (role, f"{role}_bias", f"{role}_norm", f"{role}_norm_bias"):
            if name in new and new[name].size != geometry.head_dim:
                new[name] = _ordered(new[name], order, geometry.head_dim)
    return new


def undo_traded_gains(
    T: Tensors, of_a: Tensors, architecture: Architecture, geometry: Geometry, *, is_near: bool
) -> dict[str, Array]:
    """Gains of normed queries and keys without the factor that one gave to the other; heads in A's order.

    Args:
        is_near: any factor counts, not only one that training does not explain.
    """
    names = ("q_norm", "k_norm")
    if not all(name in T and name in of_a and T[name].shape == of_a[name].shape for name in names):
        return {}
    e, groups = geometry.head_dim, geometry.n_kv_heads
    ratios = [(T[name] / np.where(of_a[name] == 0, np.nan, of_a[name])).reshape(-1, e) for name in names]
    if not all(bool((ratio > 0).all()) for ratio in ratios):
        return {}
    logs = [np.log(ratio).reshape(groups if len(ratio) > 1 else 1, -1, e).mean(1) for ratio in ratios]
    if len(logs[0]) != len(logs[1]):
        logs = [each.mean(0, keepdims=True) for each in logs]
    traded = _alike_in_pairs((logs[0] - logs[1]) / 2, architecture)
    if np.abs(traded).max() < _TRADED and not is_near:
        return {}
    new = {}
    for role, factor in (("q", np.exp(-traded)), ("k", np.exp(traded))):
        for name in (f"{role}_norm", f"{role}_norm_bias"):
            if name in T:
                heads = T[name].reshape(-1, e)
                new[name] = (heads * factor.repeat(len(heads) // len(factor), axis=0)).reshape(T[name].shape)
    return new


def _without_map(T: Tensors, C: Array, architecture: Architecture, geometry: Geometry) -> dict[str, Array]:
    """Queries times the inverse, keys times the transpose, of what commutes with the positions in every map."""
    if architecture.position.startswith("rope"):
        pairs = rotary_pairs((architecture, architecture))
        if pairs is None:
            return {}
        C = np.stack([commuting_part(each, pairs) for each in C])
    maps = {"q": np.linalg.inv(C).repeat(geometry.n_heads // geometry.n_kv_heads, axis=0), "k": C.swapaxes(1, 2)}
    return {name: _by_head(maps[role], T[name]) for role in maps for name in (role, f"{role}_bias") if name in T}


def _without_signs(T: Tensors, C: Array, architecture: Architecture, geometry: Geometry) -> dict[str, Array]:
    """Where queries and keys are normed: signs of whole rotary pairs alone are free in the matrices."""
    diagonal = np.einsum("gee->ge", C)
    signs = np.where(_alike_in_pairs(diagonal, architecture) < 0, -1.0, 1.0)
    per_group = geometry.n_heads // geometry.n_kv_heads
    rows = {"q": signs.repeat(per_group, axis=0).ravel(), "k": signs.ravel()}
    return {
        name: T[name] * (rows[role][:, None] if T[name].ndim > 1 else rows[role])
        for role in rows
        for name in (role, f"{role}_bias")
        if name in T
    }


def _alike_in_pairs(heads: Array, architecture: Architecture) -> Array:
    """Numbers (n, e) of heads, with the mean of both dimensions of a rotary pair in both."""
    pairs = rotary_pairs((architecture, architecture))
    if pairs is None:
        return heads
    first, second, _ = pairs
    out = heads.copy()
    out[:, first] = out[:, second] = (heads[:, first] + heads[:, second]) / 2
    return out


def _by_head(maps: Array, rows: Array) -> Array:
    """A map per head, (heads, e, e), on the rows (heads e, d) of a matrix, or on a bias (heads e,)."""
    mapped: Array = (maps @ rows.reshape(len(maps), maps.shape[1], -1)).reshape(rows.shape)
    return mapped


def _ordered(rows: Array, order: Array, head_dim: int) -> Array:
    return rows.reshape(len(order), head_dim, -1)[order].reshape(rows.shape)
