"""The page on reading portraits says what the committed results say, and its sheets are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from huref_lab.reading.report import choose, goals, summary, tables

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "lab" / "benchmarks" / "results"
PAGE = (ROOT / "docs" / "explanation" / "reading-a-fingerprint.md").read_text(encoding="utf-8")
DOCUMENT = json.loads((RESULTS / "reading.json").read_text())


@pytest.mark.parametrize("name", sorted(tables(DOCUMENT)))
def test_every_table_of_the_page_is_that_of_the_results(name: str) -> None:
    (found,) = re.findall(rf"<!-- reading: {name} -->\n(.*?)<!-- end -->", PAGE, re.S)
    assert found.strip() == tables(DOCUMENT)[name], "run: python lab/benchmarks/reading.py --page"


def test_no_table_is_on_the_page_without_results() -> None:
    filled = re.findall(r"<!-- reading: (\w+) -->\n(?!<!-- end -->)", PAGE)
    assert sorted(filled) == sorted(tables(DOCUMENT))


def test_the_summary_is_that_of_the_results() -> None:
    assert (RESULTS / "reading.md").read_text(encoding="utf-8") == summary(DOCUMENT)
    printed = (RESULTS / "reading.txt").read_text(encoding="utf-8")
    assert summary(DOCUMENT) in printed
    for goal, is_met, found in goals(DOCUMENT):
        assert f"[{'met' if is_met else 'MISSED'}] {goal}: {found}" in printed


def test_the_truncation_named_is_the_one_that_the_rule_gives() -> None:
    chosen = choose(DOCUMENT["sweep"])
    assert DOCUMENT["chosen"] == {"psi": chosen.psi, "cutoff": chosen.cutoff}


@pytest.mark.parametrize("name", ["reading-family", "reading-strangers", "reading-graded"])
def test_the_sheets_are_there(name: str) -> None:
    with Image.open(ROOT / "docs" / "images" / f"{name}.png") as picture:
        picture.load()
        assert picture.width > 3 * picture.height / 2
