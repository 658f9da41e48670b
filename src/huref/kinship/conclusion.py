"""A comparison completed by what aligning the two models shows, and by the verdict that rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from huref.kinship.recognition import Recognised
from huref.kinship.record import FRAMES, Comparison
from huref.kinship.verdict import Decision, Facts, background_of, decide, load_calibration
from huref.kinship.verdict.calibration import SCORES, Background
from huref.kinship.verdict.chance import Count, count
from huref.kinship.verdict.decision import Side, scores_of


@dataclass(frozen=True)
class Known:
    """What two models are made of, besides their neurons.

    Attributes:
        a, b: their sizes.
        vocabularies: `same`, `extended` (B's holds all of A's), `reduced` or `other`.
        added_rows: as in `Facts`.
        unseen: why agreement at chance would not show independence here; empty where it would.
        only_difference: as in `Facts`.
    """

    a: Side
    b: Side
    vocabularies: str
    added_rows: str = ""
    unseen: str = ""
    only_difference: str = ""


def with_kinship(result: Comparison, known: Known, found: Recognised | str) -> Comparison:
    """Add agreement, aligned score, background and verdict to a comparison.

    Args:
        result: with PCS and ICS, where those were asked for; `verdict` says what the parameters alone say.
        known: what the two models are made of, besides their neurons.
        found: what their neurons show, or why they show nothing.
    """
    if not isinstance(found, str):
        result = _told(result, found)
    stands = _backgrounds(result, found, is_one_vocabulary=known.vocabularies == "same")
    return _decided(result, decide(_facts(result, known, found, stands)), stands)


def _told(result: Comparison, recognised: Recognised) -> Comparison:
    """What the codes show, in the comparison's own words."""
    found = recognised.found
    null = found.mismatched
    alignment = {
        "method": found.method,
        "shared_tokens": recognised.shared_tokens,
        "tried": {name: round(value, 6) for name, value in recognised.tried.items()},
        "is_complete": found.is_complete,
    }
    own = None
    if len(null):
        own = {"mean": float(null.mean()), "std": float(null.std()), "n": len(null), "max": float(null.max())}
    return replace(
        result,
        agreement=found.agreement,
        witnesses=found.witnesses,
        count=_count(recognised).to_dict(),
        aligned=recognised.aligned,
        layers=found.layers,
        table=found.table,
        alignment=alignment,
        self_null=own,
    )


def _count(recognised: Recognised) -> Count:
    found = recognised.found
    return count(found.layers, FRAMES[found.method].excess, len(found.witnesses) * len(recognised.tried))


def _backgrounds(result: Comparison, found: Recognised | str, *, is_one_vocabulary: bool) -> dict[str, Background]:
    calibration, stands = load_calibration(), {}
    for score in SCORES:
        value = getattr(result, score)
        if value is None:
            continue
        frame = found.found.method if score == "agreement" and isinstance(found, Recognised) else ""
        n_tried = len(found.tried) if frame and isinstance(found, Recognised) else 1
        stood = background_of(
            calibration, score, value, same_vocabulary=is_one_vocabulary, frame=frame, n_tried=n_tried
        )
        if stood is not None and frame and isinstance(found, Recognised):
            stood = replace(stood, p_chance=_count(found).p_value)
        if stood is not None:
            stands[score] = stood
    return stands


def _facts(result: Comparison, known: Known, recognised: Recognised | str, stands: Mapping[str, Background]) -> Facts:
    found = recognised.found if isinstance(recognised, Recognised) else None
    return Facts(
        a=known.a,
        b=known.b,
        parameters=result.verdict if result.verdict in ("identical", "requantised") else "",
        frame=found.method if found else "tokens",
        count=_count(recognised) if isinstance(recognised, Recognised) else None,
        layers=result.layers,
        table=result.table,
        aligned=result.aligned,
        pcs=result.pcs,
        is_turned=isinstance(recognised, Recognised) and recognised.is_turned,
        background=stands.get("agreement"),
        most_aligned=max(stands["aligned"].values) if "aligned" in stands else None,
        has_alignment=isinstance(recognised, Recognised) and recognised.shared_tokens > 0,
        missing=recognised if isinstance(recognised, str) else "",
        shares_vocabulary=known.vocabularies,
        added_rows=known.added_rows,
        unseen=known.unseen,
        only_difference=known.only_difference,
        silent=found.silent if found else (0.0, 0.0),
        copies=found.copies if found else None,
    )


def _decided(result: Comparison, decision: Decision, stands: Mapping[str, Background]) -> Comparison:
    main = stands.get("agreement")
    background = None if main is None else main.to_dict() | {"scores": scores_of(stands)}
    is_told = result.layers or decision.kind
    absent = [] if is_told else [f"agreement is null: {reason}" for reason in decision.reasons]
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
