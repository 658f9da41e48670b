"""Attacks inside the feed-forward block: order, scale and sign of its neurons, order of its experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Generator, Tensor

from huref.attacks.draws import log_normal, signs
from huref.forward.decoder import Decoder


def permute_neurons(model: Decoder, dice: Generator) -> Decoder:
    """Reorder the neurons of every layer, of a sparse one inside each expert."""

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        starts = [0, *torch.tensor(_blocks(model, T)).cumsum(0).tolist()]
        orders = [torch.randperm(b - a, generator=dice) + a for a, b in pairwise(starts)]
        return _ordered(T, torch.cat(orders))

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

    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        if "router" not in T:
            return {}
        order = torch.randperm(n, generator=dice)
        routed = (order[:, None] * width + torch.arange(width)).flatten()
        new = _ordered(T, torch.cat([routed, torch.arange(n * width, len(T["up"]))]))  # the shared expert stays last
        return new | {name: T[name][order] for name in ("router", "router_bias") if name in T}

    return model.with_layers(change)


def no_experts(model: Decoder) -> str:
    """Why experts cannot be reordered."""
    return "" if model.has("router") else "there are no experts"


def no_scaling(model: Decoder) -> str:
    """Why neurons cannot be scaled."""
    if model.architecture.gated or model.settings.activation == "relu":
        return ""
    return f"{model.settings.activation} stands between up and down, and there is no gate"


def no_flipping(model: Decoder) -> str:
    """Why neurons cannot be negated."""
    if model.architecture.gated:
        return ""
    return f"{model.settings.activation} stands between up and down, and there is no gate"


def _blocks(model: Decoder, T: Mapping[str, Tensor]) -> list[int]:
    """Sizes of the blocks within which neurons can change places."""
    arch = model.architecture
    if "router" not in T:
        return [len(T["up"])]
    return [arch.expert_width] * arch.n_experts + ([arch.shared_width] if arch.shared_width else [])


def _ordered(T: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    rows = {name: T[name][order] for name in ("gate", "gate_bias", "up", "up_bias") if name in T}
    return {**rows, "down": T["down"][:, order]}


def _rescale(model: Decoder, dice: Generator, draw: Callable[[int, Generator], Tensor]) -> Decoder:
    def change(T: Mapping[str, Tensor], _: int) -> dict[str, Tensor]:
        S = draw(len(T["up"]), dice).to(T["up"].dtype)
        bias = {"up_bias": T["up_bias"] * S} if "up_bias" in T else {}
        return {**bias, "up": T["up"] * S[:, None], "down": T["down"] / S}

    return model.with_layers(change)
