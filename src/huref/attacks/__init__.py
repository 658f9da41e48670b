"""Attacks: other weights, same function. What a fingerprint has to survive (docs/reference/attacks.md).

    attack(model, out, AttackOptions(("all",)))   checkpoint in, checkpoint out, logits checked
    examine(model)                                is it read rightly? transformers says
    KINDS                                         every attack by name
    apply(decoder, kinds, seed)                   the same in memory

Each attack is a pure function of a `Decoder` (canonical tensors of any known family) and a source of
randomness. A new one is a function and a line in `kinds.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.attacks.doctor import Diagnosis, examine
    from huref.attacks.execution import AttackOptions, AttackResult, attack
    from huref.attacks.kinds import ALL, KINDS, Kind, Outcome, apply, dice_for, parse_kinds
    from huref.forward.rewriting import logit_error

__all__ = [
    "ALL",
    "KINDS",
    "AttackOptions",
    "AttackResult",
    "Diagnosis",
    "Kind",
    "Outcome",
    "apply",
    "attack",
    "dice_for",
    "examine",
    "logit_error",
    "parse_kinds",
]

_HOMES = {
    "ALL": "huref.attacks.kinds",
    "KINDS": "huref.attacks.kinds",
    "AttackOptions": "huref.attacks.execution",
    "AttackResult": "huref.attacks.execution",
    "Diagnosis": "huref.attacks.doctor",
    "Kind": "huref.attacks.kinds",
    "Outcome": "huref.attacks.kinds",
    "apply": "huref.attacks.kinds",
    "attack": "huref.attacks.execution",
    "dice_for": "huref.attacks.kinds",
    "examine": "huref.attacks.doctor",
    "logit_error": "huref.forward.rewriting",
    "parse_kinds": "huref.attacks.kinds",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
