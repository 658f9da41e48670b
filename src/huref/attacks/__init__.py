"""Attacks: other weights, same function. What a fingerprint has to survive (METHOD.md, section 3).

    attack(model, out, AttackOptions(("all",)))   checkpoint in, checkpoint out, logits checked
    KINDS                                         every attack by name
    apply(decoder, kinds, seed)                   the same in memory

Each attack is a pure function of a `Decoder` (canonical tensors of any known family) and a source of
randomness. A new one is a function and a line in `kinds.py`.
"""

from huref.attacks.execution import TOLERANCES, AttackOptions, AttackResult, attack, logit_error
from huref.attacks.kinds import ALL, KINDS, Kind, Outcome, apply, dice_for, parse_kinds

__all__ = [
    "ALL",
    "KINDS",
    "TOLERANCES",
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
