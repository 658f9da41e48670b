"""A child and candidates in, a `Parentage` out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from huref.files.cache import Cache
from huref.fingerprints.file import as_references
from huref.fingerprints.record import Reference
from huref.kinship.recovery.recovering import obstacle
from huref.model.kept import Asker
from huref.parentage.explanations import held_out_residual, layer_labels
from huref.parentage.fits import simplex, task_system
from huref.parentage.inner_products import InnerProducts, gather
from huref.parentage.judgement import KIN, Judgement, judge, least_squares, weight_spread
from huref.parentage.members import Family, Member, lined_up, open_family
from huref.parentage.rearranged import Seen, Sight, looks_rearranged, refitted
from huref.parentage.record import Candidate, LayerFit, Parentage, SeenThrough
from huref.progress import Progress, Report, shows_progress

_TRIED_BASES = 6

DIRECTION = "direction is taken from the question, not tested: a candidate may as well descend from the child"
STRANGERS = (
    "the child shares no weights with any candidate, as they are or rearranged: no part of it was found in one of "
    "them (huref compare says independent where it can)"
)
COPY = "the child is a rearranged copy: undone, its values are {name}'s but for what undoing rounds"
_MOST_ROUNDS, _SETTLED = 10, 1e-3
_NEARER = 0.8
"""How far from the nearest candidate an undone child may lie, of how far it lay before."""
_NOTHING = 1e-5
"""Of the child's length: what is left of a copy that was undone."""


@shows_progress
def parents(
    child: Reference,
    candidates: Sequence[Reference],
    base: Reference | None = None,
    *,
    arch_file: str | Path | None = None,
    report: Report | None = None,
    cache: Cache | bool = False,
) -> Parentage:
    """Which candidates a child was made from, and with which weights.

    Args:
        child, candidates: models; fingerprints have no weights to fit.
        base: what the parents were tuned from: a candidate or one more model. Without it, of three or more
            relatives of the child the one is taken from which the others lie in the most different directions.
        arch_file: an architecture file of the user's own.
        report: called with a `Progress` at each tensor; a notebook shows bars without it.
        cache: True to keep the result on this machine, and to take it from there the next time; or a `Cache`.

    Raises:
        UsageError: no candidates, or a fingerprint among the models.
        InputError: a model that cannot be read.
        NotFiniteError: NaN or infinity in a compared tensor.
    """

    candidates = as_references(candidates)
    described = Path(arch_file) if arch_file else None

    def search() -> Parentage:
        with contextlib.ExitStack() as opened:
            family = open_family(child, candidates, base, described, opened)
            if not family.candidates or not family.names:
                return _nothing(family, "no candidate has the child's architecture and shapes")
            work = _Work(family, base is not None, step, report)
            products = gather(family, step)
            found = _answer(family, products, work.is_base_given)
            if _is_settled(found) or not looks_rearranged(family, products):
                return found
            if reason := _cannot_be_undone(family.child):
                note = f"whether it was rearranged cannot be told: {reason}"
                return replace(found, notes=(note, *(text for text in found.notes if text != STRANGERS)))
            seen = work.seen_through(products.cosines())
            return found if seen is None or not _is_better(seen, found) else seen

    def step(done: int, total: int) -> None:
        if report:
            report(Progress("reading everyone's weights", done, total, "tensor"))

    asker = Asker(Cache.of(cache), Parentage, "parents", {"arch_file": described, "has_base": base is not None})
    return asker.ask(child, *candidates, *(() if base is None else (base,))).answer(search)


def _cannot_be_undone(child: Member) -> str:
    """Why the child's weights are not brought into a candidate's order; empty where they are."""
    if child.weights.is_entwined:
        return f"the layers of {child.name} hold weights that are not read"
    return obstacle(child.name, child.weights)


def _is_better(seen: Parentage, found: Parentage) -> bool:
    """Undoing brought the child nearer to somebody, and gave no merge away: else training was taken for more."""
    nearest = [min(item.distance for item in each.candidates) for each in (seen, found)]
    is_lost = (found.verdict, seen.verdict) == ("merged", "inconclusive")
    return nearest[0] < _NEARER * nearest[1] and not is_lost


def _is_settled(found: Parentage) -> bool:
    """Nothing of a rearrangement can be in it: a copy, or one set of weights for everything."""
    return found.verdict in ("identical", "requantised") or (found.verdict, found.kind) == ("merged", "linear")


@dataclass
class _Work:
    """A family whose child may be rearranged."""

    family: Family
    is_base_given: bool
    step: Callable[[int, int], None]
    report: Report | None

    def seen_through(self, before: np.ndarray) -> Parentage | None:
        """The answer with the child undone; None where it is nobody's rearranged relative.

        Args:
            before: cosines with the candidates as they are.
        """
        sight = Sight(self.family, self.report)
        seen = sight.through(_nearest_first(self.family, before))
        if seen is None:
            return None
        found, family, after = self._fitted(seen)
        nearest = _nearest_first(family, after)[0]
        if nearest != seen.reference and (nearer := sight.through([nearest])) is not None:
            seen = nearer  # what training did hides less of a map from the nearest
            found, family, after = self._fitted(seen)
        strangers = [member.name for member, value in zip(family.candidates, after, strict=True) if value < KIN]
        if strangers:
            seen = sight.with_others(seen, strangers)
            if seen.undone:
                found, family, after = self._fitted(seen)
        rounds = 0
        while rounds < _MOST_ROUNDS and not seen.freedom.is_order and (found.residual or 0.0) > _NOTHING:
            again = refitted(seen, family, partial(_weights_of, found))
            if again is None:
                break
            before_fit, seen, rounds = found, again, rounds + 1
            found, family, after = self._fitted(seen)
            if _is_as_good(before_fit, found):
                break
        undone = SeenThrough(
            seen.reference, seen.undone, seen.kind, float(before.max()), float(after.max()), rounds, seen.left
        )
        return replace(_as_rearranged(found), undone=undone)

    def _fitted(self, seen: Seen) -> tuple[Parentage, Family, np.ndarray]:
        """The answer, everyone lined up with the undone child, and their cosines."""
        base = "" if self.family.base is None else self.family.candidates[self.family.base].name
        family = lined_up(seen.child, seen.others, base, self.family.skipped)
        products = gather(family, self.step)
        return _answer(family, products, self.is_base_given), family, products.cosines()


def _nearest_first(family: Family, cosines: np.ndarray) -> list[str]:
    return [family.candidates[i].name for i in np.argsort(-cosines, kind="stable").tolist()]


def _is_as_good(before: Parentage, after: Parentage) -> bool:
    """Another round changed nothing."""
    weights = [[item.weight for item in found.candidates] for found in (before, after)]
    moved = max(abs(new - old) for old, new in zip(*weights, strict=True))
    return moved < _SETTLED and (after.residual or 0.0) > (1 - _SETTLED) * (before.residual or 0.0)


def _weights_of(found: Parentage, name: str) -> dict[str, float]:
    """Candidate -> its weight in a tensor of the child, as fitted in its layer; without a base of sum 1."""
    label = name.split(".")[1] if name.startswith("layers.") else name
    weights = {item.name: item.weight for item in found.candidates}
    for fit in found.layers:
        if fit.layer in (label, name) and fit.weights:
            weights = dict(fit.weights)
    total = sum(weights.values()) if found.base is None else 1.0
    return {candidate: weight / total for candidate, weight in weights.items()} if total > 0 else {}


def _as_rearranged(found: Parentage) -> Parentage:
    """A copy that had to be undone first is no identical model."""
    is_copy = found.verdict in ("identical", "requantised")
    is_copy |= found.kind == "single parent" and found.residual is not None and found.residual <= _NOTHING
    if not is_copy:
        return found
    return replace(found, verdict="derived", notes=(COPY.format(name=found.parents[0]), *found.notes))


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
            _nothing(family, STRANGERS), candidates=_strangers(family, products), notes=(STRANGERS, *notes)
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
