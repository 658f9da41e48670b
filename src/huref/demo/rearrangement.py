"""Rearrangements of a Llama that change its weights and not its function: the attacks a fingerprint must survive.

The demo's view of `huref.attacks`, which has the mathematics and every family: the same attacks on the lab's
own Llama, in the type of its weights, numbered as the demo's seeds expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Generator

from huref.attacks import attention, logit_error, neurons, residual
from huref.errors import UsageError
from huref.forward.decoder import Decoder, from_llama, to_llama
from huref.forward.llama import Llama

__all__ = ["DEFAULT_KINDS", "KINDS", "Rearrangement", "logit_error", "rearrange"]

Change = Callable[[Decoder, Generator], Decoder]


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
    decoder = from_llama(model)
    for kind in chosen:
        dice = Generator().manual_seed(seed * len(KINDS) + list(KINDS).index(kind))
        decoder = KINDS[kind].change(decoder, dice)
    return to_llama(decoder, model.config.rope_theta)


KINDS: Mapping[str, Rearrangement] = {
    "absorb_gains": Rearrangement("norm gains multiplied into the next matrices", residual.absorb_gains),
    "rotate_residual": Rearrangement(
        "residual stream turned by a random orthogonal matrix", residual.rotate_residual
    ),
    "permute_residual": Rearrangement("residual dimensions reordered", residual.permute_residual),
    "scale_residual": Rearrangement(
        "residual stream scaled, and the norms' epsilon with it", residual.scale_residual
    ),
    "permute_neurons": Rearrangement("feed-forward neurons reordered", neurons.permute_neurons),
    "scale_neurons": Rearrangement("up rows scaled, down columns inversely", neurons.scale_neurons),
    "flip_neurons": Rearrangement("signs of up rows and down columns flipped", neurons.flip_neurons),
    "mix_values": Rearrangement("invertible map between value and output projections", attention.map_values),
    "turn_rotary_pairs": Rearrangement(
        "rotation and scale of rotary pairs of queries and keys", attention.map_queries_and_keys
    ),
    "permute_heads": Rearrangement("KV groups and their query heads reordered", attention.permute_heads),
}
"""Every kind of attack, in the order in which `rearrange` numbers its random streams."""

DEFAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("permute_residual", "scale_residual"))
"""Everything that keeps config.json as it is; a residual permutation is a special rotation."""
