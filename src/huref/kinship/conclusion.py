"""A comparison completed by what aligning the two models shows, and by the verdict that rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from huref.fingerprints.recipe import Recipe
from huref.kinship.alignment import Relation, relate
from huref.kinship.prepared import Prepared
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.verdict import Decision, Facts, background_of, decide, load_calibration
from huref.kinship.verdict.calibration import SCORES, Background
from huref.kinship.verdict.decision import Side, scores_of
from huref.model.model import Model
from huref.numerics.arrays import float32
from huref.progress import Report

_SEEN_ROWS, _NEAR = 2048, 0.02
"""Embedding rows that are looked at; square distance from the mean row, beside the usual one, of rows that are it."""


def with_kinship(
    result: Comparison, x: Prepared, y: Prepared, options: CompareOptions, report: Report | None = None
) -> Comparison:
    """Add agreement, aligned score, background and verdict to a comparison.

    Args:
        result: with PCS and ICS, where those were asked for; `verdict` says what the parameters alone say.
        x, y: A and B.
        options: layers that the user named are those of A that are looked at.

    Raises:
        NotFiniteError: NaN or infinity in what was read.
    """
    a, b, asked = x.model, y.model, None
    if options.layers != CompareOptions().layers:
        asked = Recipe(layers=options.layers).layer_indices(a.weights.geometry.n_layers)
    found = relate(a, b, asked, report, (x.neurons, y.neurons))
    is_one_vocabulary = a.vocabulary.digest == b.vocabulary.digest
    if not isinstance(found, str):
        result = _told(result, found)
    stands = _backgrounds(result, is_one_vocabulary)
    facts = _facts(result, found, a, b, stands)
    return _decided(result, decide(facts), stands)


def _told(result: Comparison, found: Relation) -> Comparison:
    """What the relation measured, in the comparison's own words."""
    null = found.mismatched
    alignment = {
        "method": found.where.method,
        "shared_tokens": found.shared_tokens,
        "quality": found.where.quality,
        "tried": {name: round(value, 6) for name, value in found.tried.items()},
        "rotation_deviation": found.rotation_deviation,
        "is_complete": found.is_complete,
    }
    own = None
    if len(null):
        own = {"mean": float(null.mean()), "std": float(null.std()), "n": len(null), "max": float(null.max())}
    return replace(
        result,
        agreement=found.agreement,
        aligned=found.aligned,
        layers=found.layers,
        table=found.table,
        alignment=alignment,
        self_null=own,
    )


def _backgrounds(result: Comparison, is_one_vocabulary: bool) -> dict[str, Background]:
    calibration, found = load_calibration(), {}
    for score in SCORES:
        value = getattr(result, score)
        stands = (
            None if value is None else background_of(calibration, score, value, same_vocabulary=is_one_vocabulary)
        )
        if stands is not None:
            found[score] = stands
    return found


def _facts(result: Comparison, found: Relation | str, a: Model, b: Model, stands: Mapping[str, Background]) -> Facts:
    relation = found if isinstance(found, Relation) else None
    return Facts(
        a=_side(a),
        b=_side(b),
        parameters=result.verdict if result.verdict in ("identical", "requantised") else "",
        layers=result.layers,
        table=result.table,
        aligned=result.aligned,
        pcs=result.pcs,
        method=relation.where.method if relation else "",
        background=stands.get("agreement"),
        most_aligned=max(stands["aligned"].values) if "aligned" in stands else None,
        has_alignment=relation is not None and relation.shared_tokens > 0,
        missing=found if isinstance(found, str) else "",
        shares_vocabulary=_vocabularies(a, b),
        added_rows=_added_rows(a, b),
        silent=relation.silent if relation else (0.0, 0.0),
        copies=relation.copies if relation else None,
    )


def _side(model: Model) -> Side:
    g = model.weights.geometry
    n_experts = model.weights.architecture.n_experts
    return Side(model.name, g.n_layers, g.d_model, g.d_ff, g.n_heads, g.vocab_size, n_experts)


def _vocabularies(a: Model, b: Model) -> str:
    if a.vocabulary.digest == b.vocabulary.digest:
        return "same"
    left, right = (frozenset(model.vocabulary.tokens) - {None} for model in (a, b))
    if left == right:
        return "same"
    return "extended" if left < right else "reduced" if right < left else "other"


def _added_rows(a: Model, b: Model) -> str:
    """What the embedding rows of the tokens show that only one of two has: `zero`, `average`, or nothing.

    Rows that are merely alike show nothing: so are those of tokens that no training met, which trimming takes out.
    """
    kind = _vocabularies(a, b)
    if kind not in ("extended", "reduced"):
        return ""
    longer, shorter = (b, a) if kind == "extended" else (a, b)
    known = frozenset(shorter.vocabulary.tokens)
    ids = [i for i, token in enumerate(longer.vocabulary.tokens) if token is not None and token not in known]
    rows = float32(longer.weights.embedding(np.array([i for i in ids if i < longer.n_rows][:_SEEN_ROWS], np.int64)))
    if not len(rows):
        return ""
    if not rows.any():
        return "zero"
    places = np.unique(np.linspace(0, longer.n_rows - 1, min(longer.n_rows, _SEEN_ROWS)).astype(np.int64))
    usual = float32(longer.weights.embedding(places))
    centre = usual.mean(axis=0)
    spread, distance = (float(np.square(each - centre).sum(axis=1).mean()) for each in (usual, rows))
    return "average" if distance < _NEAR * spread else ""


def _decided(result: Comparison, decision: Decision, stands: Mapping[str, Background]) -> Comparison:
    main = stands.get("agreement")
    background = None if main is None else main.to_dict() | {"scores": scores_of(stands)}
    absent = [] if result.layers else [f"agreement is null: {reason}" for reason in decision.reasons]
    notes = [*result.notes, *(absent or decision.reasons)]
    if main is not None and decision.verdict == "derived":
        notes.append(
            f"of pairs like these at most {100 * main.rate_bound:.1f} % score so much (95 % limit over "
            f"{len(main.values)} unrelated pairs of {main.n_bases} independent models; pairs that share a model "
            "are not independent)"
        )
    return replace(
        result,
        background=background,
        z=None if main is None else main.z,
        p_value=None if main is None else main.p_value,
        verdict=decision.verdict,
        derivation=decision.to_dict(),
        notes=tuple(dict.fromkeys(notes)),
    )
