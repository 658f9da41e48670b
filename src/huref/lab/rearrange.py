"""Rearrangements of a Llama that change its weights and not its function: the attacks a fingerprint must survive.

METHOD.md, section 3; HuRef (NeurIPS 2024), section 3.2; the residual rotation after SliceGPT (Ashkboos et al. 2024,
arXiv 2401.15024) and QuaRot (arXiv 2404.00456). Each is a pure function of a model and a source of randomness.
Matrices are (out, in) and projections `x @ W.T`. Random draws are made in float64, so that one seed means one
rearrangement, and applied in the type of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from huref.errors import UsageError
from huref.lab.llama import Llama

Change = Callable[[Llama, Generator], Llama]

READS = ("q", "k", "v", "gate", "up")
"""Layer roles that read the residual stream; `o` and `down` write it."""

FOLDS = {"attention_norm": ("q", "k", "v"), "feed_forward_norm": ("gate", "up")}
"""Each norm and the matrices behind it."""


@dataclass(frozen=True)
class Rearrangement:
    """One kind of attack: what it does, in a line, and the function that does it."""

    summary: str
    change: Change


def rearrange(model: Llama, seed: int, kinds: Sequence[str] | None = None) -> Llama:
    """Apply rearrangements in order.

    Args:
        seed: each kind draws from a stream of its own, so leaving one out does not change the others.
        kinds: keys of `KINDS`; None means `DEFAULT_KINDS`.

    Returns:
        Weights of the given model's type. Give and save float32 or wider: after bfloat16 the logits would agree
        only to its rounding (1 % of their range on SmolLM2-135M; float32: 2e-6).

    Raises:
        UsageError: an unknown kind.
    """
    chosen = DEFAULT_KINDS if kinds is None else tuple(kinds)
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown:
        raise UsageError(
            "unknown rearrangement",
            where="kinds",
            expected=", ".join(KINDS),
            got=", ".join(unknown),
            next_step="huref attack --list",
        )
    for kind in chosen:
        dice = Generator().manual_seed(seed * len(KINDS) + list(KINDS).index(kind))
        model = KINDS[kind].change(model, dice)
    return model


def logit_error(before: Tensor, after: Tensor) -> float:
    """Largest difference of two logit tensors over the range of the first: 0 for equal functions."""
    spread = float(before.max() - before.min())
    return float((before - after).abs().max()) / spread


def absorb_gains(model: Llama, _: Generator) -> Llama:
    """Multiply every norm's gain into the matrices behind it; gains become ones.

    The final norm goes into the unembedding, which a tied model gets a matrix of its own for.
    """
    tensors = dict(model.tensors)
    if not model.is_tied and all(bool((t == 1).all()) for t in tensors.values() if t.ndim == 1):
        return model
    for layer in _layers(model):
        for norm, roles in FOLDS.items():
            gain = tensors[layer + norm]
            tensors |= {layer + role: tensors[layer + role] * gain for role in roles}
            tensors[layer + norm] = torch.ones_like(gain)
    tensors["unembedding"] = model.unembedding * tensors["final_norm"]
    tensors["final_norm"] = torch.ones_like(tensors["final_norm"])
    return Llama(model.config, tensors)


def rotate_residual(model: Llama, dice: Generator) -> Llama:
    """Turn the residual stream by a random orthogonal matrix; gains are absorbed first, for norms must be plain."""
    folded = absorb_gains(model, dice)
    turn = _orthogonal(model.config.geometry.d_model, dice).to(_dtype(model))
    return _map_residual(folded, lambda rows: rows @ turn, lambda columns: turn.T @ columns)


def permute_residual(model: Llama, dice: Generator) -> Llama:
    """Reorder the residual dimensions, norms included."""
    order = torch.randperm(model.config.geometry.d_model, generator=dice)
    moved = _map_residual(model, lambda rows: rows[:, order], lambda columns: columns[order])
    norms = {name: t[order] for name, t in model.tensors.items() if t.ndim == 1}
    return _with(moved, norms)


def scale_residual(model: Llama, dice: Generator) -> Llama:
    """Scale the residual stream, which the norms undo.

    Exact only because the norm's epsilon is scaled with it; a copy that must keep its configuration changes a
    little in rows whose mean square is near epsilon.
    """
    scale = float(torch.empty((), dtype=torch.float64).uniform_(2.0, 8.0, generator=dice))
    written = [layer + role for layer in _layers(model) for role in ("o", "down")]
    tensors = {name: model.tensors[name] * scale for name in ["embedding", *written]}
    if model.is_tied:
        tensors["final_norm"] = model.tensors["final_norm"] / scale
    config = replace(model.config, norm_eps=model.config.norm_eps * scale**2)
    return replace(_with(model, tensors), config=config)


def permute_neurons(model: Llama, dice: Generator) -> Llama:
    """Reorder the feed-forward neurons of every layer."""
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        order = torch.randperm(model.config.geometry.d_ff, generator=dice)
        tensors |= {layer + role: model.tensors[layer + role][order] for role in ("gate", "up")}
        tensors[layer + "down"] = model.tensors[layer + "down"][:, order]
    return _with(model, tensors)


def scale_neurons(model: Llama, dice: Generator) -> Llama:
    """Scale every neuron's up row by a positive number and its down column by the inverse."""
    return _rescale_neurons(model, dice, _log_normal)


def flip_neurons(model: Llama, dice: Generator) -> Llama:
    """Negate the up row and the down column of about half of the neurons."""
    return _rescale_neurons(model, dice, _signs)


def mix_values(model: Llama, dice: Generator) -> Llama:
    """An invertible map of each KV head's values, undone in the output projection of the heads that read it."""
    g = model.config.geometry
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        maps = torch.stack([_invertible(g.head_dim, dice) for _ in range(g.n_kv_heads)])
        v = _heads(model.tensors[layer + "v"], g.n_kv_heads)
        o = _heads(model.tensors[layer + "o"].T, g.n_heads)  # row e of head i: what value e writes
        undo = torch.linalg.inv(maps).transpose(1, 2).repeat_interleave(g.n_heads // g.n_kv_heads, dim=0)
        tensors[layer + "v"] = (maps.to(v.dtype) @ v).flatten(0, 1)
        tensors[layer + "o"] = (undo.to(o.dtype) @ o).flatten(0, 1).T
    return _with(model, tensors)


def turn_rotary_pairs(model: Llama, dice: Generator) -> Llama:
    """Turn and scale each rotary pair of the queries, and the group's keys inversely.

    Only maps that commute with the rotary embedding keep attention scores: a rotation and a scale per pair
    (j, j + e / 2), the same for all query heads of a KV group.
    """
    g = model.config.geometry
    half, per_group = g.head_dim // 2, g.n_heads // g.n_kv_heads
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        angle = torch.empty(g.n_kv_heads, half, dtype=torch.float64).uniform_(0, 2 * torch.pi, generator=dice)
        scale = _log_normal(g.n_kv_heads * half, dice).view(g.n_kv_heads, half)
        q, k = (
            _turned(_heads(model.tensors[layer + role], heads), angle.repeat_interleave(repeat, dim=0), factor)
            for role, heads, repeat, factor in (
                ("q", g.n_heads, per_group, scale.repeat_interleave(per_group, dim=0)),
                ("k", g.n_kv_heads, 1, 1 / scale),
            )
        )
        tensors |= {layer + "q": q.flatten(0, 1), layer + "k": k.flatten(0, 1)}
    return _with(model, tensors)


def permute_heads(model: Llama, dice: Generator) -> Llama:
    """Reorder the KV groups, and the query heads inside each group."""
    g = model.config.geometry
    per_group = g.n_heads // g.n_kv_heads
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        groups = torch.randperm(g.n_kv_heads, generator=dice)
        inside = torch.stack([torch.randperm(per_group, generator=dice) for _ in range(g.n_kv_heads)])
        heads = (groups[:, None] * per_group + inside).flatten()
        for role, order in (("q", heads), ("k", groups), ("v", groups)):
            tensors[layer + role] = _heads(model.tensors[layer + role], len(order))[order].flatten(0, 1)
        tensors[layer + "o"] = _heads(model.tensors[layer + "o"].T, g.n_heads)[heads].flatten(0, 1).T
    return _with(model, tensors)


KINDS: Mapping[str, Rearrangement] = {
    "absorb_gains": Rearrangement("norm gains multiplied into the next matrices", absorb_gains),
    "rotate_residual": Rearrangement("residual stream turned by a random orthogonal matrix", rotate_residual),
    "permute_residual": Rearrangement("residual dimensions reordered", permute_residual),
    "scale_residual": Rearrangement("residual stream scaled, and the norms' epsilon with it", scale_residual),
    "permute_neurons": Rearrangement("feed-forward neurons reordered", permute_neurons),
    "scale_neurons": Rearrangement("up rows scaled, down columns inversely", scale_neurons),
    "flip_neurons": Rearrangement("signs of up rows and down columns flipped", flip_neurons),
    "mix_values": Rearrangement("invertible map between value and output projections", mix_values),
    "turn_rotary_pairs": Rearrangement("rotation and scale of rotary pairs of queries and keys", turn_rotary_pairs),
    "permute_heads": Rearrangement("KV groups and their query heads reordered", permute_heads),
}
"""Every kind of attack, in the order in which `rearrange` numbers its random streams."""

DEFAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("permute_residual", "scale_residual"))
"""Everything that keeps config.json as it is; a residual permutation is a special rotation."""


def _layers(model: Llama) -> Iterator[str]:
    """Name prefixes of the layers."""
    return (f"layers.{index}." for index in range(model.config.geometry.n_layers))


def _dtype(model: Llama) -> torch.dtype:
    return model.tensors["embedding"].dtype


def _with(model: Llama, changed: Mapping[str, Tensor]) -> Llama:
    return Llama(model.config, {**model.tensors, **changed})


def _map_residual(model: Llama, rows: Callable[[Tensor], Tensor], columns: Callable[[Tensor], Tensor]) -> Llama:
    """Apply `rows` to everything whose last axis is the residual stream, `columns` to what writes it."""
    reading = ["embedding"] + ([] if model.is_tied else ["unembedding"])
    reading += [layer + role for layer in _layers(model) for role in READS]
    writing = [layer + role for layer in _layers(model) for role in ("o", "down")]
    changed = {name: rows(model.tensors[name]) for name in reading}
    return _with(model, changed | {name: columns(model.tensors[name]) for name in writing})


def _rescale_neurons(model: Llama, dice: Generator, draw: Callable[[int, Generator], Tensor]) -> Llama:
    tensors: dict[str, Tensor] = {}
    for layer in _layers(model):
        scale = draw(model.config.geometry.d_ff, dice).to(_dtype(model))
        tensors[layer + "up"] = model.tensors[layer + "up"] * scale[:, None]
        tensors[layer + "down"] = model.tensors[layer + "down"] / scale
    return _with(model, tensors)


def _heads(matrix: Tensor, n_heads: int) -> Tensor:
    """(heads e, d) -> (heads, e, d)."""
    return matrix.reshape(n_heads, -1, matrix.shape[1])


def _turned(heads: Tensor, angle: Tensor, scale: Tensor) -> Tensor:
    """Rotary pairs of (heads, e, d) turned by `angle` and scaled, (heads, e / 2) each."""
    first, second = heads.chunk(2, dim=1)
    cos, sin = ((scale * part)[..., None].to(heads.dtype) for part in (angle.cos(), angle.sin()))
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=1)


def _log_normal(n: int, dice: Generator) -> Tensor:
    """Positive factors, two thirds of them between 0.6 and 1.65."""
    return torch.randn(n, dtype=torch.float64, generator=dice).mul(0.5).exp()


def _signs(n: int, dice: Generator) -> Tensor:
    return torch.randint(0, 2, (n,), generator=dice).double() * 2 - 1


def _orthogonal(n: int, dice: Generator) -> Tensor:
    """Uniformly random: QR of a Gaussian matrix with the signs of R's diagonal put right (Mezzadri 2007)."""
    Q, R = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=dice))
    turn: Tensor = Q * R.diagonal().sign()
    return turn


def _invertible(n: int, dice: Generator) -> Tensor:
    """A random matrix with singular values near 1, so that float32 loses little in its inverse."""
    return _orthogonal(n, dice) * _log_normal(n, dice) @ _orthogonal(n, dice)
