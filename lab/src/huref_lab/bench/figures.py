"""The figures of a bench: from the answers of every method to one JSON document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref_lab.bench.pairs import ATTACK, GROUPS, Pair
from huref_lab.bench.saved import save_run
from huref_lab.bench.statistics import auc, auc_interval, tpr_at_fpr, upper_bound, z_score
from huref_lab.bench.trials import MethodRun

SCHEMA_VERSION = "huref.bench/1.0"
ACCUSATIONS = ("identical", "requantised", "derived", "merged")
"""Verdicts that say that two models are kin."""
HARD = ("twins", "twin's offspring", "base's twin", "student")
"""Groups of strangers that share data and vocabulary with the suspect."""


@dataclass(frozen=True)
class Column:
    """One score of one method over all pairs.

    Attributes:
        title: what the reports call it.
        method: whose it is.
        scores: (P,) float64, NaN where there is none.
        faults: why, for each pair; empty where there is a score.
    """

    title: str
    method: str
    scores: np.ndarray
    faults: tuple[str, ...]


def columns_of(run: MethodRun) -> list[Column]:
    """A method's scores as arrays; none where it did not run. A column without any score at all is left out."""
    found = []
    for title in run.columns:
        values = [answer.scores[title] for answer in run.answers]
        scores = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        faults = tuple((a.fault or "no score") if v is None else "" for a, v in zip(run.answers, values, strict=True))
        if len(scores) and (len(run.columns) == 1 or np.isfinite(scores).any()):
            found.append(Column(title, run.name, scores, faults))
    return found


def figures(pairs: Sequence[Pair], runs: Sequence[MethodRun]) -> dict[str, Any]:
    """Everything that the reports show, and the scores behind it, as plain values for JSON."""
    columns = [column for run in runs for column in columns_of(run)]
    return {
        "schema_version": SCHEMA_VERSION,
        "groups": {group: sum(pair.group == group for pair in pairs) for group in GROUPS},
        "kinds": _kinds(pairs),
        "methods": [_method(run) for run in runs],
        "scores": [score_figures(pairs, column) for column in columns],
        "verdicts": [found for run in runs if (found := verdict_figures(pairs, run))],
        "pairs": [[p.a, p.b, p.truth, p.group, p.kind] for p in pairs],
        "answers": [save_run(run) for run in runs],
    }


def score_figures(pairs: Sequence[Pair], column: Column) -> dict[str, Any]:
    """How well one score tells kin from strangers, in all, by kind and by group.

    z is from strangers as they were made: a stranger's attacked copies would count the same accident many times.
    """
    is_kin, is_stranger = _mask(pairs, "kin"), _mask(pairs, "independent")
    kin, strangers = column.scores[is_kin], column.scores[is_stranger]
    clusters = tuple([p.clusters for p, chosen in zip(pairs, mask, strict=True) if chosen] for mask in _both(pairs))
    unattacked = column.scores[is_stranger & np.array([not p.kind.startswith(ATTACK) for p in pairs], dtype=bool)]
    hard = np.array([p.group in HARD and p.truth == "independent" for p in pairs], dtype=bool)
    return {
        "title": column.title,
        "method": column.method,
        "auc": _value(auc(kin, strangers)),
        "auc_interval": [_value(end) for end in auc_interval((kin, strangers), (clusters[0], clusters[1]))],
        "auc_hard": _value(auc(kin, column.scores[hard])),
        "tpr_at_1_percent": _value(tpr_at_fpr(kin, strangers, 0.01)),
        "tpr_at_no_false_alarm": _value(tpr_at_fpr(kin, strangers, 0.0)),
        "kin": _summary(pairs, column, is_kin),
        "strangers": _summary(pairs, column, is_stranger),
        "by_kind": {kind: _kind(pairs, column, kind, unattacked) for kind in _kinds(pairs)},
        "by_group": {g: _summary(pairs, column, np.array([p.group == g for p in pairs])) for g in _groups(pairs)},
        "identification": identification(pairs, column),
        "held_out": held_out(pairs, column),
        "faults": dict(Counter(fault for fault in column.faults if fault).most_common(12)),
    }


def identification(pairs: Sequence[Pair], column: Column) -> dict[str, Any]:
    """Is a suspect's highest score, over the bases that it was compared with, that of a base it descends from?

    Bases with the same first weights as its own are no candidates. A tie with a stranger is no identification.
    """
    candidates: dict[str, list[tuple[float, bool, str]]] = {}
    for pair, score in zip(pairs, column.scores, strict=True):
        if pair.group in ("kin", "base's twin", "other"):
            value = -np.inf if np.isnan(score) else float(score)
            candidates.setdefault(pair.a, []).append((value, pair.truth == "kin", pair.b))
    missed, n_candidates = [], []
    for suspect, found in candidates.items():
        own = max((value for value, is_kin, _ in found if is_kin), default=None)
        if own is None:
            continue
        n_candidates.append(len(found))
        best = max(((value, name) for value, is_kin, name in found if not is_kin), default=(-np.inf, ""))
        if not own > best[0] and len(found) > 1:
            missed.append([suspect, best[1] if np.isfinite(best[0]) else ""])
        elif own == -np.inf:
            missed.append([suspect, ""])
    asked = len(n_candidates)
    return {
        "right": asked - len(missed),
        "asked": asked,
        "candidates": _value(float(np.mean(n_candidates))) if asked else None,
        "missed": missed,
    }


def held_out(pairs: Sequence[Pair], column: Column) -> dict[str, int]:
    """Does a threshold set on other bases hold for a base? It is the highest score of strangers without that base.

    Returns:
        Of the kin of every base, how many are above its threshold; of the strangers with it, how many pairs are.
    """
    scores = np.where(np.isnan(column.scores), -np.inf, column.scores)
    is_kin, is_stranger = _both(pairs)
    found, accused, asked = 0, np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=bool)
    for base in {name for pair in pairs if pair.truth == "kin" for name in pair.clusters}:
        has_base = np.array([base in pair.clusters for pair in pairs], dtype=bool)
        rest = scores[is_stranger & ~has_base]
        threshold = rest.max() if len(rest) else -np.inf
        found += int((scores[is_kin & has_base] > threshold).sum())
        asked |= is_stranger & has_base
        accused |= is_stranger & has_base & (scores > threshold)
    return {"found": found, "kin": int(is_kin.sum()), "accused": int(accused.sum()), "strangers": int(asked.sum())}


def verdict_figures(pairs: Sequence[Pair], run: MethodRun) -> dict[str, Any] | None:
    """What a method that gives verdicts said, by kind and group; None for others."""
    if not any(answer.verdict for answer in run.answers):
        return None
    said = [answer.verdict or "error" for answer in run.answers]
    by_kind = {kind: Counter[str]() for kind in _kinds(pairs)}
    by_group = {group: Counter[str]() for group in _groups(pairs)}
    for pair, verdict in zip(pairs, said, strict=True):
        by_group[pair.group][verdict] += 1
        if pair.truth == "kin":
            by_kind[pair.kind][verdict] += 1
    strangers = [(p, v) for p, v in zip(pairs, said, strict=True) if p.truth == "independent"]
    false = [[p.a, p.b, v] for p, v in strangers if v in ACCUSATIONS]
    kin = [v for p, v in zip(pairs, said, strict=True) if p.truth == "kin"]
    return {
        "method": run.name,
        "false_accusations": false,
        "strangers": len(strangers),
        "false_accusation_rate_bound": upper_bound(len(false), len(strangers)),
        "kin": len(kin),
        "kin_found": sum(v in ACCUSATIONS for v in kin),
        "kin_denied": sum(v == "independent" for v in kin),
        "abstentions": {
            "kin": kin.count("inconclusive"),
            "strangers": sum(v == "inconclusive" for _, v in strangers),
        },
        "by_kind": {kind: dict(counts) for kind, counts in by_kind.items()},
        "by_group": {group: dict(counts) for group, counts in by_group.items()},
    }


def _method(run: MethodRun) -> dict[str, Any]:
    seconds = [answer.seconds for answer in run.answers if not answer.fault]
    return {
        "name": run.name,
        "source": run.source,
        "unavailable": run.unavailable,
        "pairs": len(run.answers),
        "answered": len(seconds),
        "seconds_a_pair": _value(float(np.mean(seconds))) if seconds else None,
        "seconds_a_model": _value(float(np.mean(run.prepared))) if run.prepared else None,
        "models": len(run.prepared),
    }


def _kind(pairs: Sequence[Pair], column: Column, kind: str, strangers: np.ndarray) -> dict[str, Any]:
    mask = np.array([p.truth == "kin" and p.kind == kind for p in pairs], dtype=bool)
    found = _summary(pairs, column, mask)
    return {**found, "z": _value(z_score(column.scores[mask], strangers))}


def _summary(pairs: Sequence[Pair], column: Column, mask: np.ndarray) -> dict[str, Any]:
    """Count, scored, mean, deviation, and both ends with the pairs they belong to."""
    scores = column.scores[mask]
    known = np.isfinite(scores)
    found: dict[str, Any] = {"n": int(mask.sum()), "scored": int(known.sum())}
    if not known.any():
        return {**found, "mean": None, "std": None, "min": None, "max": None, "lowest": None, "highest": None}
    chosen = [p for p, is_in in zip(pairs, mask, strict=True) if is_in]
    low, high = int(np.nanargmin(scores)), int(np.nanargmax(scores))
    return {
        **found,
        "mean": _value(float(np.nanmean(scores))),
        "std": _value(float(np.nanstd(scores, ddof=1))) if known.sum() > 1 else None,
        "min": _value(float(scores[low])),
        "max": _value(float(scores[high])),
        "lowest": [chosen[low].a, chosen[low].b],
        "highest": [chosen[high].a, chosen[high].b],
    }


def _mask(pairs: Sequence[Pair], truth: str) -> np.ndarray:
    return np.array([pair.truth == truth for pair in pairs], dtype=bool)


def _both(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    return _mask(pairs, "kin"), _mask(pairs, "independent")


def _kinds(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(pair.kind for pair in sorted(pairs, key=_attacks_last) if pair.truth == "kin"))


def _attacks_last(pair: Pair) -> tuple[bool, str]:
    return pair.kind.startswith(ATTACK), pair.kind


def _groups(pairs: Sequence[Pair]) -> list[str]:
    present = {pair.group for pair in pairs}
    return [group for group in GROUPS if group in present]


def _value(value: float) -> float | str | None:
    """For JSON: null for NaN, a word for infinity."""
    if np.isnan(value):
        return None
    return round(float(value), 6) if np.isfinite(value) else ("inf" if value > 0 else "-inf")
