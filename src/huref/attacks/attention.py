"""Attacks inside attention: maps between queries and keys, between values and outputs, order of heads.

HuRef (NeurIPS 2024), section 3.2; docs/reference/attacks.md. With queries `q = C x`, keys `k = C^-T x` the scores
`q . k` stay for any invertible C where nothing stands between; rotary positions leave only maps that commute
with every rotation, norms on queries and keys only signs and what their gains take up.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from huref.attacks.draws import invertible, log_normal, signs
from huref.forward.decoder import Decoder


def map_queries_and_keys(model: Decoder, dice: Generator) -> Decoder:
    """`Wq <- C Wq`, `Wk <- C^-T Wk`, one C per KV group, biases included.

    Without rotary positions C is any invertible matrix. With them it turns and scales each pair of dimensions
    that rotates together, and is any invertible matrix on the dimensions that do not rotate.
    """
    if model.has("q_norm"):
        return _trade_gains(model, dice)
    g = model.geometry
    per_group = g.n_heads // g.n_kv_heads

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        C = _commuting(model, dice)  # (g, e, e)
        maps = {"q": C.repeat_interleave(per_group, dim=0), "k": torch.linalg.inv(C).transpose(1, 2)}
        return {
            name: _by_head(matrix, T[name])
            for role, matrix in maps.items()
            for name in (role, f"{role}_bias")
            if name in T
        }

    return model.with_layers(change)


def map_values(model: Decoder, dice: Generator) -> Decoder:
    """`Wv <- C Wv`, `Wo <- Wo C^-1`: any invertible C per KV head, undone in the heads that read it."""
    g = model.geometry

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        C = torch.stack([invertible(g.head_dim, dice) for _ in range(g.n_kv_heads)])
        undo = torch.linalg.inv(C).transpose(1, 2).repeat_interleave(g.n_heads // g.n_kv_heads, dim=0)
        values = {name: _by_head(C, T[name]) for name in ("v", "v_bias") if name in T}
        return {**values, "o": _by_head(undo, T["o"].T).T}

    return model.with_layers(change)


def permute_heads(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the KV groups, and the query heads inside each group."""
    g = model.geometry
    per_group = g.n_heads // g.n_kv_heads

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        groups = torch.randperm(g.n_kv_heads, generator=dice)
        inside = torch.stack([torch.randperm(per_group, generator=dice) for _ in range(g.n_kv_heads)])
        heads = (groups[:, None] * per_group + inside).flatten()
        new = {"o": _ordered(T["o"].T, heads, g.head_dim).T}
        for role, order in (("q", heads), ("k", groups), ("v", groups)):
            for name in (role, f"{role}_bias", f"{role}_norm", f"{role}_norm_bias"):
                if (
                    name in T and T[name].numel() != g.head_dim
                ):  # a norm's gain for all heads alike has one head's size
                    new[name] = _ordered(T[name], order, g.head_dim)
        return new

    return model.with_layers(change)


def heads_are_numbered(model: Decoder) -> str:
    """Why heads cannot be reordered."""
    return "each head has an ALiBi slope of its own, by its number" if model.architecture.position == "alibi" else ""


def norms_on_queries_allow_nothing(model: Decoder) -> str:
    """Why queries and keys cannot be mapped."""
    is_fixed = model.has("q_norm") and not model.has("k_norm")
    return "queries are normed and keys are not" if is_fixed else ""


def _trade_gains(model: Decoder, dice: Generator) -> Decoder:
    """Where queries and keys are normed: a factor moves from one gain to the other, pairs change sign in both.

    A root-mean-square norm does not see signs; where the mean is subtracted too, only the gains change.
    """
    g, is_rms = model.geometry, model.architecture.norm == "rms"
    per_group = g.n_heads // g.n_kv_heads

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        n = g.n_kv_heads if T["k_norm"].numel() > g.head_dim else 1
        scale = _per_pair(model, log_normal(n * _n_free(model), dice).view(n, -1))  # (n, e)
        flip = _per_pair(model, signs(g.n_kv_heads * _n_free(model), dice).view(g.n_kv_heads, -1))
        new: dict[str, Tensor] = {}
        for role, factor in (("q", scale), ("k", 1 / scale)):
            repeat = per_group if role == "q" else 1
            for name in (f"{role}_norm", f"{role}_norm_bias"):
                if name in T:
                    spread = factor if T[name].numel() == g.head_dim else factor.repeat_interleave(repeat, dim=0)
                    new[name] = T[name] * spread.reshape(T[name].shape).to(T[name].dtype)
            if is_rms:
                rows = flip.repeat_interleave(repeat, dim=0).flatten().to(T[role].dtype)
                new[role] = T[role] * rows[:, None]
                if f"{role}_bias" in T:
                    new[f"{role}_bias"] = T[f"{role}_bias"] * rows
        return new

    return model.with_layers(change)


def _commuting(model: Decoder, dice: Generator) -> Tensor:
    """A map (g, e, e) per KV group that commutes with the family's rotation."""
    n, e = model.geometry.n_kv_heads, model.geometry.head_dim
    r = model.architecture.rotary_dim
    angle = torch.empty(n, r // 2, dtype=torch.float64).uniform_(0, 2 * torch.pi, generator=dice)
    scale = log_normal(n * (r // 2), dice).view(n, r // 2)
    C = torch.zeros(n, e, e, dtype=torch.float64)
    first, second = _pairs(model)
    C[:, first, first] = C[:, second, second] = scale * angle.cos()
    C[:, second, first] = scale * angle.sin()
    C[:, first, second] = -scale * angle.sin()
    if r < e:
        C[:, r:, r:] = torch.stack([invertible(e - r, dice) for _ in range(n)])
    return C


def _pairs(model: Decoder) -> tuple[Tensor, Tensor]:
    """The dimensions of a head that rotate together."""
    r = model.architecture.rotary_dim
    if model.architecture.position == "rope_interleaved":
        return torch.arange(0, r, 2), torch.arange(1, r, 2)
    return torch.arange(r // 2), torch.arange(r // 2, r)


def _n_free(model: Decoder) -> int:
    """Numbers to choose for a head whose rotary pairs must keep one each."""
    return model.geometry.head_dim - model.architecture.rotary_dim // 2


def _per_pair(model: Decoder, numbers: Tensor) -> Tensor:
    """(n, free) -> (n, e): both dimensions of a rotary pair get the same."""
    half, r = model.architecture.rotary_dim // 2, model.architecture.rotary_dim
    spread = torch.empty(len(numbers), model.geometry.head_dim, dtype=numbers.dtype)
    first, second = _pairs(model)
    spread[:, first] = spread[:, second] = numbers[:, :half]
    spread[:, r:] = numbers[:, half:]
    return spread


def _by_head(maps: Tensor, rows: Tensor) -> Tensor:
    """A map per head, (heads, e, e), on the rows (heads e, d) of a matrix, or on a bias (heads e,)."""
    heads = rows.reshape(len(maps), maps.shape[1], -1)
    return (maps.to(rows.dtype) @ heads).reshape(rows.shape)


def _ordered(rows: Tensor, order: Tensor, head_dim: int) -> Tensor:
    return rows.reshape(len(order), head_dim, -1)[order].reshape(rows.shape)
