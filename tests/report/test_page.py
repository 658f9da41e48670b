"""The page: well formed, self-contained, proof against hostile names, and true to the comparison it shows."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from huref.kinship.record import NO_WEIGHTS, VERDICTS
from huref.report import html_page, words
from huref.report.charts import LEVELS
from huref.report.markup import Markup, element, filled, join, name, plain
from huref.report.numbers import percent
from kit import reports
from kit.outline import Outline
from kit.reports import CASES

ONLY = "only pcs was asked for: the other scores are null"


def shown(case: str) -> Outline:
    return Outline(html_page(*CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_well_formed_and_asks_nobody_for_anything(case: str) -> None:
    page = shown(case)
    kinds = {tag for tag, _ in page.elements}
    assert not kinds & {"script", "link", "iframe", "object", "embed", "form", "base", "a", "audio", "video"}
    assert len(page.all("h1")) == 1 and page.elements[0] == ("html", {"lang": "en"})
    assert page.all("h2") and "h4" not in kinds
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key == "style" for key in attributes), tag
        for key in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert (attributes.get(key) or "data:").startswith("data:image/png;base64,") or key not in attributes
        for key in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= set(ids)
    sheet = "".join(page.inside["style"])
    assert not re.search(r"url\((?!#)|@import|expression", sheet)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("case", CASES)
def test_readers_who_do_not_see_the_page_are_told_everything(case: str) -> None:
    page = shown(case)
    assert all(picture.get("alt") for picture in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    for drawing in page.all("svg"):
        assert drawing.get("aria-hidden") == "true" or (drawing.get("role") == "img" and drawing["aria-labelledby"])
    sections = [part["aria-labelledby"] for part in page.all("section")]
    assert sections == [heading["id"] for heading in page.all("h2")]


def test_the_parts_stand_in_order() -> None:
    found = [heading["id"] for heading in shown("derived").all("h2")]
    assert found == [
        *("verdict", "portraits", "scores", "background", "layers", "derivation", "transform", "read"),
        *("alignment", "repeat", "notes"),
    ]
    assert "transform" not in [heading["id"] for heading in shown("independent").all("h2")]


def test_hostile_texts_are_texts() -> None:
    page = html_page(*CASES["hostile"])
    assert "<script" not in page and "\u202e" not in page and "\u200f" not in page and "\x00" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert len(page) < 120_000  # names of 10 kB are not repeated in full
    assert "x" * 200 not in page


def test_markup_escapes_whatever_is_not_markup() -> None:
    assert element("p", "<b>", Markup("<i></i>"), None, title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<i></i></p>'
    assert join(("&", Markup("&amp;")), "<") == "&amp;<&amp;"
    assert filled("{a} <is> {b}", a=name("<"), b=Markup("!")) == '<bdi class="name">&lt;</bdi> &lt;is&gt; !'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert element("p", "5 % of <") == "<p>5&nbsp;% of &lt;</p>"


def test_texts_are_one_line_and_no_tower() -> None:
    assert plain("a\n\t b\u2028c") == "a b c"
    assert plain("e" + "\u0301" * 500 + "x") == "e" + "\u0301" * 3 + "x"
    assert len(plain("y" * 10_000, 90)) < 100 and plain("y" * 90, 90) == "y" * 90
    assert plain("\ud800") == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("case", ["derived", "independent", "deep"])
def test_the_numbers_are_those_of_the_comparison(case: str) -> None:
    found, evidence = CASES[case]
    text = shown(case).text
    for field, title, meaning in words.SCORES:
        value = getattr(found, field)
        if field == "ics_canonical":
            assert value is None and title not in text
            continue
        assert f"{title} {percent(value)} {meaning}" in text
    for layer in found.layers:
        counts = f"{round(layer.agreement * layer.n_neurons)} of {layer.n_neurons:,}"
        row = [percent(layer.agreement), counts, percent(layer.chance), percent(layer.heads)]
        row += [percent(layer.in_place), *(percent(layer.aligned[kind]) for kind in layer.aligned)]
        assert f"{layer.layer_a} ~ {layer.layer_b} {' '.join(row)}" in text
    assert found.background is not None
    for value in found.background["values"]:
        assert percent(value) in text
    for item in evidence.inputs:
        assert f"1.23 GB of 9.95 GB ({100 * item.bytes_read / item.bytes_total:.1f} %)" in text
        for file in item.files:
            assert f"{file.name} {file.sha256} {file.size:,}" in text
    assert "huref compare models/base-1 models/base-1-chat --layers all" in text


def test_the_p_value_is_explained_by_counts_that_fit() -> None:
    assert "p = 0.0149" in shown("derived").text and "accusations" not in shown("independent").text
    limit = words.p_value_sentence(reports.derived()).split("False accusations: at most ")[1].split(" %")[0]
    assert shown("derived").text.count(f"{limit} %") == 2, "one rate, in the verdict and in the background"
    assert "Of 66 unrelated pairs none does, and no smaller p" in shown("derived").text
    assert "Of 66 unrelated pairs 27 do." in shown("independent").text  # (27 + 1) / 67
    odd = reports.derived(p_value=0.02)
    assert "Of 66" not in words.p_value_sentence(odd) and "p = 0.02," in words.p_value_sentence(odd)
    assert f"There is no p-value: {NO_WEIGHTS}." in shown("inconclusive").text
    same = reports.derived(p_value=None, verdict="identical")
    assert words.p_value_sentence(same).startswith("No p-value is needed: every tensor was compared")


@pytest.mark.parametrize("verdict", VERDICTS)
def test_no_verdict_accuses(verdict: str) -> None:
    text = Outline(html_page(reports.derived(verdict=verdict), reports.evidence())).text.lower()
    for word in ("stolen", "steal", "theft", "copied", "plagiar", "guilty", "pirate", "proves"):
        assert word not in text
    if verdict in ("derived", "merged"):
        assert "are statistically consistent with derivation from" in text


def test_a_parent_is_named_only_where_the_comparison_names_one() -> None:
    def said(direction: object, verdict: str = "derived") -> str:
        found = reports.derived(verdict=verdict, derivation={"kind": "fine-tuned", "direction": direction})
        return words.verdict_sentence(found).fill("A1", "B1")

    assert (
        said("b from a")
        == "The weights of B1 are statistically consistent with derivation from A1, or from a relative of it."
    )
    assert (
        said("a from b")
        == "The weights of A1 are statistically consistent with derivation from B1, or from a relative of it."
    )
    assert said("b from a", "merged").startswith(
        "The weights of B1 are statistically consistent with derivation from A1, or from a relative of it, m"
    )
    for unknown in (None, "", "unknown", "b from c", 7):
        assert "Which of them, this comparison does not say." in said(unknown)
    assert "A1" in said("b from a", "independent") and "derivation" not in said("b from a", "independent")


def test_two_models_of_one_name_are_told_apart() -> None:
    text = Outline(html_page(reports.derived(a="same", b="same"), reports.evidence())).text
    assert "The weights of B, same, are statistically consistent with derivation from A, same," in text


@pytest.mark.parametrize(
    ("field", "notes", "why"),
    [
        ("pcs", ("ics is null: x", "pcs is null: no tensor fits"), "no tensor fits"),
        ("ics_canonical_2", ("ics and ics_canonical_2 are null: too few tokens",), "too few tokens"),
        ("ics", ("ics and ics_canonical_2 are null: too few tokens",), "too few tokens"),
        ("ics", ("ics_canonical_2 is null: other",), "not computed; the notes may say why"),
        ("aligned", (ONLY,), ONLY),
        ("agreement", (), "not computed; the notes may say why"),
    ],
)  # fmt: skip
def test_a_missing_score_says_why(field: str, notes: tuple[str, ...], why: str) -> None:
    found = reports.derived(**{field: None}, notes=notes)
    assert words.absence(found, field) == why
    assert f"Missing: {why}." in Outline(html_page(found, reports.evidence())).text


def test_numbers_that_are_none_are_dashes() -> None:
    found = reports.derived(pcs=float("nan"), z=float("inf"), p_value=float("nan"))
    text = Outline(html_page(found, reports.evidence())).text
    assert "nan" not in text.lower().split() and "inf" not in text.lower().split()
    assert "There is no p-value" in text and "PCS –" in text


def test_every_cell_of_the_map_is_drawn_once_at_its_level() -> None:
    found, evidence = CASES["deep"]
    assert found.table is not None
    page = html_page(found, evidence)
    drawn = np.full(found.table.shape, np.nan)
    levels = [f"{0.03 + 0.97 * k / (LEVELS - 1):.2f}" for k in range(LEVELS)]
    for runs, opacity in re.findall(r'<path d="([^"]*)" class="cell" fill-opacity="([^"]*)"', page):
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", runs):
            part = drawn[int(y), int(x) : int(x) + int(width)]
            assert np.isnan(part).all()
            part[:] = levels.index(opacity) / (LEVELS - 1)
    assert np.array_equal(np.isnan(drawn), np.isnan(found.table))
    assert np.nanmax(np.abs(drawn - found.table)) <= 0.5 / (LEVELS - 1) + 1e-9
    (frames,) = re.findall(r'<path d="([^"]*)" class="match thin"', page)
    assert frames.count("M") == len(found.layers) == 79
    assert "not tried" in Outline(page).text


def test_the_drawing_places_this_pair_and_the_nearest_one() -> None:
    page = html_page(reports.derived(agreement=1.0), reports.evidence())
    (own,) = re.findall(r'M([\d.]+) [\d.]+L[\d.]+ [\d.]+" class="own-line"', page)
    (near,) = re.findall(r'M([\d.]+) [\d.]+L[\d.]+ [\d.]+" class="near-line"', page)
    left, right = 36, 600
    assert float(own) == right and float(near) == pytest.approx(left + 0.1173 * (right - left), abs=0.05)
    (rug,) = re.findall(r'<path d="([^"]*)" class="rug"', page)
    assert rug.count("M") == 66
    (limit,) = re.findall(r'M([\d.]+) [\d.]+L[\d.]+ [\d.]+" class="limit"', page)
    assert float(limit) == pytest.approx(left + 0.25 * (right - left), abs=0.05)
    assert "llama-tied/seed1 with llama-tied/seed2, 11.73" in page


@pytest.mark.parametrize(
    "background",
    [
        {"score": "agreement", "mean": 0.1, "std": 0.01, "n": 0, "max": None, "nearest": None, "values": []},
        {"score": "agreement", "n": 1, "values": [0.5]},
        {
            "score": "agreement",
            "n": 2,
            "values": [float("nan"), -0.4],
            "nearest": {"a": "x", "b": "y", "score": -0.4},
        },
        {},
    ],
)
def test_thin_backgrounds_are_shown_as_they_are(background: dict[str, object]) -> None:
    page = html_page(reports.derived(background=background), reports.evidence())
    assert Outline(page).text
    assert ('class="bin"' in page) == any(v == v for v in background.get("values", []))


@pytest.mark.parametrize(
    "table", [None, np.full((3, 3), np.nan), np.ones((1, 1)), np.zeros((0, 3)), np.ones((2, 200))]
)
def test_any_table_of_layers_will_do(table: np.ndarray | None) -> None:
    page = html_page(reports.derived(table=table), reports.evidence())
    is_drawn = table is not None and table.size > 0 and not np.isnan(table).all()
    assert ("map-title" in page) == is_drawn and Outline(page)


def test_reading_more_bytes_than_there_are_is_told_as_it_is() -> None:
    again = replace(reports.weights("a"), bytes_read=20_000_000_000)
    text = Outline(html_page(reports.derived(), reports.evidence(again))).text
    assert "read all 9.95 GB, some of it several times: 20.00 GB in all" in text


def test_long_lists_are_folded_and_short_ones_are_not() -> None:
    def folded(page: Outline) -> list[str]:
        return page.inside.get("summary", [])

    assert not any("matched layers" in line for line in folded(shown("derived")))
    assert "All 79 matched layers" in folded(shown("deep"))
    assert "30 files of A" in folded(shown("hostile")) and "20 entries" in folded(shown("hostile"))


def test_the_expectation_is_told_with_its_exit_code() -> None:
    assert "Expected by the caller: derived. The verdict is another one. Exit code 1." in shown("deep").text
    met = Outline(html_page(reports.derived(), reports.evidence(expect="derived"))).text
    assert "Expected by the caller: derived. The verdict is that one. Exit code 0." in met


def test_portraits_may_be_absent_and_say_why() -> None:
    page = shown("inconclusive")
    assert page.all("img") == [] and page.text.count("no portrait") == 2
    assert page.text.count("the generator is not there") == 2
    pictures = [picture["src"] for picture in shown("derived").all("img")]
    assert [base64.b64decode(src.split(",")[1]) for src in pictures] == [reports.portrait(0), reports.portrait(9)]


def test_the_same_comparison_gives_the_same_bytes() -> None:
    assert html_page(*CASES["derived"]) == html_page(*CASES["derived"])
