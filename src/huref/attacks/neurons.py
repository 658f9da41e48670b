"""Attacks inside the feed-forward block: order, scale and sign of its neurons, order of its experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import numpy as np
from numpy.random import Generator

from huref.attacks.draws import log_normal, signs
from huref.forward.decoder import Decoder
from huref.numerics.arrays import Array

_BY_NEURON = ("gate", "gate_bias", "up", "up_bias", "feed_forward_inner_norm", "feed_forward_inner_norm_bias")
_BY_EXPERT = ("router", "router_bias", "router_correction", "expert_down_bias")
_PINNED = "what stands between up and down is not the same for all sizes"


def permute_neurons(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the neurons of every layer, of a sparse one inside each expert."""

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "up" not in T:
            return {}
        starts = accumulate(_blocks(model, T), initial=0)
        orders = [dice.permutation(np.arange(a, b)) for a, b in pairwise(starts)]
        return _ordered(T, np.concatenate(orders))

    return model.with_layers(change)


def scale_neurons(model: Decoder, dice: Generator) -> Decoder:
    """`up <- S up`, `down <- down S^-1` for positive S: behind a gate, or where relu(s x) = s relu(x)."""
    return _rescale(model, dice, log_normal)


def flip_neurons(model: Decoder, dice: Generator) -> Decoder:
    """Negate the up row and the down column of about half of the neurons."""
    return _rescale(model, dice, signs)


def permute_experts(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the experts of every sparse layer, and the rows of its router."""
    n, width = model.architecture.n_experts, model.architecture.expert_width

    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "router" not in T:
            return {}
        order = dice.permutation(n)
        routed = (order[:, None] * width + np.arange(width)).ravel()
        shared = np.arange(n * width, len(T["up"]))  # stays last
        new = _ordered(T, np.concatenate([routed, shared]))
        return new | {name: T[name][order] for name in _BY_EXPERT if name in T}

    return model.with_layers(change)


def no_experts(model: Decoder) -> str:
    """Why experts cannot be reordered."""
    if "experts" in model.architecture.pinned:
        return "experts have room for so many tokens each, in their order"
    if model.architecture.expert_groups > 1:
        return "experts are chosen by groups of neighbours"
    return "" if model.has("router") else "there are no experts"


def no_scaling(model: Decoder) -> str:
    """Why neurons cannot be scaled."""
    if "neurons" in model.architecture.pinned:
        return _PINNED
    if model.architecture.gated or model.settings.activation == "relu":
        return ""
    return f"{model.settings.activation} stands between up and down, and there is no gate"


def no_flipping(model: Decoder) -> str:
    """Why neurons cannot be negated."""
    if "neurons" in model.architecture.pinned:
        return _PINNED
    if model.architecture.gated:
        return ""
    return f"{model.settings.activation} stands between up and down, and there is no gate"


def _blocks(model: Decoder, T: Mapping[str, Array]) -> list[int]:
    """Sizes of the blocks within which neurons can change places."""
    arch = model.architecture
    if "router" not in T:
        return [len(T["up"])]
    return [arch.expert_width] * arch.n_experts + ([arch.shared_width] if arch.shared_width else [])


def _ordered(T: Mapping[str, Array], order: Array) -> dict[str, Array]:
    rows = {name: T[name][order] for name in _BY_NEURON if name in T}
    return {**rows, "down": T["down"].take(order, axis=1)}


def _rescale(model: Decoder, dice: Generator, draw: Callable[[int, Generator], Array]) -> Decoder:
    def change(T: Mapping[str, Array], _: int) -> dict[str, Array]:
        if "up" not in T:
            return {}
        S = draw(len(T["up"]), dice).astype(T["up"].dtype)
        bias = {"up_bias": T["up_bias"] * S} if "up_bias" in T else {}
        return {**bias, "up": T["up"] * S[:, None], "down": T["down"] / S}

    return model.with_layers(change)
