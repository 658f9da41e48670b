"""The list of attacks: what each is called, what it does, which models allow it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.random import PCG64, Generator

from huref.attacks import attention, layers, neurons, residual, vocabulary
from huref.errors import UsageError
from huref.forward.decoder import Decoder

Change = Callable[[Decoder, Generator], Decoder]

ALL = "all"


def _never(_: Decoder) -> str:
    return ""


@dataclass(frozen=True)
class Kind:
    """One attack.

    Attributes:
        summary: what it does, in a line.
        change: the model and a source of randomness -> the attacked model; same logits.
        obstacle: why this model does not allow it; empty where it does.
        in_all: whether `all` has it.
    """

    summary: str
    change: Change
    obstacle: Callable[[Decoder], str] = _never
    in_all: bool = True


KINDS: Mapping[str, Kind] = {
    "identity": Kind("nothing; the model as safetensors, for comparison", lambda model, _: model, in_all=False),
    "absorb_gains": Kind(
        "norm gains multiplied into the matrices behind them", residual.absorb_gains, residual.no_gains
    ),
    "rotate_residual": Kind(
        "residual stream turned by a random orthogonal matrix, gains absorbed first",
        residual.rotate_residual,
        residual.no_rotation,
    ),
    "permute_residual": Kind("residual dimensions reordered", residual.permute_residual, residual.no_moving),
    "flip_residual": Kind(
        "signs of residual dimensions: half of them, or all where norms subtract the mean",
        residual.flip_residual,
        residual.no_moving,
    ),
    "shift_mean": Kind(
        "random numbers along the all-ones direction that LayerNorm subtracts", residual.shift_mean, residual.no_mean
    ),
    "scale_residual": Kind(
        "residual stream scaled, and the norms' epsilon with it", residual.scale_residual, residual.no_scale
    ),
    "permute_neurons": Kind("feed-forward neurons reordered", neurons.permute_neurons),
    "scale_neurons": Kind(
        "up rows scaled, down columns inversely (gated, or relu)", neurons.scale_neurons, neurons.no_scaling
    ),
    "flip_neurons": Kind("signs of up rows and down columns (gated)", neurons.flip_neurons, neurons.no_flipping),
    "permute_experts": Kind("experts and the router's rows reordered", neurons.permute_experts, neurons.no_experts),
    "qk_map": Kind(
        "invertible map between queries and keys that commutes with positions",
        attention.map_queries_and_keys,
        attention.norms_on_queries_allow_nothing,
    ),
    "vo_map": Kind(
        "invertible map between values and outputs, one per KV head", attention.map_values, attention.values_are_seen
    ),
    "permute_heads": Kind(
        "KV groups and their query heads reordered", attention.permute_heads, attention.heads_are_numbered
    ),
    "insert_layers": Kind(
        "layers that add nothing (o and down zero), one for every four", layers.insert_layers, layers.no_layers
    ),
    "split_layers": Kind(
        "every layer as two: attention, then feed-forward", layers.split_layers, layers.no_splitting, in_all=False
    ),
    "merge_layers": Kind(
        "silent layers dropped and split ones joined again", layers.merge_layers, layers.no_merging, in_all=False
    ),
    "permute_vocabulary": Kind(
        "token numbers changed, in the embeddings and in the tokenizer's files",
        vocabulary.permute_vocabulary,
        vocabulary.no_renumbering,
    ),
}
"""Every attack by name; `all` applies them in this order."""


@dataclass(frozen=True)
class Outcome:
    """What became of a list of kinds.

    Attributes:
        model: the attacked one.
        applied: kinds in the order in which they were applied.
        skipped: kinds that `all` left out -> why the model does not allow them.
    """

    model: Decoder
    applied: tuple[str, ...]
    skipped: Mapping[str, str]


def parse_kinds(text: str) -> tuple[str, ...]:
    """`qk_map+vo_map` or `qk_map,vo_map` -> kinds in that order.

    Raises:
        UsageError: one of them is no attack.
    """
    kinds = tuple(part.strip().replace("-", "_") for part in text.replace(",", "+").split("+"))
    unknown = [kind for kind in kinds if kind not in KINDS and kind != ALL]
    if unknown:
        raise UsageError(
            "there is no such attack",
            where="KIND",
            expected=", ".join((*KINDS, ALL)),
            got=", ".join(unknown) or "nothing",
            next_step="huref attack --list",
        )
    return kinds


def apply(model: Decoder, kinds: tuple[str, ...], seed: int, report: Callable[[str], None] | None = None) -> Outcome:
    """Apply attacks in order; each draws from a stream of its own, by its name and the seed.

    Args:
        kinds: names, or `all` for every one that the model allows and that is not a special wish.
        report: is told each kind before it is applied.

    Raises:
        UsageError: the model does not allow a kind that was asked for by name.
    """
    applied: list[str] = []
    skipped: dict[str, str] = {}
    for asked in kinds:
        for name in [name for name, kind in KINDS.items() if kind.in_all] if asked == ALL else [asked]:
            obstacle = KINDS[name].obstacle(model)
            if obstacle and asked == ALL:
                skipped[name] = obstacle
                continue
            if obstacle:
                raise UsageError(
                    "this model does not allow the attack",
                    where=f"{name} on a model of the family {model.architecture.name}",
                    got=obstacle,
                    next_step="huref attack all applies every attack that the model allows",
                )
            if report:
                report(name)
            model = KINDS[name].change(model, dice_for(name, seed))
            applied.append(name)
    return Outcome(model, tuple(applied), skipped)


def dice_for(kind: str, seed: int) -> Generator:
    """A kind's own stream of randomness: it does not depend on which other kinds there are."""
    digest = hashlib.sha256(f"{kind}/{seed}".encode()).digest()
    return Generator(PCG64(int.from_bytes(digest)))
