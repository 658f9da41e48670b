"""Attacks: other weights, same function. What a fingerprint has to survive (docs/reference/attacks.md).

    attack(model, out, AttackOptions(("all",)))   checkpoint in, checkpoint out, logits checked
    KINDS                                         every attack by name
    apply(decoder, kinds, seed)                   the same in memory

Each attack is a pure function of a `Decoder` (canonical tensors of any known family) and a source of
randomness. A new one is a function and a line in `kinds.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.attacks.execution import AttackOptions, AttackResult, attack, logit_error
    from huref.attacks.kinds import ALL, KINDS, Kind, Outcome, apply, dice_for, parse_kinds

__all__ = [
    "ALL",
    "KINDS",
    "AttackOptions",
    "AttackResult",
    "Kind",
    "Outcome",
    "apply",
    "attack",
    "dice_for",
    "logit_error",
    "parse_kinds",
]

_HOMES = {
    "ALL": "huref.attacks.kinds",
    "KINDS": "huref.attacks.kinds",
    "AttackOptions": "huref.attacks.execution",
    "AttackResult": "huref.attacks.execution",
    "Kind": "huref.attacks.kinds",
    "Outcome": "huref.attacks.kinds",
    "apply": "huref.attacks.kinds",
    "attack": "huref.attacks.execution",
    "dice_for": "huref.attacks.kinds",
    "logit_error": "huref.attacks.execution",
    "parse_kinds": "huref.attacks.kinds",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
