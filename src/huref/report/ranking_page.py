"""The page of one model against many: who is kin, in a table, and what stands behind each line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from huref.kinship.ranking import Ranked, Ranking
from huref.report import conclusion, provenance, words
from huref.report.markup import Markup, bounded, element, filled, folded, name, paragraph, plain, section, table
from huref.report.numbers import DASH, decimal, percent
from huref.report.page import page
from huref.report.records import Evidence

_SHOWN = 50
"""Candidates with a section of their own."""


def ranking_page(found: Ranking, evidence: Mapping[str, Evidence], command: Sequence[str]) -> str:
    """The report.

    Args:
        evidence: by a candidate's name, of those that were compared.
        command: the arguments that repeat the ranking.
    """
    any_evidence = next(iter(evidence.values()))
    parts = [
        section("ranking", "Candidates", paragraph(_headline(found), style="sentence"), _table(found), _limit()),
        *(_candidate(item, evidence[item.name]) for item in found.candidates[:_SHOWN] if item.name in evidence),
        section("notes", "Notes", bounded([plain(note) for note in found.notes])) if found.notes else None,
        section("repeat", "To repeat", element("pre", plain(shlex.join(command), 4000))),
    ]
    title = f"{plain(found.suspect, 60)} and {len(found.candidates)} candidates: {plain(found.verdict, 40)} – huref"
    heading = element("h1", name(found.suspect), element("span", " compared with ", class_="with"))
    many = element("span", f"{len(found.candidates)} candidates")
    kicker = element("p", "huref · one model against many", class_="kicker")
    return page(title, element("header", kicker, heading, many), parts, (any_evidence.version, any_evidence.made))


def _headline(found: Ranking) -> Markup:
    surest = (found.kin or found.candidates)[0].name
    return filled(f"{found.headline}.", s=name(found.suspect), c=name(surest))


def _table(found: Ranking) -> Markup:
    rows = [_row(item) for item in found.candidates]
    head = ("candidate", "verdict", "kind", "p, corrected", "agreement", "ICS", "PCS")
    return table(f"{len(rows)} candidates, the surest kin first", head, rows, numeric=(3, 4, 5, 6))


def _row(item: Ranked) -> tuple[str, ...]:
    compared = item.comparison
    if compared is None:
        return (name(item.name), f"not read: {plain(item.error, 120)}", *[DASH] * 5)
    kind = plain((compared.derivation or {}).get("kind") or DASH, 60)
    scores = (compared.agreement, compared.invariant_ics, compared.pcs)
    return (
        name(item.name),
        words.LABELS.get(compared.verdict, plain(compared.verdict, 40)),
        kind,
        DASH if item.p_corrected is None else decimal(item.p_corrected),
        *map(percent, scores),
    )


def _limit() -> Markup:
    return paragraph(words.LIMIT, style="faint")


def _candidate(item: Ranked, evidence: Evidence) -> Markup | None:
    if item.comparison is None:
        return None
    detail = (
        conclusion.verdict(item.comparison, evidence),
        conclusion.scores(item.comparison),
        conclusion.derivation(item.comparison),
        provenance.what_was_read(item.comparison, evidence),
        conclusion.notes(item.comparison),
    )
    label = words.LABELS.get(item.verdict, item.verdict)
    return element("div", folded(f"{plain(item.name, 80)}: {label}", *(part for part in detail if part is not None)))
