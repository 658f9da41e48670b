"""From scores to a verdict: a background of unrelated pairs, a finite-sample p-value, a decision that may abstain.

    load_calibration()  -> Calibration    unrelated pairs that were measured, with the tool that measured them named
    background_of(...)  -> Background     those that resemble a pair at hand, and where the pair stands among them
    decide(...)         -> Decision       verdict, class of derivation, reasons

Numpy and the standard library only: whoever checks a verdict needs no torch.
"""

from huref.kinship.verdict.calibration import (
    FALSE_ACCUSATION_RATE,
    Background,
    Calibration,
    UnrelatedPair,
    background_of,
    load_calibration,
    save_calibration,
)
from huref.kinship.verdict.decision import Decision, Facts, decide

__all__ = [
    "FALSE_ACCUSATION_RATE",
    "Background",
    "Calibration",
    "Decision",
    "Facts",
    "UnrelatedPair",
    "background_of",
    "decide",
    "load_calibration",
    "save_calibration",
]
