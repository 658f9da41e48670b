"""What a report says in words: the verdict in one sentence, the p-value in another, each score in a line.

A verdict speaks of numbers: "the weights are statistically consistent with derivation from", never of people. A
direction is named only where `derivation.direction` names one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huref.kinship.record import NO_WEIGHTS, Comparison
from huref.report.numbers import decimal, finite, percent

LABELS = {
    "identical": "Identical",
    "requantised": "Same weights, other format",
    "derived": "Consistent with derivation",
    "merged": "Consistent with merging",
    "independent": "Consistent with independence",
    "inconclusive": "Inconclusive",
}
MARKS = {
    "identical": "=",
    "requantised": "≈",
    "derived": "●",
    "merged": "◐",
    "independent": "○",
    "inconclusive": "?",
}
"""Shapes beside the words: a verdict is never told by colour alone."""

_UNDIRECTED = {
    "identical": "The weights of {a} and {b} are identical, value by value, in every tensor.",
    "requantised": "The weights of {a} and {b} agree within the rounding of their number formats, tensor by tensor: "
    "the same weights, stored otherwise.",
    "derived": "The weights are statistically consistent with derivation from one origin: {a} from {b}, {b} from "
    "{a}, or both from a common ancestor. Which of them, this comparison does not say.",
    "merged": "The weights are statistically consistent with derivation from one origin by merging: one of {a} and "
    "{b} holds the other, or an ancestor that they share, mixed with further models.",
    "independent": "The weights of {a} and {b} are statistically consistent with independent training: they agree no "
    "more than unrelated models do.",
    "inconclusive": "No verdict on {a} and {b}: the evidence supports neither derivation nor independence.",
}
_DIRECTED = {
    "derived": "The weights of {child} are statistically consistent with derivation from {parent}, or from a "
    "relative of it.",
    "merged": "The weights of {child} are statistically consistent with derivation from {parent}, or from a "
    "relative of it, merged with further models.",
}
LIMIT = (
    "This says how two sets of numbers are related. It does not say who made them, who had leave to use them, or "
    "what anybody intended."
)
SCORES = (
    (
        "agreement",
        "Pairing agreement",
        "Share of neurons whose partner in the other model is the same by two criteria that know nothing of each "
        "other: 100 % where all weights are kin, near chance in strangers. The verdict rests on it.",
    ),
    (
        "aligned",
        "Aligned score",
        "Cosine of the two models' weights, layer by layer, after every rearrangement that was found is undone.",
    ),
    (
        "pcs",
        "PCS",
        "Cosine of all parameters as they are stored; a rearrangement of the weights hides kinship from it.",
    ),
    (
        "ics_canonical_2",
        "ICS",
        "Correlation of products of matrices that no rearrangement changes, with what the text alone decides divided "
        "out.",
    ),
    (
        "ics_canonical",
        "ICS, canonical",
        "The same under huref's first recipe; norm gains folded in, the common part taken out.",
    ),
    ("ics", "ICS, paper", "The same as HuRef (NeurIPS 2024) defines it: raw weights, the rarest tokens."),
    ("vectors", "Portraits", "Cosine of the two fingerprints from which the portraits are drawn."),
)
"""Field of `Comparison`, title, one line on what it is."""

_OF_WEIGHTS = ("agreement", "aligned", "alignment", "background", "p_value")


@dataclass(frozen=True)
class Sentence:
    """Words with `{a}`, `{b}`, `{parent}`, `{child}` in them, and who is parent and child: `a`, `b` or empty."""

    template: str
    parent: str = ""
    child: str = ""

    def fill(self, a: str, b: str) -> str:
        """As plain text."""
        names = self.names(a, b)
        return re.sub(r"\{(\w+)\}", lambda found: names[found[1]], self.template)

    def names(self, a: str, b: str) -> dict[str, str]:
        """What stands for what, whatever type the names have."""
        both = {"a": a, "b": b}
        return both if not self.parent else {**both, "parent": both[self.parent], "child": both[self.child]}


def verdict_sentence(found: Comparison) -> Sentence:
    """The verdict in one sentence, with a direction only where the comparison gives one."""
    parent = parent_of(found.derivation)
    if parent and found.verdict in _DIRECTED:
        return Sentence(_DIRECTED[found.verdict], parent, "b" if parent == "a" else "a")
    return Sentence(_UNDIRECTED.get(found.verdict, _UNDIRECTED["inconclusive"]))


def parent_of(derivation: Mapping[str, Any] | None) -> str:
    """`a` or `b`, or empty where `derivation.direction` names no parent."""
    return {"b from a": "a", "a from b": "b"}.get(str((derivation or {}).get("direction")), "")


def p_value_sentence(found: Comparison) -> str:
    """The p-value, and of kinship the rate of false accusations, or why there is none."""
    p = finite(found.p_value)
    if p is None and found.verdict in ("identical", "requantised"):
        return "No p-value is needed: every tensor was compared with its partner, value by value."
    if p is None:
        return f"There is no p-value: {absence(found, 'p_value')}."
    if p >= 1:
        return "p = 1: what the two have in common is no ground to speak of kinship."
    known = found.background or {}
    told = (
        f"p = {decimal(p)}, a finite-sample (conformal) p-value: the share of unrelated pairs that agree at least as "
        f"much as this one, this one counted in.{_counted(p, round(finite(known.get('n')) or 0.0))}"
    )
    rate = finite(known.get("rate_bound"))
    if found.verdict not in ("derived", "merged") or rate is None:
        return told
    return (
        f"{told} False accusations: at most {percent(rate)} of unrelated pairs like those of the background agree so "
        "much, with 95 % confidence."
    )


def _counted(p: float, n: int) -> str:
    """How many of n unrelated pairs agree as much, where p is a count of them."""
    above = p * (n + 1) - 1
    if n < 1 or above < -0.01 or abs(above - round(above)) > 0.01:
        return ""
    if round(above) == 0:
        return f" Of {n} unrelated pairs none does, and no smaller p can come from so many."
    return f" Of {n} unrelated pairs {round(above)} do."


def distinct(found: Comparison) -> tuple[str, str]:
    """What A and B are called in a sentence, also where both have one name."""
    return (found.a, found.b) if found.a != found.b else (f"A, {found.a},", f"B, {found.b},")


def absence(found: Comparison, field: str) -> str:
    """Why a score is null, in the words of the comparison's own notes."""
    for note in found.notes:
        match = re.fullmatch(r"(?s)(?P<who>.*?)\b(?:is|are) null\b(?:\s*:\s*(?P<why>.+))?(?P<rest>.*)", note)
        if match and re.search(rf"\b{field}\b", match["who"]):
            return (match["why"] or note).strip()
    for note in found.notes:
        if (re.search(rf"\b{field}\b", note) and "null" in note) or "the other scores are null" in note:
            return note
    if field in _OF_WEIGHTS and NO_WEIGHTS in found.notes:
        return NO_WEIGHTS
    return "not computed; the notes may say why"


def score_text(found: Comparison, field: str) -> str:
    """A score as it is written, or a dash."""
    return percent(getattr(found, field))
