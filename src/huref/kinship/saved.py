"""Two saved fingerprints side by side: no weights, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from huref.errors import InconclusiveError
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.sketch import split_key
from huref.kinship.record import FROM_CODES, NO_WEIGHTS, Comparison, TermScore
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
            expected=str(a.recipe.to_dict()),
            got=str(b.recipe.to_dict()),
            next_step="fingerprint both models again with one recipe",
        )
    terms = sketch_scores(a, b)
    codes = a.codes, b.codes
    has_codes = codes[0] is not None and codes[1] is not None
    notes = [FROM_CODES if has_codes else NO_WEIGHTS, *_absences(a, has_terms=bool(terms))]
    is_estimated = bool(terms) and a.recipe.is_canonical
    if terms:
        notes.append("estimated from sketches: standard error near 0.01 a term")
    if a.tokens.get("digest") != b.tokens.get("digest"):
        is_blind = a.recipe.encoder == "cnn"  # it compares place by place, and places are tokens
        effect = "the vectors' similarity says nothing" if is_blind else "similarity reads lower than from weights"
        notes.append(f"the two fingerprints rest on different tokens: {effect}")
    canonical = float(np.mean([term.score for term in terms])) if is_estimated else None
    vectors = a.similarity(b)
    result = Comparison(a.model, b.model, None, None, canonical, vectors, tuple(terms), "inconclusive", tuple(notes))
    if codes[0] is None or codes[1] is None:
        return result
    from huref.kinship.conclusion import with_kinship  # and what codes take
    from huref.kinship.saved_neurons import saved_kinship

    return with_kinship(result, *saved_kinship(a, b, codes[0], codes[1], seen))


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
    if not has_terms:
        keeps_none = {"mean": "mean pooling keeps no terms", "cnn": "the CNN encoder keeps no terms"}
        reason = keeps_none.get(a.recipe.encoder, "no layer is in both fingerprints")
        return [*notes, f"ics and ics_canonical are null: {reason}"]
    if a.recipe.is_canonical:
        return [*notes, "ics is null: the fingerprints are of the canonical recipe"]
    reason = "sketches are of centred terms, which the paper's are not; their scores stand under terms"
    return [*notes, f"ics is null: {reason}", "ics_canonical is null: the fingerprints are of the paper recipe"]


def sketch_scores(a: Fingerprint, b: Fingerprint) -> list[TermScore]:
    """Cosines of the sketches of terms in the same slot, counted from the last layer."""
    depth_a, depth_b = a.geometry["n_layers"], b.geometry["n_layers"]
    scores = []
    for key, Y in sorted(a.sketches.items(), key=lambda item: split_key(item[0])):
        layer, kind = split_key(key)
        partner = layer - depth_a + depth_b
        other = b.sketches.get(f"{partner}.{kind}")
        if other is not None:
            scores.append(TermScore(layer, partner, kind, cosine(Y, other)))
    return scores
