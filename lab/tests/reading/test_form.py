"""The study's page: one file without a network, that asks, scores and saves; in a real browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from huref.errors import UsageError
from huref_lab.reading.answers import Row, read_answers, score_answers
from huref_lab.reading.bands import band_of, wilson
from huref_lab.reading.form import FormOptions, drawn_questions, make_form, scramble, study_questions
from huref_lab.reading.line_ups import STRANGER
from kit import browser
from kit.browser import CONTRAST
from lab_kit.study import real_study

pytestmark = pytest.mark.usefixtures("dogs")


class Outline(html.parser.HTMLParser):
    """Elements with their attributes, and the text that a reader sees before any script runs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text, self._open = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag if tag in self.inside else ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open].append(data)
        else:
            self.text += data


def page(**options: Any) -> str:
    return make_form(FormOptions(**{"questions": 8, **options}))


def payload(text: str) -> dict[str, Any]:
    return json.loads(Outline(text).inside["script"][0])


def key_of(data: dict[str, Any]) -> list[list[Any]]:
    return json.loads(unscramble(data["key"], data["id"]))


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = page()
    outline = Outline(text)
    assert not re.search(
        r"https?:|//[a-z]|\burl\(|@import|fetch\(|XMLHttp|WebSocket|sendBeacon|import\(",
        re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text),
    )
    addresses = [
        v for _, attrs in outline.elements for k, v in attrs.items() if k in ("src", "href", "action", "data")
    ]
    assert addresses == []
    assert {tag for tag, _ in outline.elements} & {"link", "iframe", "object", "embed", "base"} == set()


def test_the_policy_allows_the_page_itself_and_nothing_else() -> None:
    outline = Outline(page())
    (policy,) = (a["content"] for _, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["form-action"] == "'none'"
    for name, text in (("style-src", outline.inside["style"][0]), ("script-src", outline.inside["script"][1])):
        assert rules[name] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_pictures_are_inside_and_answers_are_not_to_be_seen() -> None:
    text = page()
    data = payload(text)
    assert len(data["bases"]) == 18 and len(data["questions"]) == 8
    for uri in data["bases"] + data["questions"]:
        assert base64.b64decode(uri.removeprefix("data:image/png;base64,"))[:8] == b"\x89PNG\r\n\x1a\n"
    key = key_of(data)
    assert "truth" not in Outline(text).text and json.dumps(key) not in text
    lineup = drawn_questions(FormOptions(questions=8))
    assert [t for t, _ in key] == [None if t == STRANGER else t for t in lineup.truth.tolist()]
    assert data["key"] not in Outline(text).text


def test_one_seed_one_page() -> None:
    assert page(seed=4) == page(seed=4)
    assert payload(page(seed=4))["id"] != payload(page(seed=5))["id"]


def unscramble(text: str, identity: str) -> str:
    """What the page's script does with the key."""
    mixed = base64.b64decode(text)
    return bytes(a ^ b for a, b in zip(mixed, itertools.cycle(identity.encode()), strict=False)).decode("ascii")


def test_scrambling_is_undone() -> None:
    text = "[[null, 0.0], [17, 0.9731]]"
    mixed = scramble(text, "0123456789abcdef")
    assert unscramble(mixed, "0123456789abcdef") == text and "null" not in mixed


def test_drawn_questions_are_balanced_over_kinship() -> None:
    lineup = drawn_questions(FormOptions(questions=28, seed=3))
    groups = Counter(
        "stranger" if t == STRANGER else band_of(i).name for t, i in zip(lineup.truth, lineup.ics, strict=True)
    )
    assert set(groups.values()) == {4} and len(groups) == 7


def test_questions_of_a_study_offer_18_bases_and_ask_strangers_of_the_rest() -> None:
    lineup = study_questions(real_study(20), FormOptions(questions=12))
    assert len(lineup.bases) == 18 and len(lineup.models) == 12
    assert Counter(lineup.truth.tolist())[STRANGER] == 2
    few = study_questions(real_study(18, children=1), FormOptions(questions=30))
    assert len(few.models) == 18 and STRANGER not in few.truth
    again = payload(make_form(FormOptions(questions=12), real_study(20)))
    assert again["about"]["models"] == "real" and again["about"]["encoder"] == "sketch"


@pytest.mark.parametrize("study", [real_study(17), real_study(18, children=0)])
def test_studies_that_give_no_lineup_are_refused(study: Any) -> None:
    with pytest.raises(UsageError):
        study_questions(study, FormOptions())


@pytest.mark.parametrize("questions", [0, -1, 201])
def test_absurd_numbers_of_questions_are_refused(questions: int) -> None:
    with pytest.raises(UsageError, match="200"):
        FormOptions(questions=questions)


def test_the_command_writes_the_page(cli: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "new" / "study.html"
    outcome = cli("lab", "study", "--out", target, "--questions", 3, "--seed", 9, "--json")
    assert outcome.code == 0 and outcome.document["bytes"] == target.stat().st_size
    assert target.read_text() == page(questions=3, seed=9)
    assert str(target) in cli("lab", "study", "--out", target, "--questions", 3, "--psi", 0).out
    pictures = payload(target.read_text())["bases"]
    assert len(set(pictures)) < 18 and payload(target.read_text())["about"]["psi"] == 0


def test_the_command_says_what_is_wrong(cli: Callable[..., Any], tmp_path: Path) -> None:
    assert cli("lab", "study", "--out", tmp_path / "a.html", "--study", tmp_path / "none").code == 4
    assert cli("lab", "study", "--out", tmp_path / "a.html", "--questions", 1000).code == 2
    assert cli("lab", "study", "--out", tmp_path, "--questions", 1).code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def new_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], browser.Tab]]:
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine: the page is only checked as text")
    with browser.opened(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(new_tab: Callable[[], browser.Tab]) -> browser.Tab:
    return new_tab()


def choose(tab: browser.Tab, wanted: str) -> None:
    """Into the line-up with the tabulator, along it with an arrow key, and on with the Enter key."""
    tab.press("Tab", 9)
    for _ in range(20):
        tab.press("ArrowLeft", 37)
        if tab.run("document.querySelector('input:checked').value") == wanted:
            break
    tab.press("Enter", 13, "\r")


def test_a_person_with_a_keyboard_answers_and_saves(tab: browser.Tab, tmp_path: Path) -> None:
    """Right at first, "none of these" then; what the page shows is what huref makes of the saved file."""
    target, saved = tmp_path / "study.html", tmp_path / "saved"
    target.write_text(page(questions=8))
    key = key_of(payload(target.read_text()))
    saved.mkdir()
    tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
    tab.open(target)
    tab.press("Tab", 9)
    assert tab.run("document.activeElement.id") == "begin"
    tab.press("Enter", 13, "\r")
    for at, (truth, _) in enumerate(key):
        assert tab.run("document.getElementById('heading').textContent") == f"Portrait {at + 1} of 8"
        choose(tab, "none" if truth is None or at >= 4 else str(truth))
    rows = tab.run("[...document.querySelectorAll('#rows tr')].map((r) => [...r.cells].map((c) => c.textContent))")
    tab.run("document.getElementById('save').click()")
    tab.wait_for(lambda: list(saved.glob("huref-answers-*.json")))
    text = tab.run("document.getElementById('text').value")
    assert tab.faults == [] and {url.split(":")[0] for url in tab.requests} <= {"file", "data", "blob"}
    (file,) = saved.glob("*.json")
    assert file.read_text() == text
    answers = read_answers(file)
    assert [a.truth for a in answers.answers] == [truth for truth, _ in key]
    assert [a.picked for a in answers.answers] == [truth if at < 4 else None for at, (truth, _) in enumerate(key)]
    assert rows == [shown(row) for row in score_answers([answers]).rows]


def shown(row: Row) -> list[str]:
    """A line of the score as the page writes it."""
    name = "stranger: none of these" if row.name == "strangers" else row.name
    low, high = (f"{100 * x:.0f}" for x in wilson(row.share.hits, row.share.trials))
    return [name, f"{row.share.hits} of {row.share.trials}", f"{100 * row.share.rate:.0f} %", f"{low}–{high} %"]


def test_the_page_fits_every_screen_and_insists_on_an_answer(tab: browser.Tab, tmp_path: Path) -> None:
    target = tmp_path / "study.html"
    target.write_text(page(questions=1))
    for width, height in ((320, 568), (390, 844), (1280, 860)):
        tab.view(width, height)
        tab.open(target)
        tab.run("document.getElementById('begin').click()")
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run(
            "['portrait', 'next'].map((id) => document.getElementById(id).getBoundingClientRect())"
            ".every((box) => box.top >= 0 && box.bottom <= innerHeight && box.width > 0)"
        )
        tab.run("document.getElementById('next').click()")
        assert tab.run("document.getElementById('heading').textContent") == "Portrait 1 of 1"
        assert tab.run("document.getElementById('end').hidden")
        tab.run("document.querySelector('input').click(), document.getElementById('next').click()")
        assert not tab.run("document.getElementById('end').hidden")
        assert tab.run("document.documentElement.scrollWidth") <= width


def test_all_text_has_contrast(tab: browser.Tab, tmp_path: Path) -> None:
    """At least 4.5 to 1 (WCAG 2.2, AA), by day and by night."""
    target = tmp_path / "study.html"
    target.write_text(page(questions=1))
    grounds = set()
    for is_dark in (False, True):
        tab.view(390, 844, is_dark=is_dark)
        tab.open(target)
        found = tab.run(CONTRAST)
        assert len(found) > 10 and [name for name, ratio in found if ratio < 4.5] == []
        grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
