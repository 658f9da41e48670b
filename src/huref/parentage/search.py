"""A child and candidates in, a `Parentage` out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from huref.fingerprints.record import Reference
from huref.parentage.explanations import held_out_residual, layer_labels
from huref.parentage.fits import simplex, task_system
from huref.parentage.inner_products import InnerProducts, gather
from huref.parentage.judgement import KIN, Judgement, judge, least_squares, weight_spread
from huref.parentage.members import Family, open_family
from huref.parentage.record import Candidate, LayerFit, Parentage
from huref.progress import Progress, Report, shows_progress

_TRIED_BASES = 6

DIRECTION = "direction is taken from the question, not tested: a candidate may as well descend from the child"
REARRANGED = (
    "the child shares no weights with any candidate as they are: independent, or rearranged; undo a rearrangement "
    "first (huref explain), and compare by what survives one (huref compare)"
)


@shows_progress
def parents(
    child: Reference,
    candidates: Sequence[Reference],
    base: Reference | None = None,
    *,
    arch_file: str | Path | None = None,
    report: Report | None = None,
) -> Parentage:
    """Which candidates a child was made from, and with which weights.

    Args:
        child, candidates: models; fingerprints have no weights to fit.
        base: what the parents were tuned from: a candidate or one more model. Without it, of three or more
            relatives of the child the one is taken from which the others lie in the most different directions.
        arch_file: an architecture file of the user's own.
        report: called with a `Progress` at each tensor; a notebook shows bars without it.

    Raises:
        UsageError: no candidates, or a fingerprint among the models.
        InputError: a model that cannot be read.
        NotFiniteError: NaN or infinity in a compared tensor.
    """

    def step(done: int, total: int) -> None:
        if report:
            report(Progress("reading everyone's weights", done, total, "tensor"))

    with contextlib.ExitStack() as opened:
        family = open_family(child, candidates, base, Path(arch_file) if arch_file else None, opened)
        if not family.candidates or not family.names:
            return _nothing(family, "no candidate has the child's architecture and shapes")
        products = gather(family, step)
    return _answer(family, products, base is not None)


def by_width(G: np.ndarray, pool: Sequence[int]) -> list[int]:
    """Relatives, first those from which the others lie in the most different directions: a base's fine-tunes do.

    By mean absolute cosine of task vectors within the layers: embeddings of all fine-tunes drift alike, with how
    often tokens occur. The nearest to the mean of all would be drawn to a large offspring.
    """

    def alignment(origin: int) -> float:
        others = [i for i in pool if i != origin]
        H, _ = task_system(G, others, origin)
        lengths = np.sqrt(np.maximum(np.diag(H), 0.0))
        scale = np.outer(lengths, lengths)
        is_apart = scale > 1e-12 * float(G.diagonal().max())
        cosines = np.where(
            is_apart, np.abs(H) / np.where(is_apart, scale, 1.0), 1.0
        )  # a copy of the origin is no news
        return float(cosines[np.triu_indices(len(others), 1)].mean())

    return sorted(pool, key=alignment)


def _answer(family: Family, products: InnerProducts, is_base_given: bool) -> Parentage:
    cosines = products.cosines()
    pool = [i for i, value in enumerate(cosines) if value >= KIN]
    notes = list(family.notes)
    if not pool:
        return replace(
            _nothing(family, REARRANGED), candidates=_strangers(family, products), notes=(REARRANGED, *notes)
        )
    bases, source = _bases(family, products, pool)
    if is_base_given and source != "given":
        notes.append("the base that was given cannot serve: it was skipped, or is no relative of the child")
    names = [member.name for member in family.candidates]
    base, judged = _judged(products, names, pool, bases)
    if source == "chosen":
        notes.append(
            f"base: {names[base]}, from which the other relatives lie the most apart in direction; or give --base"
        )
    if source == "none":
        notes.append("no base: weights themselves are fitted, so r2 is near 1 for any relative; gain says more")
    parts = _candidates(family, products, pool, base, judged)
    total = float(products.differences().sum(axis=(0, 1))[-1, -1])
    left = judged.residual
    return Parentage(
        child=family.child.name,
        base=names[base] if source != "none" else None,
        base_source=source,
        verdict=_verdict(family, judged),
        kind=judged.kind,
        parents=tuple(names[i] for i in judged.parents),
        candidates=parts,
        r2=_r2(products, base, left),
        residual=math.sqrt(left / total) if total > 0 else None,
        gain=judged.exact.gain,
        rounding=judged.exact.rounding,
        layers=_layers(products, judged, names),
        spread=max((weight_spread(judged.explanation, i) for i in judged.parents), default=None),
        sparse=_sparse(judged, names),
        skipped={item.name: item.reason for item in family.skipped},
        notes=(*judged.reasons, *notes, DIRECTION),
    )


def _bases(family: Family, products: InnerProducts, pool: Sequence[int]) -> tuple[list[int], str]:
    """Indices to try as the base, and their source; the model of zeros where there is none."""
    if family.base is not None and family.base in pool:
        return [family.base], "given"
    if len(pool) >= 3:
        within_layers = products.differences()[products.in_layers()]
        return by_width(within_layers.sum(axis=(0, 1)), pool)[:_TRIED_BASES], "chosen"
    return [len(family.candidates)], "none"


def _judged(
    products: InnerProducts, names: Sequence[str], pool: Sequence[int], bases: Sequence[int]
) -> tuple[int, Judgement]:
    """The first base under which the child is an exact merge or a copy, else the first of all."""
    first = judge(products, names, pool, bases[0])
    is_left_open = first.verdict in ("derived", "inconclusive")
    for base in bases[1:] if is_left_open else ():
        judged = judge(products, names, pool, base)
        if judged.verdict == "merged":
            return base, judged
    return bases[0], first


def _verdict(family: Family, judged: Judgement) -> str:
    """A copy is one only where every tensor of the child was compared, layer by layer."""
    if judged.verdict not in ("identical", "requantised"):
        return judged.verdict
    copied = family.candidates[judged.parents[0]]
    is_whole = copied.layers is None and len(family.names) == len(family.child.weights.names())
    return judged.verdict if is_whole else "derived"


def _candidates(
    family: Family, products: InnerProducts, pool: Sequence[int], base: int, judged: Judgement
) -> tuple[Candidate, ...]:
    G = products.differences().sum(axis=(0, 1))
    cosines, length = products.cosines(), float(G[-1, -1])
    free, positive = least_squares(G, pool, base), simplex(G, pool)

    def part(i: int, name: str) -> Candidate:
        is_kin, weight = i in pool, _weight(judged.weights[i])
        error = float(judged.errors[i]) if weight and math.isfinite(judged.errors[i]) else None
        return Candidate(
            name=name,
            is_base=i == base,
            is_parent=i in judged.parents,
            cosine=float(cosines[i]),
            distance=math.sqrt(max(0.0, float(G[i, i])) / length) if length > 0 else 0.0,
            direction=_direction(G, i, base) if base in pool and i != base else None,
            weight=weight,
            error=error,
            share=float(judged.shares[i]),
            least_squares=float(free[i]) if is_kin else None,
            simplex=float(positive[i]) if is_kin else None,
        )

    return tuple(part(i, member.name) for i, member in enumerate(family.candidates))


def _strangers(family: Family, products: InnerProducts) -> tuple[Candidate, ...]:
    G, cosines = products.differences().sum(axis=(0, 1)), products.cosines()
    distances = np.sqrt(np.diag(G)[:-1] / G[-1, -1]) if G[-1, -1] > 0 else np.zeros(len(G) - 1)
    return tuple(
        Candidate(member.name, False, False, float(cosine), float(distance), None, 0.0, None, 0.0, None, None)
        for member, cosine, distance in zip(family.candidates, cosines, distances, strict=True)
    )


def _direction(G: np.ndarray, i: int, base: int) -> float | None:
    """Cosine of a candidate's task vector with the child's."""
    H, g = task_system(G, [i], base)
    scale = math.sqrt(max(0.0, float(H[0, 0] * G[base, base])))
    return float(g[0]) / scale if scale > 0 else None


def _r2(products: InnerProducts, base: int, left: float) -> float | None:
    """Held out, of what is to be explained from the base: the child's task vector, or its weights."""
    whole = held_out_residual(products, [base], base)
    return 1 - left / whole if whole > 0 else None


def _layers(products: InnerProducts, judged: Judgement, names: Sequence[str]) -> tuple[LayerFit, ...]:
    found = judged.explanation
    length = products.sums[:, :, -1, -1].sum(axis=1)
    is_by_tensor = all(len(group) == 1 for group in found.groups)
    labels = products.names if is_by_tensor else layer_labels(products)
    fits = []
    for group, is_same in zip(found.groups, found.is_same, strict=True):
        a, whole = found.weights[group[0]], float(length[group].sum())
        weights = {} if is_same else {name: _weight(a[i]) for i, name in enumerate(names) if _weight(a[i])}
        residual = math.sqrt(float(found.left[group].sum()) / whole) if whole > 0 else 0.0
        fits.append(LayerFit(labels[group[0]], weights, residual))
    return tuple(fits)


def _weight(value: float) -> float:
    """A weight without what float32 weights leave of a base that takes no part: its weight is what remains to 1."""
    return 0.0 if abs(value) < 1e-6 else float(value)


def _sparse(judged: Judgement, names: Sequence[str]) -> dict[str, Any] | None:
    counts = judged.entries
    if counts is None:
        return None
    each = {
        names[i]: {
            "factor": counts.factor[i],
            "copied": counts.copied[i],
            "chance": counts.chance[i],
            "equal_sign": counts.sign[i],
        }
        for i in counts.factor
    }
    return {"n_entries": counts.n_entries, "zero": counts.zero, "candidates": each}


def _nothing(family: Family, reason: str) -> Parentage:
    return Parentage(
        child=family.child.name,
        base=None,
        base_source="none",
        verdict="inconclusive",
        kind="none",
        parents=(),
        candidates=(),
        r2=None,
        residual=None,
        gain=None,
        rounding=None,
        layers=(),
        spread=None,
        sparse=None,
        skipped={item.name: item.reason for item in family.skipped},
        notes=(reason, *family.notes),
    )
