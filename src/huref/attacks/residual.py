"""Attacks on the residual stream: gains, rotations, order, signs, scale, and what mean subtraction hides.

The residual rotation after SliceGPT (Ashkboos et al. 2024, arXiv 2401.15024) and QuaRot (arXiv 2404.00456).
A map of the stream is applied to everything that writes it (rows of `o`, `down`, embeddings, their biases) and
to everything that reads it (columns of `q`, `k`, `v`, `gate`, `up`, the router, the unembedding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from huref.attacks.draws import orthogonal, orthogonal_about_ones, signs
from huref.forward.decoder import Decoder
from huref.numerics.arrays import Array

FOLDS = {
    "attention_norm": ("q", "k", "v", "q_a", "kv_a", "attention_gate"),
    "feed_forward_norm": ("gate", "up", "router", "shared_router"),
}
"""Each norm in front of a branch, and the matrices behind it."""

READERS = (*FOLDS["attention_norm"], *FOLDS["feed_forward_norm"])
WRITERS = ("o", "down")
GAINS = ("attention_norm", "feed_forward_norm", "post_attention_norm", "post_feed_forward_norm")
END_GAINS = ("final_norm", "embedding_norm")
BEHIND = ("post_attention_norm", "post_feed_forward_norm")

Move = Callable[[Array], Array]


def absorb_gains(model: Decoder, _: Generator) -> Decoder:
    """Multiply every norm's gain into the matrices behind it; gains become ones, a bias is divided by the gain.

    The final norm goes into the unembedding, which a tied model gets a matrix of its own for; not where other heads
    may read behind it.
    """
    if not model.is_tied and not _gains_left(model):
        return model

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        new: dict[str, Array] = {}
        for norm, readers in FOLDS.items():
            if norm in T:
                new |= {role: T[role] * T[norm] for role in readers if role in T}
                new |= _plain(T, norm)
        return new

    folded = model.with_layers(change)
    if "final_norm" not in model or model.is_wrapped:
        return folded
    unembedding = {"unembedding": model.unembedding * model.tensors["final_norm"]}
    return folded.changed(_plain(model.tensors, "final_norm") | unembedding)


def rotate_residual(model: Decoder, dice: Generator) -> Decoder:
    """Turn the residual stream by a random orthogonal matrix; gains are absorbed first, for norms must be plain.

    Where norms subtract the mean, the matrix keeps the all-ones direction: the model stays in its family.
    """
    draw = orthogonal_about_ones if model.architecture.norm == "layer" else orthogonal
    folded = absorb_gains(model, dice)
    turn = draw(model.geometry.d_model, dice).astype(model.dtype)
    return _map(folded, lambda rows: rows @ turn, lambda columns: turn.T @ columns)


def permute_residual(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the residual dimensions, norms included."""
    order = dice.permutation(model.geometry.d_model)
    moved = _map(model, lambda rows: rows.take(order, axis=-1), lambda columns: columns[order])
    gains = [*END_GAINS, *(f"layers.{i}.{role}" for i in model.layers for role in GAINS)]
    return moved.changed({name: model.tensors[name][order] for name in gains if name in model})


def flip_residual(model: Decoder, dice: Generator) -> Decoder:
    """Negate about half of the residual dimensions; where norms subtract the mean, all of them."""
    d = model.geometry.d_model
    sign = (-np.ones(d) if model.architecture.norm == "layer" else signs(d, dice)).astype(model.dtype)
    return _map(model, lambda rows: rows * sign, lambda columns: columns * _column(sign, columns))


def shift_mean(model: Decoder, dice: Generator) -> Decoder:
    """Move everything along the all-ones direction, which norms that subtract the mean do not see.

    Each writer adds the same random number to all residual dimensions, one number per input; each reader gets,
    per row, a random multiple of the direction that a centred stream has none of, `1 / gain`. What the norm's
    own bias makes of that is taken off the reader's bias; a reader without one is left alone.
    """

    def drift(like: Array, n: int) -> Array:
        numbers: Array = dice.standard_normal(n) * like.std(dtype=np.float64)
        return numbers.astype(like.dtype)

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        new = {role: T[role] + drift(T[role], T[role].shape[1]) for role in WRITERS if role in T}
        new |= {name: T[name] + drift(T[name], 1) for name in (f"{role}_bias" for role in WRITERS) if name in T}
        for norm, readers in FOLDS.items():
            hidden = _hidden_direction(model, T, norm)
            for role in readers:
                if hidden is None or role not in T or (f"{norm}_bias" in T and f"{role}_bias" not in T):
                    continue
                numbers = drift(T[role], len(T[role]))
                new[role] = T[role] + numbers[:, None] * hidden
                if f"{norm}_bias" in T:
                    new[f"{role}_bias"] = T[f"{role}_bias"] - numbers * (hidden @ T[f"{norm}_bias"])
        return new

    written = ["position"] if model.is_tied else ["position", "embedding"]  # a tied embedding also reads
    moved = {name: model.tensors[name] for name in written if name in model}
    return model.with_layers(change).changed(
        {name: tensor + drift(tensor, len(tensor))[:, None] for name, tensor in moved.items()}
    )


def scale_residual(model: Decoder, dice: Generator) -> Decoder:
    """Scale the residual stream, which the norms undo.

    Exact because the norms' epsilon is scaled with it; so everything else that enters a norm is scaled too.
    """
    scale = dice.uniform(2.0, 8.0)
    before = {role: norm for norm, readers in FOLDS.items() for role in readers}

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        factors = dict.fromkeys((*WRITERS, *(f"{role}_bias" for role in WRITERS), "expert_down_bias"), scale)
        factors |= dict.fromkeys((*BEHIND, *(f"{role}_bias" for role in BEHIND)), scale)
        for role, norm in before.items():
            if norm not in T and not model.architecture.unit_norms:
                factors[role] = 1 / scale
        if "q_norm" in T and "q" in T:
            factors |= {role: factors.get(role, 1.0) * scale for role in ("q", "k")}
            factors |= {"q_bias": scale, "k_bias": scale}
        return {name: T[name] * factor for name, factor in factors.items() if name in T and factor != 1.0}

    moved = model.with_layers(change)
    ends = dict.fromkeys(("embedding", "position", "token_types", "embedding_norm", "embedding_norm_bias"), scale)
    if model.is_tied and "final_norm" in model:
        ends |= {"final_norm": 1 / scale, "final_norm_bias": 1 / scale}
    new = {name: model.tensors[name] * factor for name, factor in ends.items() if name in model}
    if model.is_tied and "final_norm" not in model:
        new["unembedding"] = model.unembedding
    return replace(moved.changed(new), settings=replace(model.settings, eps=model.settings.eps * scale**2))


def no_gains(model: Decoder) -> str:
    """Why gains cannot be absorbed."""
    if model.architecture.norm_after_residual:
        return "norms act on the residual stream itself, so no matrix can take their gains"
    if "gains" in model.architecture.pinned:
        return "matrices behind a norm also read what is not behind it"
    if model.is_entwined:
        return "the layers hold weights that are not read, behind the same norms"
    norms = [name for name in _foldable(model) if name in model]
    if not norms:
        return "the norms have no gains"
    return _dead_gains(model, norms)


def no_rotation(model: Decoder) -> str:
    """Why the residual stream cannot be turned."""
    if reason := no_moving(model):
        return reason
    if model.architecture.norm_after_residual:
        return "norms act on the residual stream itself, so their gains pin its axes"
    if "embedding_norm" in model or any(model.has(role) for role in BEHIND):
        return "a norm's gain acts on what joins the residual stream and pins its axes; permute_residual is allowed"
    return _dead_gains(model, [name for name in _foldable(model) if name in model])


def no_moving(model: Decoder) -> str:
    """Why the residual stream cannot be reordered or negated."""
    if "stream" in model.architecture.pinned:
        return "something that is not stored acts on its dimensions"
    return _WRAPPED if model.is_wrapped else ""


def no_mean(model: Decoder) -> str:
    """Why nothing can hide along the all-ones direction."""
    if reason := no_moving(model):
        return reason
    if model.architecture.norm_after_residual:
        return "branches read the residual stream without a norm between"
    if any(model.has(role) for role in BEHIND) or model.architecture.norm != "layer":
        return "the norms do not subtract the mean"
    return _dead_gains(model, [f"layers.{i}.{norm}" for i in model.layers for norm in FOLDS], always=True)


def no_scale(model: Decoder) -> str:
    """Why the residual stream cannot be scaled."""
    if model.has("kv_a"):
        return "norms on latent queries, keys and values have an epsilon of their own"
    if reason := no_moving(model):
        return reason
    if model.architecture.norm_after_residual:
        return "branches read the residual stream without a norm between"
    return "" if model.settings.eps_key else "config.json does not state the norms' epsilon, which must be scaled too"


_WRAPPED = (
    "the checkpoint holds more than is read (vision, audio, other layers), which reads or writes the same stream"
)


def _hidden_direction(model: Decoder, T: Mapping[str, Array], norm: str) -> Array | None:
    """What a row can have any multiple of behind a norm: its output is a gain times numbers whose sum is 0."""
    if norm not in T:
        return np.ones(model.geometry.d_model, model.dtype) if model.architecture.unit_norms else None
    direction = 1 / T[norm]
    unit: Array = direction / np.sqrt(np.square(direction).mean())
    return unit


def _map(model: Decoder, rows: Move, columns: Move) -> Decoder:
    """Apply `rows` to everything whose last axis is the residual stream, `columns` to what writes it."""

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        vectors = (*(f"{role}_bias" for role in WRITERS), *(f"{norm}_bias" for norm in GAINS))
        new = {name: rows(T[name]) for name in (*READERS, *vectors, "expert_down_bias") if name in T}
        return new | {role: columns(T[role]) for role in WRITERS if role in T}

    moved = model.with_layers(change)
    is_narrow = "project_in" in model
    reading = ["position", "token_types", "project_out", *(f"{norm}_bias" for norm in END_GAINS)]
    reading += [] if is_narrow else ["embedding", "unembedding"]
    new = {name: rows(model.tensors[name]) for name in reading if name in model}
    if is_narrow:
        new["project_in"] = columns(model.tensors["project_in"])
    return moved.changed(new)


def _column(numbers: Array, like: Array) -> Array:
    return numbers[:, None] if like.ndim > 1 else numbers


def _plain(tensors: Mapping[str, Array], norm: str) -> dict[str, Array]:
    """The norm with gain one; its bias divided by the gain that moved behind it."""
    bias = f"{norm}_bias"
    divided = {bias: tensors[bias] / tensors[norm]} if bias in tensors else {}
    return {**divided, norm: np.ones_like(tensors[norm])}


def _foldable(model: Decoder) -> list[str]:
    return ["final_norm", *(f"layers.{i}.{norm}" for i in model.layers for norm in FOLDS)]


def _gains_left(model: Decoder) -> bool:
    return any(bool((model.tensors[name] != 1).any()) for name in _foldable(model) if name in model)


def _dead_gains(model: Decoder, norms: Iterable[str], *, always: bool = False) -> str:
    """A gain of nothing cannot be divided by: neither its bias nor a direction can be moved past it."""
    divided = [name for name in norms if name in model and (always or f"{name}_bias" in model)]
    dead = next((name for name in divided if np.abs(model.tensors[name]).min() < 1e-6), "")
    return f"{dead} has gains of zero, and a bias beside them cannot be divided by those" if dead else ""
