"""Attacks inside attention: maps between queries and keys, between values and outputs, order of heads.

HuRef (NeurIPS 2024), section 3.2; docs/reference/attacks.md. With queries `q = C x`, keys `k = C^-T x` the scores
`q . k` stay for any invertible C where nothing stands between; rotary positions leave only maps that commute
with every rotation, norms on queries and keys only signs and what their gains take up.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator

from huref.attacks.draws import invertible, log_normal, signs
from huref.forward.decoder import Decoder
from huref.numerics.arrays import Array


def map_queries_and_keys(model: Decoder, dice: Generator) -> Decoder:
    """`Wq <- C Wq`, `Wk <- C^-T Wk`, one C per KV group, biases included.

    Without rotary positions C is any invertible matrix. With them it turns and scales each pair of dimensions
    that rotates together, and is any invertible matrix on the dimensions that do not rotate.
    """
    if model.has("kv_b"):
        return _map_latent_keys(model, dice)
    if model.has("q_norm"):
        return _trade_gains(model, dice)
    g = model.geometry

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "k" not in T:
            return {}
        C = _commuting(model, dice, len(T["k"]) // g.head_dim)  # (groups, e, e)
        maps = {"q": C.repeat(g.n_heads // len(C), axis=0), "k": np.linalg.inv(C).swapaxes(1, 2)}
        return {
            name: _by_head(matrix, T[name])
            for role, matrix in maps.items()
            for name in (role, f"{role}_bias")
            if name in T
        }

    return model.with_layers(change)


def map_values(model: Decoder, dice: Generator) -> Decoder:
    """`Wv <- C Wv`, `Wo <- Wo C^-1`: any invertible C per KV head, undone in the heads that read it."""
    g, nope = model.geometry, model.architecture.nope_dim

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "o" not in T:
            return {}
        size = T["o"].shape[1] // g.n_heads
        n_groups = len(T["v"]) // size if "v" in T else g.n_heads
        C = np.stack([invertible(size, dice) for _ in range(n_groups)])
        undo = np.linalg.inv(C).swapaxes(1, 2).repeat(g.n_heads // n_groups, axis=0)
        values = {name: _by_head(C, T[name]) for name in ("v", "v_bias") if name in T}
        if "kv_b" in T:
            values = {"kv_b": _part_by_head(C, T["kv_b"], slice(nope, None))}
        return {**values, "o": _by_head(undo, T["o"].T).T}

    return model.with_layers(change)


def permute_heads(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the KV groups, and the query heads inside each group."""
    h = model.geometry.n_heads

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "o" not in T:
            return {}
        e = len(T["q"] if "q" in T else T["q_b"]) // h
        n_groups = len(T["k"]) // e if "k" in T else h
        per_group = h // n_groups
        groups = dice.permutation(n_groups)
        inside = np.stack([dice.permutation(per_group) for _ in range(n_groups)])
        heads = (groups[:, None] * per_group + inside).ravel()
        new = {"o": _ordered(T["o"].T, heads).T}
        for order, roles in ((heads, _BY_HEAD), (groups, ("k", "v"))):
            new |= {name: _ordered(T[name], order) for role in roles for name in (role, f"{role}_bias") if name in T}
        for role, order in (("q", heads), ("k", groups)):
            for name in (f"{role}_norm", f"{role}_norm_bias"):
                if name in T and T[name].size != e:  # a norm's gain for all heads alike has one head's size
                    new[name] = _ordered(T[name].reshape(-1), order).reshape(T[name].shape)
        return new

    return model.with_layers(change)


def heads_are_numbered(model: Decoder) -> str:
    """Why heads cannot be reordered."""
    if "heads" in model.architecture.pinned:
        return "heads have something of their own by their number"
    return "each head has an ALiBi slope of its own, by its number" if model.architecture.position == "alibi" else ""


def norms_on_queries_allow_nothing(model: Decoder) -> str:
    """Why queries and keys cannot be mapped."""
    if "queries" in model.architecture.pinned:
        return "queries and keys have norms without parameters, or another use"
    is_fixed = model.has("q_norm") and not model.has("k_norm")
    return "queries are normed and keys are not" if is_fixed else ""


def values_are_seen(model: Decoder) -> str:
    """Why values cannot be mapped."""
    if "values" in model.architecture.pinned:
        return "something acts on each dimension of the values"
    gates = (model.tensors[f"layers.{i}.attention_gate"] for i in model.layers if "attention_gate" in model.layer(i))
    is_gated = any(len(gate) > model.geometry.n_heads for gate in gates)
    return "a gate acts on each dimension of the values" if is_gated else ""


_BY_HEAD = ("q", "q_b", "kv_b", "attention_gate", "sinks", "attention_inner_norm")


def _map_latent_keys(model: Decoder, dice: Generator) -> Decoder:
    """Any invertible map per head, of the dimensions of queries and keys that do not rotate."""
    h, nope = model.geometry.n_heads, slice(model.architecture.nope_dim)

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "kv_b" not in T:
            return {}
        C = np.stack([invertible(model.architecture.nope_dim, dice) for _ in range(h)])
        undo, queries = np.linalg.inv(C).swapaxes(1, 2), "q_b" if "q_b" in T else "q"
        return {queries: _part_by_head(C, T[queries], nope), "kv_b": _part_by_head(undo, T["kv_b"], nope)}

    return model.with_layers(change)


def _trade_gains(model: Decoder, dice: Generator) -> Decoder:
    """Where queries and keys are normed: a factor moves from one gain to the other, pairs change sign in both.

    A root-mean-square norm does not see signs; where the mean is subtracted too, only the gains change.
    """
    g, is_rms = model.geometry, model.architecture.norm == "rms"
    per_group = g.n_heads // g.n_kv_heads

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "k_norm" not in T:
            return {}
        n = g.n_kv_heads if T["k_norm"].size > g.head_dim else 1
        scale = _per_pair(model, log_normal(n * _n_free(model), dice).reshape(n, -1))  # (n, e)
        flip = _per_pair(model, signs(g.n_kv_heads * _n_free(model), dice).reshape(g.n_kv_heads, -1))
        new: dict[str, Array] = {}
        for role, factor in (("q", scale), ("k", 1 / scale)):
            repeat = per_group if role == "q" else 1
            for name in (f"{role}_norm", f"{role}_norm_bias"):
                if name in T:
                    spread = factor if T[name].size == g.head_dim else factor.repeat(repeat, axis=0)
                    new[name] = T[name] * spread.reshape(T[name].shape).astype(T[name].dtype)
            if is_rms:
                rows = flip.repeat(repeat, axis=0).ravel().astype(T[role].dtype)
                new[role] = T[role] * rows[:, None]
                if f"{role}_bias" in T:
                    new[f"{role}_bias"] = T[f"{role}_bias"] * rows
        return new

    return model.with_layers(change)


def _commuting(model: Decoder, dice: Generator, n: int) -> Array:
    """A map (n, e, e) per KV group that commutes with the family's rotation."""
    e = model.geometry.head_dim
    r = model.architecture.rotary_dim
    angle = dice.uniform(0, 2 * np.pi, (n, r // 2))
    scale = log_normal(n * (r // 2), dice).reshape(n, r // 2)
    C = np.zeros((n, e, e))
    first, second = _pairs(model)
    C[:, first, first] = C[:, second, second] = scale * np.cos(angle)
    C[:, second, first] = scale * np.sin(angle)
    C[:, first, second] = -scale * np.sin(angle)
    if r < e:
        C[:, r:, r:] = np.stack([invertible(e - r, dice) for _ in range(n)])
    return C


def _pairs(model: Decoder) -> tuple[Array, Array]:
    """The dimensions of a head that rotate together."""
    r = model.architecture.rotary_dim
    if model.architecture.position == "rope_interleaved":
        return np.arange(0, r, 2), np.arange(1, r, 2)
    return np.arange(r // 2), np.arange(r // 2, r)


def _n_free(model: Decoder) -> int:
    """Numbers to choose for a head whose rotary pairs must keep one each."""
    return model.geometry.head_dim - model.architecture.rotary_dim // 2


def _per_pair(model: Decoder, numbers: Array) -> Array:
    """(n, free) -> (n, e): both dimensions of a rotary pair get the same."""
    half, r = model.architecture.rotary_dim // 2, model.architecture.rotary_dim
    spread = np.empty((len(numbers), model.geometry.head_dim))
    first, second = _pairs(model)
    spread[:, first] = spread[:, second] = numbers[:, :half]
    spread[:, r:] = numbers[:, half:]
    return spread


def _by_head(maps: Array, rows: Array) -> Array:
    """A map per head, (heads, e, e), on the rows (heads e, d) of a matrix, or on a bias (heads e,)."""
    heads = rows.reshape(len(maps), maps.shape[1], -1)
    return (maps.astype(rows.dtype) @ heads).reshape(rows.shape)


def _part_by_head(maps: Array, rows: Array, part: slice) -> Array:
    """The same on a part of each head's rows."""
    heads = rows.reshape(len(maps), -1, rows.shape[-1]).copy()
    heads[:, part] = maps.astype(rows.dtype) @ heads[:, part]
    return heads.reshape(rows.shape)


def _ordered(rows: Array, order: Array) -> Array:
    return rows.reshape(len(order), len(rows) // len(order), -1)[order].reshape(rows.shape)
