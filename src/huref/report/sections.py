"""The parts of the page, in the order in which they stand on it: each a function from a comparison to markup."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from huref.artefact import Comparison, LayerMatch
from huref.report import charts, words
from huref.report.markup import (
    Markup,
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
from huref.report.numbers import DASH, count, decimal, finite, percent, share, size
from huref.report.records import Evidence, InputRecord

LONG = 12
"""Rows above which a list is folded."""

_METHODS = {
    "identity": "none was needed: both models use the same axes",
    "embeddings": "from the embeddings of token strings that both vocabularies have (Procrustes)",
    "weights": "from the weights themselves, without the embeddings",
}
_CAVEATS = (
    "The p-value holds for pairs like those of the background. A pair of another kind may behave otherwise; the "
    "nearest unrelated pair is named so that the margin can be seen.",
    "A model distilled from another's outputs shares no weights with it, and counts as independent here.",
    "The portraits illustrate the fingerprints. The verdict does not rest on them.",
    "Huref reads weights only: no prompt was run, and no code that came with a model.",
)


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
        paragraph(words.p_value_sentence(found)),
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


def scores(found: Comparison) -> Markup:
    """Every score with what it is, or why it is missing."""
    rows = []
    for field, title, meaning in words.SCORES:
        value = finite(getattr(found, field))
        missing = "" if value is not None else f" Missing: {plain(words.absence(found, field))}."
        rows.append((title, words.score_text(found, field), join((meaning, _why(missing)))))
    return section(
        "scores",
        "Scores",
        table("Scores of this pair", ("score", "value", "what it is"), rows, numeric=(1,), style="scores"),
        _terms(found),
    )


def background(found: Comparison) -> Markup:
    """This pair among pairs of unrelated models."""
    known = found.background
    chart = charts.background_chart(found)
    if not known:
        why = paragraph(f"No background was drawn: {plain(words.absence(found, 'background'))}.")
        return section("background", "Background", why, _self_null(found))
    values = sorted(number for number in map(finite, known.get("values") or ()) if number is not None)
    nearest = known.get("nearest") or {}
    facts = [
        ("unrelated pairs", _number(known.get("n"))),
        ("mean ± standard deviation", f"{percent(known.get('mean'))} ± {percent(known.get('std'))}"),
        ("highest", percent(known.get("max"))),
        ("this pair", percent(getattr(found, str(known.get("score") or "agreement"), None))),
        ("z", f"{decimal(found.z)} standard deviations above the mean" if finite(found.z) is not None else DASH),
        ("nearest unrelated pair", _pair_of(nearest)),
        ("which pairs", plain(known.get("matched") or DASH)),
        ("calibration", plain(known.get("calibration") or DASH, 120)),
    ]
    caption = element(
        "figcaption", f"Each tick under the axis is one of {len(values)} unrelated pairs; the bars count them."
    )
    return section(
        "background",
        "Background",
        element("figure", chart, caption) if chart else None,
        pairs(facts),
        _self_null(found),
        _folded_values(values),
    )


def layers(found: Comparison) -> Markup:
    """The map of layers and the table of the matched ones."""
    drawing = charts.layer_map(found)
    if not found.layers and drawing is None:
        return section("layers", "Layers", paragraph(f"No layers were matched: {_why_no_layers(found)}."))
    figure = None
    if drawing is not None and found.table is not None:
        gaps = bool(np.isnan(found.table).any())
        caption = element("figcaption", "Pairing agreement of every pair of layers that was tried.")
        figure = element("figure", drawing, charts.map_legend(has_gaps=gaps), caption)
    return section("layers", "Layers", figure, _layer_table(found.layers) if found.layers else None)


def derivation(found: Comparison) -> Markup:
    """Kind, strength, direction and the reasons."""
    known = found.derivation
    if not known:
        return section(
            "derivation",
            "Kind of derivation",
            paragraph("None is named: " + ("the verdict is open." if _is_open(found) else "the verdict says all.")),
        )
    parent = words.parent_of(known)
    direction: str = plain(known.get("direction") or "not determined")
    if parent:
        a, b = map(name, words.distinct(found))
        direction = filled(
            "{p} is the parent, {c} the offspring", p=a if parent == "a" else b, c=b if parent == "a" else a
        )
    facts = [
        ("kind", plain(known.get("kind") or DASH)),
        ("strength", plain(known.get("strength") or DASH)),
        ("direction", direction),
    ]
    facts += [(plain(key, 40), _value(item)) for key, item in known.items() if key not in _SAID]
    reasons = [plain(reason) for reason in known.get("reasons") or ()]
    because = join((element("h3", "Reasons"), _list(reasons))) if reasons else None
    return section("derivation", "Kind of derivation", pairs(facts), because)


def transform(evidence: Evidence) -> Markup | None:
    """The rearrangement that was found between the two, in words."""
    if not evidence.transform:
        return None
    facts = [(plain(key, 60), plain(text)) for key, text in evidence.transform.items()]
    return section("transform", "Recovered transform", pairs(facts))


def alignment(found: Comparison) -> Markup:
    """How the map between the two residual streams was found."""
    known = found.alignment
    if not known:
        why = plain(words.absence(found, "alignment"))
        return section("alignment", "Residual map", paragraph(f"No map was sought: {why}."))
    method = str(known.get("method") or "")
    facts = [("map", _METHODS.get(method, plain(method or DASH, 120)))]
    if known.get("shared_tokens"):
        facts.append(("token strings used", _number(known["shared_tokens"])))
    if finite(known.get("quality")) is not None:
        facts.append(("likeness of the embeddings under it", percent(known["quality"])))
    facts += [(plain(key, 40), _value(item)) for key, item in known.items() if key not in _MAPPED]
    return section("alignment", "Residual map", pairs(facts))


def what_was_read(found: Comparison, evidence: Evidence) -> Markup:
    """Files, sizes, digests, and how much of them was read."""
    parts: list[str] = []
    for side, item, title in zip("AB", evidence.inputs, (found.a, found.b), strict=True):
        parts.append(element("h3", f"{side}: ", name(title)))
        parts.append(pairs(_facts_of(item)))
        rows = [(join((name(file.name), _digest(file.sha256))), count(file.size)) for file in item.files]
        head = ("file, with its sha256", "bytes")
        listed = (
            table(f"Files of {side}", head, rows, numeric=(1,), style="files") if rows else paragraph("No files.")
        )
        parts.append(folded(f"{len(rows)} files of {side}", listed) if len(rows) > LONG else listed)
    return section("read", "What was read", *parts, paragraph(evidence.hashing, style="faint"))


def repetition(evidence: Evidence, out: str) -> Markup:
    """The command, and everything that was chosen."""
    command = shlex.join([*evidence.command, *(["--report", out] if out else [])])
    facts = [*evidence.settings, ("huref", evidence.version), ("made", evidence.made)]
    return section(
        "repeat",
        "To repeat this",
        element("pre", element("code", command), tabindex="0", aria_label="The command"),
        paragraph(
            "Run it in the folder that holds both models. The scores are the same on every machine up to the last "
            "digits that are shown.",
            style="faint",
        ),
        pairs((term, plain(text)) for term, text in facts),
    )


def notes(found: Comparison) -> Markup:
    """The comparison's own notes, and what holds for all."""
    own = [element("h3", "Notes of this comparison"), _list([plain(note) for note in found.notes])]
    return section(
        "notes",
        "Notes and caveats",
        *(own if found.notes else []),
        element("h3", "What always holds"),
        listing(_CAVEATS),
    )


_SAID = ("kind", "strength", "direction", "reasons")
_MAPPED = ("method", "shared_tokens", "quality")


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


def _digest(sha256: str) -> Markup:
    return element("code", sha256) if sha256 else element("small", "sha256 not computed")


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


def _pair_of(nearest: Mapping[str, Any]) -> Markup:
    if not nearest:
        return Markup(DASH)
    return join((name(nearest.get("a")), " and ", name(nearest.get("b")), f", {percent(nearest.get('score'))}"))


def _self_null(found: Comparison) -> Markup | None:
    known = found.self_null
    if not known:
        return None
    return paragraph(
        f"This pair's own background: {_number(known.get('n'))} pairs of layers that are not partners agree by "
        f"{percent(known.get('mean'))} ± {percent(known.get('std'))}, at most {percent(known.get('max'))}."
    )


def _folded_values(values: list[float]) -> Markup | None:
    if not values:
        return None
    listed = element("p", ", ".join(percent(value) for value in values), class_="values")
    return folded(f"Agreement of all {len(values)} unrelated pairs", listed)


def _layer_table(matched: tuple[LayerMatch, ...]) -> Markup:
    kinds = list(dict.fromkeys(kind for layer in matched for kind in layer.aligned))
    has_heads = any(layer.heads is not None for layer in matched)
    head = ["A ~ B", "agreement", "chance", "neurons", *(["heads"] if has_heads else [])]
    head += [plain(kind, 30) for kind in kinds]
    rows = [list(_layer_row(layer, kinds, has_heads=has_heads)) for layer in matched]
    meaning = "; after the neurons and heads, the aligned score by kind of matrix" if kinds else ""
    caption = f"Matched layers of A ~ B: the share of neurons that agree, and what chance gives{meaning}"
    listed = table(caption, head, rows, numeric=range(1, len(head)), style="layers")
    if len(rows) <= LONG:
        return listed
    found = sorted(layer.agreement for layer in matched)
    summary = f"Agreement from {percent(found[0])} to {percent(found[-1])}, median {percent(found[len(found) // 2])}."
    return join((paragraph(summary), folded(f"All {len(rows)} matched layers", listed)))


def _layer_row(layer: LayerMatch, kinds: list[str], *, has_heads: bool) -> Iterator[str]:
    yield f"{layer.layer_a} ~ {layer.layer_b}"
    yield join((charts.bar(layer.agreement), " ", percent(layer.agreement)))
    yield from (percent(layer.chance), count(layer.n_neurons))
    if has_heads:
        yield percent(layer.heads)
    yield from (percent(layer.aligned.get(kind)) for kind in kinds)


def _why_no_layers(found: Comparison) -> str:
    return plain(words.absence(found, "agreement"))


def _facts_of(item: InputRecord) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = [("named", element("code", plain(item.reference, 300)))]
    if item.is_saved:
        facts.append(("kind", "a saved fingerprint; no weights were opened"))
    if item.architecture:
        facts.append(("architecture", plain(item.architecture, 80)))
    if item.storage:
        facts.append(("format", plain(item.storage, 40)))
    if item.bytes_read is not None:
        facts.append(("read", _amount(item.bytes_read, item.bytes_total)))
    return facts + [(term, plain(text)) for term, text in item.contents]


def _amount(n_read: int, total: int) -> str:
    again = "; some bytes more than once" if n_read > total else ""
    return f"{size(n_read)} of {size(total)} ({share(n_read, total)}{again})"


def _list(items: list[str]) -> Markup:
    return folded(f"{len(items)} entries", listing(items)) if len(items) > LONG else listing(items)


def _number(value: object) -> str:
    number = finite(value)
    return DASH if number is None else count(int(number))


def _value(item: object) -> str:
    """Something that a later version of a comparison says and this page has no words for."""
    number = finite(item) if isinstance(item, int | float) else None
    if number is not None:
        return decimal(number, 4)
    if isinstance(item, Mapping):
        return plain(", ".join(f"{key} {_value(part)}" for key, part in item.items()))
    if isinstance(item, list | tuple):
        return plain(", ".join(_value(part) for part in item))
    return plain(item)


def _is_open(found: Comparison) -> bool:
    return found.verdict == "inconclusive"
