"""Two saved fingerprints side by side: no weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from huref.errors import InconclusiveError
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.sketch import slots_of, split_key
from huref.kinship.record import FROM_CODES, ICS_OF, NO_WEIGHTS, Comparison, TermScore
from huref.numerics.cosine import cosine

if TYPE_CHECKING:
    from huref.kinship.recognition import Recognition


def compare_fingerprints(a: Fingerprint, b: Fingerprint, seen: Mapping[str, Recognition] | None = None) -> Comparison:
    """Compare two saved fingerprints, without any weights.

    Args:
        seen: by frame, what few neurons of the two show already; else their codes are looked at closely.

    Raises:
        InconclusiveError: they were made by different recipes.
    """
    if a.recipe != b.recipe:
        _require_same_weights(a, b)
        raise InconclusiveError(
            "fingerprints of different recipes do not compare",
            where=f"{a.model} and {b.model}",
            expected=_differing(a.recipe, b.recipe),
            got=_differing(b.recipe, a.recipe),
            next_step="fingerprint both models again with one recipe",
        )
    terms = sketch_scores(a, b)
    codes = a.codes, b.codes
    has_codes = codes[0] is not None and codes[1] is not None
    notes = [FROM_CODES if has_codes else NO_WEIGHTS, *_absences(a, has_terms=bool(terms))]
    is_estimated = bool(terms) and a.recipe.is_canonical
    notes += [f"{made.model}: {note}" for made in (a, b) for note in made.notes]
    lacking = {split_key(key)[1] for made in (a, b) for key in made.sketches} - {term.term for term in terms}
    if terms and lacking:
        notes.append(f"no {', '.join(sorted(lacking))} stands in both: the ICS is of the other terms")
    if terms:
        notes.append("estimated from sketches: standard error near 0.01 a term")
    if a.tokens.get("digest") != b.tokens.get("digest"):
        is_blind = a.recipe.encoder == "cnn"  # it compares place by place, and places are tokens
        effect = "the vectors' similarity says nothing" if is_blind else "similarity reads lower than from weights"
        notes.append(f"the two fingerprints rest on different tokens: {effect}")
    result = Comparison(
        a.model, b.model, None, None, None, a.similarity(b), tuple(terms), "inconclusive", tuple(notes)
    )
    if is_estimated:
        result = result.with_ics(a.recipe.name, float(np.mean([term.score for term in terms])))
    if codes[0] is None or codes[1] is None:
        return result
    from huref.kinship.conclusion import with_kinship  # and what codes take
    from huref.kinship.saved_neurons import saved_kinship

    return with_kinship(result, *saved_kinship(a, b, codes[0], codes[1], seen))


def _differing(recipe: Recipe, other: Recipe) -> str:
    """What a recipe says otherwise than another."""
    known, theirs = recipe.to_dict(), other.to_dict()
    return ", ".join(f"{key} {value}" for key, value in known.items() if theirs.get(key) != value)


def _require_same_weights(a: Fingerprint, b: Fingerprint) -> None:
    """Say so where only the weights of the CNN encoder differ."""
    weights_a, weights_b = a.recipe.encoder_weights, b.recipe.encoder_weights
    if replace(a.recipe, encoder_weights=weights_b) == b.recipe:
        raise InconclusiveError(
            "vectors of differently trained encoders do not compare",
            where=f"{a.model} and {b.model}",
            expected=f"one encoder; {a.model} has weights of sha256 {weights_a}",
            got=f"{b.model} has weights of sha256 {weights_b}",
            next_step="fingerprint both models again with one --encoder-weights file",
        )


def _absences(a: Fingerprint, *, has_terms: bool) -> list[str]:
    """Why scores are null: a fingerprint holds one recipe's sketches, and no weights."""
    notes = ["pcs is null: it needs the weights of both models"]
    own = ICS_OF.get(a.recipe.name, "ics_canonical_2")
    if not has_terms:
        keeps_none = {"mean": "mean pooling keeps no terms", "cnn": "the CNN encoder keeps no terms"}
        reason = keeps_none.get(a.recipe.encoder, "no layer is in both fingerprints")
        return [*notes, f"ics and {own} are null: {reason}"]
    if a.recipe.is_canonical:
        others = [name for name in ("ics", *ICS_OF.values()) if name != own]
        return [*notes, f"{' and '.join(others)} are null: the fingerprints are of the recipe {a.recipe.name}"]
    reason = "sketches are of centred terms, which the paper's are not; their scores stand under terms"
    return [*notes, f"ics is null: {reason}", f"{own} is null: the fingerprints are of the paper recipe"]


def sketch_scores(a: Fingerprint, b: Fingerprint) -> list[TermScore]:
    """Cosines of the sketches of terms in the same slot, counted from the last layer."""
    slots, taken = _slots(a), {(split_key(key)[1], slot): key for key, slot in _slots(b).items()}
    scores = []
    for key, Y in sorted(a.sketches.items(), key=lambda item: split_key(item[0])):
        layer, kind = split_key(key)
        partner = taken.get((kind, slots[key]))
        if partner is not None:
            scores.append(TermScore(layer, split_key(partner)[0], kind, cosine(Y, b.sketches[partner])))
    return scores


def _slots(made: Fingerprint) -> dict[str, int]:
    return slots_of(made.sketches, made.geometry["n_layers"], is_dual=made.recipe.is_dual)
