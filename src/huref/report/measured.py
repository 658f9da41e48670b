"""Parts of the page that show what was measured: background, layers, the map between the residual streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from huref.kinship.record import Comparison, LayerMatch
from huref.report import charts, words
from huref.report.markup import (
    LONG,
    Markup,
    anything,
    element,
    folded,
    join,
    name,
    pairs,
    paragraph,
    plain,
    section,
    table,
)
from huref.report.numbers import DASH, count, decimal, finite, percent, whole

_METHODS = {
    "tokens": "the tokens of each vocabulary: neurons by how tokens make them, whatever the axes",
    "identity": "the models' own axes, taken as the same",
    "rows": "the tokens that both vocabularies have, by whole rows in place of their signs",
    "shared tokens": "the tokens that both vocabularies have",
    "weights": "the weights themselves, without the embeddings",
}

_MAPPED = ("method", "shared_tokens", "tried", "is_complete")
_WHERE_KNOWN = {"heads": "heads", "in_place": "in place"}


def background(found: Comparison, accused_from: float | None = None) -> Markup:
    """This pair among pairs of unrelated models."""
    known = found.background
    chart = charts.background_chart(found, accused_from)
    if not known:
        why = paragraph(f"No background was drawn: {plain(words.absence(found, 'background'))}.")
        return section("background", "Background", why, _self_null(found))
    values = sorted(number for number in map(finite, known.get("values") or ()) if number is not None)
    nearest = known.get("nearest") or {}
    facts = [
        ("unrelated pairs", whole(known.get("n"))),
        ("mean ± standard deviation", f"{percent(known.get('mean'))} ± {percent(known.get('std'))}"),
        ("highest", percent(known.get("max"))),
        (
            "this pair",
            join((percent(getattr(found, str(known.get("score") or "agreement"), None)), _distance(found.z))),
        ),
        ("nearest unrelated pair", _pair_of(nearest)),
        ("which pairs", plain(known.get("matched") or DASH)),
        ("calibration", plain(known.get("calibration") or DASH, 120)),
    ]
    if finite(known.get("n_bases")) is not None:
        facts.insert(1, ("models behind them", f"{whole(known['n_bases'])} independent ones"))
    if finite(known.get("rate_bound")) is not None:
        limit = f"at most {percent(known['rate_bound'])}, with 95 % confidence"
        facts.insert(-2, ("share of such pairs that agree as much", limit))
    caption = element(
        "figcaption", f"Each tick under the axis is one of {len(values)} unrelated pairs; the bars count them."
    )
    return section(
        "background",
        "Background",
        element("figure", chart, caption) if chart else None,
        pairs(facts),
        _self_null(found),
        _other_scores(known.get("scores") or {}),
        _folded_values(values),
    )


def layers(found: Comparison) -> Markup:
    """The map of layers and the table of the matched ones."""
    drawing = charts.layer_map(found)
    if not found.layers and drawing is None:
        return section(
            "layers", "Layers", paragraph(f"No layers were matched: {plain(words.absence(found, 'agreement'))}.")
        )
    figure = None
    if drawing is not None and found.table is not None:
        gaps = bool(np.isnan(found.table).any())
        caption = element("figcaption", "Pairing agreement of every pair of layers that was tried.")
        figure = element("figure", drawing, charts.map_legend(has_gaps=gaps), caption)
    return section("layers", "Layers", figure, _layer_table(found.layers) if found.layers else None)


def alignment(found: Comparison) -> Markup:
    """In which frame neurons were compared, and what every witness says."""
    known = found.alignment
    if not known:
        why = plain(words.absence(found, "alignment"))
        return section("alignment", "Frame", paragraph(f"No neurons were compared: {why}."))
    method = str(known.get("method") or "")
    facts = [("neurons compared by", _METHODS.get(method, plain(method or DASH, 120)))]
    if finite(known.get("shared_tokens")) is not None:
        facts.append(("token strings that both have", whole(known["shared_tokens"])))
    if isinstance(known.get("tried"), Mapping):
        tried = ", ".join(f"{key} {percent(found)}" for key, found in known["tried"].items())
        facts.append(("frames tried", plain(f"{tried} (agreement)")))
    if found.witnesses:
        spoken = ", ".join(f"{key} {percent(value)}" for key, value in found.witnesses.items())
        facts.append(("witnesses", plain(spoken, 200)))
    if found.count is not None:
        told = found.count
        counted = (
            f"{count(told['agreeing'])} of {count(told['neurons'])} neurons, {decimal(told['by_chance'])} by chance"
        )
        facts.append(("counted", plain(f"{counted}, binomial p {decimal(told['p_value'])}", 200)))
    if isinstance(known.get("is_complete"), bool):
        said = "every layer with every other" if known["is_complete"] else "some layers, with those near their place"
        facts.append(("layers tried", said))
    facts += [(plain(key, 40), anything(item)) for key, item in known.items() if key not in _MAPPED]
    return section("alignment", "Frame", pairs(facts))


def _pair_of(nearest: Mapping[str, Any]) -> Markup:
    if not nearest:
        return Markup(DASH)
    twins = ", twins that learned from the same text" if nearest.get("twins") else ""
    said = f", {percent(nearest.get('score'))}{twins}"
    return join((name(nearest.get("a")), " and ", name(nearest.get("b")), said))


def _distance(z: object) -> str:
    number = finite(z)
    if number is None:
        return ""
    return f", {decimal(abs(number))} standard deviations {'above' if number >= 0 else 'below'} the mean"


def _other_scores(known: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Where the other scores of this pair stand; the verdict does not rest on them."""
    titles = {field: title for field, title, _ in words.SCORES}
    rows = [
        (
            plain(titles.get(field, field), 60),
            f"{percent(item.get('mean'))} ± {percent(item.get('std'))}",
            percent(item.get("max")),
            decimal(item.get("z")),
            decimal(item.get("p_value")),
        )
        for field, item in known.items()
    ]
    if not rows:
        return None
    caption = "Where each score of this pair stands among the unrelated pairs"
    return table(caption, ("score", "mean ± deviation", "highest", "z", "p"), rows, numeric=(1, 2, 3, 4))


def _self_null(found: Comparison) -> Markup | None:
    known = found.self_null
    if not known:
        return None
    return paragraph(
        f"This pair's own background: {whole(known.get('n'))} pairs of layers that are not partners agree by "
        f"{percent(known.get('mean'))} ± {percent(known.get('std'))}, at most {percent(known.get('max'))}."
    )


def _folded_values(values: list[float]) -> Markup | None:
    if not values:
        return None
    listed = element("p", ", ".join(percent(value) for value in values), class_="values")
    return folded(f"Agreement of all {len(values)} unrelated pairs", listed)


def _layer_table(matched: tuple[LayerMatch, ...]) -> Markup:
    kinds = list(dict.fromkeys(kind for layer in matched for kind in layer.aligned))
    kept = [field for field in _WHERE_KNOWN if any(getattr(layer, field) is not None for layer in matched)]
    head = ["A ~ B", "agreement", "neurons", "chance", *(_WHERE_KNOWN[field] for field in kept)]
    head += [plain(kind, 30) for kind in kinds]
    rows = [list(_layer_row(layer, kept, kinds)) for layer in matched]
    meaning = "in place: agreeing neurons that stand where they stood; " if "in_place" in kept else ""
    meaning += "last, the aligned score by kind of matrix" if kinds else ""
    caption = f"Matched layers of A ~ B. Agreement of neurons, and of heads; {meaning}"
    listed = table(caption, head, rows, numeric=range(1, len(head)), style="layers")
    if len(rows) <= LONG:
        return listed
    found = sorted(layer.agreement for layer in matched)
    summary = f"Agreement from {percent(found[0])} to {percent(found[-1])}, median {percent(found[len(found) // 2])}."
    return join((paragraph(summary), folded(f"All {len(rows)} matched layers", listed)))


def _layer_row(layer: LayerMatch, kept: list[str], kinds: list[str]) -> Iterator[str]:
    yield f"{layer.layer_a} ~ {layer.layer_b}"
    yield join((charts.bar(layer.agreement), " ", percent(layer.agreement)))
    yield f"{count(round(layer.agreement * layer.n_neurons))} of {count(layer.n_neurons)}"
    yield percent(layer.chance)
    yield from (percent(getattr(layer, field)) for field in kept)
    yield from (percent(layer.aligned.get(kind)) for kind in kinds)
