"""Attacks on the number of layers that keep the function exactly.

A layer whose `o` and `down` are zero (with their biases) adds nothing to the residual stream, whatever else it
holds. One such layer can stand anywhere. A serial layer `x + A(x)`, then `x + F(x)`, is two layers: one that
only attends, one that only feeds forward. A parallel layer `x + A(x) + F(x)` is not, for F would read `x + A(x)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from huref.forward.decoder import Decoder
from huref.model.arch.roles import ATTENTION_ROLES
from huref.numerics.arrays import Array

SHARE = 4
"""One silent layer is inserted for this many layers."""


def insert_layers(model: Decoder, dice: Generator) -> Decoder:
    """Insert silent copies: behind a quarter of the layers, at random, their own copy with `o` and `down` zero."""
    n = model.geometry.n_layers
    chosen = set(dice.permutation(n)[: math.ceil(n / SHARE)].tolist())
    plan: list[tuple[int, tuple[str, ...]]] = []
    for i in model.layers:
        plan += [(i, ())] + ([(i, ("o", "down"))] if i in chosen else [])
    return _rebuild(model, plan)


def split_layers(model: Decoder, _: Generator) -> Decoder:
    """Every layer becomes two: attention with `down` zero, then the feed-forward block with `o` zero."""
    return _rebuild(model, [(i, (role,)) for i in model.layers for role in ("down", "o")])


def merge_layers(model: Decoder, _: Generator) -> Decoder:
    """Undo both: silent layers go, and a layer that only attends is joined with one behind it that only feeds."""
    plan: list[tuple[int, int]] = []  # where attention comes from, where the rest comes from
    waiting = -1
    for i in model.layers:
        attends, feeds = (not _is_silent(model, i, role) for role in ("o", "down"))
        if waiting >= 0 and not (feeds and not attends):
            plan, waiting = [*plan, (waiting, waiting)], -1
        if attends and not feeds and not model.architecture.parallel:
            waiting = i
        elif waiting >= 0:
            plan, waiting = [*plan, (waiting, i)], -1
        elif attends or feeds:
            plan.append((i, i))
    plan += [(waiting, waiting)] if waiting >= 0 else []
    return _joined(model, plan)


def no_layers(model: Decoder) -> str:
    """Why layers cannot be inserted or dropped."""
    if model.architecture.norm_after_residual:
        return "norms act on the residual sum, so a silent layer still norms it"
    if model.settings.layers_are_numbered:
        return f"what a layer does depends on its number: {model.settings.layers_are_numbered}"
    return ""


def no_splitting(model: Decoder) -> str:
    """Why layers cannot be split."""
    if model.architecture.parallel:
        return "attention and feed-forward read the same stream; one after the other they would not"
    return no_layers(model)


def no_merging(model: Decoder) -> str:
    """Why there is nothing to merge."""
    if reason := no_layers(model):
        return reason
    silent = any(_is_silent(model, i, role) for i in model.layers for role in ("o", "down"))
    return "" if silent else "no layer is silent; layers that do something cannot be merged exactly"


def _is_silent(model: Decoder, i: int, role: str) -> bool:
    names = (
        f"layers.{i}.{role}",
        f"layers.{i}.{role}_bias",
        *([f"layers.{i}.expert_down_bias"] if role == "down" else []),
    )
    return not any(bool(model.tensors[name].any()) for name in names if name in model)


def _rebuild(model: Decoder, plan: Iterable[tuple[int, tuple[str, ...]]]) -> Decoder:
    """The layers of a plan: a copy of which, and the roles that are silenced."""
    stack: list[tuple[int, dict[str, Array]]] = []
    for i, silenced in plan:
        T = model.layer(i)
        names = [f"{role}{suffix}" for role in silenced for suffix in ("", "_bias")]
        names += ["expert_down_bias"] if "down" in silenced else []
        stack.append((i, T | {name: np.zeros_like(T[name]) for name in names if name in T}))
    return _stacked(model, stack)


def _joined(model: Decoder, plan: Iterable[tuple[int, int]]) -> Decoder:
    roles = {f"{role}{suffix}" for role in ATTENTION_ROLES for suffix in ("", "_bias")}
    return _stacked(
        model,
        [
            (first, model.layer(second) | {role: t for role, t in model.layer(first).items() if role in roles})
            for first, second in plan
        ],
    )


def _stacked(model: Decoder, stack: list[tuple[int, dict[str, Array]]]) -> Decoder:
    kept: Mapping[str, Array] = {n: t for n, t in model.tensors.items() if not n.startswith("layers.")}
    layers = {f"layers.{new}.{role}": t for new, (_, T) in enumerate(stack) for role, t in T.items()}
    return replace(
        model,
        tensors={**kept, **layers},
        geometry=replace(model.geometry, n_layers=len(stack)),
        layer_origins=tuple(model.layer_origins[i] for i, _ in stack),
    )
