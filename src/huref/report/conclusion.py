"""Parts of the page that conclude: verdict, portraits, scores, kind of derivation, notes."""

from __future__ import annotations

import base64

from huref.kinship.record import Comparison
from huref.report import words
from huref.report.markup import (
    Markup,
    anything,
    bounded,
    element,
    filled,
    folded,
    join,
    listing,
    name,
    pairs,
    paragraph,
    plain,
    section,
    table,
)
from huref.report.numbers import DASH, decimal, finite, percent
from huref.report.records import Evidence, InputRecord

_CAVEATS = (
    "The p-value holds for pairs like those of the background. A pair of another kind may behave otherwise; the "
    "nearest unrelated pair is named so that the margin can be seen.",
    "A model distilled from another's outputs shares no weights with it, and counts as independent here.",
    "The portraits illustrate the fingerprints. The verdict does not rest on them.",
    "Huref reads weights only: no prompt was run, and no code that came with a model.",
)

_SAID = ("kind", "strength", "direction", "reasons")


def verdict(found: Comparison, evidence: Evidence) -> Markup:
    """The sentence, the p-value, and the figures it rests on."""
    sentence = words.verdict_sentence(found)
    labelled = {key: name(text) for key, text in sentence.names(*words.distinct(found)).items()}
    badge = element(
        "p",
        element("span", words.MARKS.get(found.verdict, "?"), aria_hidden="true", class_="mark"),
        " ",
        words.LABELS.get(found.verdict, plain(found.verdict, 40)),
        class_=f"badge {found.verdict if found.verdict in words.LABELS else 'inconclusive'}",
    )
    return section(
        "verdict",
        "Verdict",
        badge,
        paragraph(filled(sentence.template, **labelled), style="sentence"),
        _key_figures(found),
        paragraph(words.p_value_sentence(found) + _rule(evidence)),
        _expectation(found, evidence),
        paragraph(words.LIMIT, style="faint"),
    )


def portraits(found: Comparison, evidence: Evidence) -> Markup:
    """Both pictures side by side."""
    figures = [
        _portrait(side, item, title)
        for side, item, title in zip("AB", evidence.inputs, (found.a, found.b), strict=True)
    ]
    said = (
        "A portrait is drawn from a model's fingerprint: models whose weights point the same way get dogs that look "
        f"alike. Cosine of the two fingerprints: {percent(found.vectors)}."
    )
    return section("portraits", "Portraits", element("div", *figures, class_="two"), paragraph(said, style="faint"))


_OTHER_ICS = {"ics_canonical": "ics_canonical_2", "ics_canonical_2": "ics_canonical"}


def scores(found: Comparison) -> Markup:
    """Every score with what it is, or why it is missing."""
    rows = []
    for field, title, meaning in words.SCORES:
        value = finite(getattr(found, field))
        if value is None and field in _OTHER_ICS and getattr(found, _OTHER_ICS[field]) is not None:
            continue  # one of them is asked for
        missing = "" if value is not None else f" Missing: {plain(words.absence(found, field))}."
        rows.append((title, words.score_text(found, field), join((meaning, _why(missing)))))
    return section(
        "scores",
        "Scores",
        table("Scores of this pair", ("score", "value", "what it is"), rows, numeric=(1,), style="scores"),
        _terms(found),
    )


def derivation(found: Comparison) -> Markup:
    """Kind, strength, direction and the reasons."""
    known = found.derivation
    if not known:
        return section(
            "derivation",
            "Kind of derivation",
            paragraph(
                "None is named: "
                + ("the verdict is open." if found.verdict == "inconclusive" else "the verdict says all.")
            ),
        )
    parent = words.parent_of(known)
    direction: str = plain(known.get("direction") or "unknown").replace("unknown", "not determined")
    if parent:
        a, b = map(name, words.distinct(found))
        direction = filled(
            "{c} is made from {p}, or from a relative of it", p=a if parent == "a" else b, c=b if parent == "a" else a
        )
    facts = [
        ("kind", plain(known.get("kind") or DASH)),
        ("strength", plain(known.get("strength") or DASH)),
        ("direction", direction),
    ]
    facts += [(plain(key, 40), anything(item)) for key, item in known.items() if key not in _SAID]
    reasons = [plain(reason) for reason in known.get("reasons") or ()]
    because = join((element("h3", "Reasons"), bounded(reasons))) if reasons else None
    return section("derivation", "Kind of derivation", pairs(facts), because)


def notes(found: Comparison) -> Markup:
    """The comparison's own notes, and what holds for all."""
    reasons = (found.derivation or {}).get("reasons") or ()  # they stand above
    own = [plain(note) for note in found.notes if note not in reasons]
    return section(
        "notes",
        "Notes and caveats",
        *((element("h3", "Notes of this comparison"), bounded(own)) if own else ()),
        element("h3", "What always holds"),
        listing(_CAVEATS),
    )


def _key_figures(found: Comparison) -> Markup:
    """The few numbers that the verdict rests on; those that there are."""
    nearest = (found.background or {}).get("nearest") or {}
    figures = [
        ("pairing agreement", percent(found.agreement), found.agreement),
        ("nearest unrelated pair", percent(nearest.get("score")), nearest.get("score")),
        ("p-value", decimal(found.p_value), found.p_value),
        ("all parameters (PCS)", percent(found.pcs), found.pcs),
    ]
    shown = [
        element("div", element("dt", term), element("dd", text))
        for term, text, value in figures
        if finite(value) is not None
    ]
    return element("dl", *shown, class_="figures") if shown else Markup("")


def _rule(evidence: Evidence) -> str:
    """When kinship is named at all."""
    least, rate = evidence.accused_from, evidence.accusation_rate
    if least is None or rate is None:
        return ""
    return f" Huref names kinship from a pairing agreement of {100 * least:.0f} % on, and at p {rate:g} or less."


def _expectation(found: Comparison, evidence: Evidence) -> Markup | None:
    if evidence.expect is None:
        return None
    is_met = found.verdict == evidence.expect
    return paragraph(
        f"Expected by the caller: {plain(evidence.expect, 40)}. "
        + ("The verdict is that one." if is_met else "The verdict is another one.")
        + f" Exit code {evidence.exit_code}."
    )


def _portrait(side: str, item: InputRecord, title: str) -> Markup:
    caption = element("figcaption", element("strong", f"{side}: "), name(title), _aside(item.portrait_note))
    if not item.portrait:
        return element("figure", element("div", "no portrait", class_="absent"), caption)
    data = base64.b64encode(item.portrait).decode()
    alt = f"Portrait of {side}, {plain(title, 80)}: a dog's face drawn from the fingerprint of its weights"
    picture = element("img", src=f"data:image/png;base64,{data}", alt=alt, width=288, height=288)
    return element("figure", picture, caption)


def _aside(text: str) -> Markup | None:
    return element("small", plain(text)) if text else None


def _why(text: str) -> Markup | None:
    return element("em", text) if text else None


def _terms(found: Comparison) -> Markup | None:
    """The terms behind both ICS; always folded, since only an engineer asks."""
    if not found.terms:
        return None
    rows = [
        (f"layer {term.layer_a} ~ {term.layer_b}", plain(term.term, 60), percent(term.score)) for term in found.terms
    ]
    listed = table("Terms behind both ICS", ("layers of A ~ B", "term", "score"), rows, numeric=(2,))
    return folded(f"{len(rows)} terms behind both ICS", listed)
