"""Parents and explanations as pages and as SARIF: what the command says, escaped, with the command to repeat it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from huref.report import ReportOptions, Told, save_told
from huref.report.told import told_page, told_sarif
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Any]


class Text(HTMLParser):
    """The words of a page, and the tags that may do something."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags = "", set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def told(text: str = "one\n  two  columns\nthree") -> Told:
    return Told(
        ("huref", "parents", "a", "b"), ("a", "b"), "derived", text.splitlines()[0], text, ("a note",), {"x": 1}
    )


def read(page: str) -> Text:
    parser = Text()
    parser.feed(page)
    return parser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    TinyLlama().save(folder / "base")
    TinyLlama(noise=0.02).save(folder / "child")
    TinyLlama(seed=7).save(folder / "stranger")
    return folder


def test_a_page_says_what_the_command_says() -> None:
    page = read(told_page(told()))
    assert "one\n  two  columns\nthree" in page.words and "huref parents a b" in page.words and "a note" in page.words
    assert not page.tags & {"script", "img", "a", "iframe", "form"}


def test_hostile_words_steer_nothing() -> None:
    page = told_page(told("<script>alert(1)</script>\n\u202eevil\x1b[2J"))
    assert "<script>" not in page and "\u202e" not in page and "\x1b" not in page
    assert "<script>alert(1)</script>" in read(page).words


@pytest.mark.parametrize(
    ("verdict", "expect", "level"),
    [
        ("derived", None, "warning"),
        ("derived", "derived", "note"),
        ("derived", "independent", "error"),
        ("inconclusive", None, "none"),
    ],
)
def test_the_log_has_the_verdict_as_its_rule(verdict: str, expect: str | None, level: str) -> None:
    log = told_sarif(Told(("huref", "parents", "a"), ("a",), verdict, "s", "s", (), {"v": float("nan")}, expect))
    (result,) = log["runs"][0]["results"]
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert result["ruleId"] == f"huref-{verdict}" == rules[result["ruleIndex"]]["id"]
    assert result["level"] == level
    json.dumps(log, allow_nan=False)


def test_both_are_written(tmp_path: Path) -> None:
    save_told(told(), ReportOptions(tmp_path / "r.html", tmp_path / "r.sarif"))
    assert "two" in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "r.sarif").read_text())["version"] == "2.1.0"


def test_parents_hands_on_what_it_found(cli: Cli, home: Path, tmp_path: Path) -> None:
    page, log = tmp_path / "p.html", tmp_path / "p.sarif"
    done = cli("parents", home / "child", home / "base", home / "stranger", "--report", page, "--sarif", log)
    assert done.code == 0
    first = done.out.splitlines()[0]
    assert first.startswith("which of child and base came first is not tested")
    assert first in read(page.read_text()).words
    (result,) = json.loads(log.read_text())["runs"][0]["results"]
    assert result["ruleId"] == "huref-derived" and result["properties"]["parents"] == ["base"]


def test_explain_hands_on_what_it_found(cli: Cli, home: Path, tmp_path: Path) -> None:
    page = tmp_path / "e.html"
    done = cli("explain", home / "base", home / "child", "--report", page)
    assert done.code == 0
    words = read(page.read_text()).words
    assert "Which of the two came first is not told" in words and done.out.splitlines()[0] in words
    assert cli("explain", home / "base", home / "child", "--check", "x", "--report", page).code == 2
