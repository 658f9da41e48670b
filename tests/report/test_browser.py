"""The page in a real browser, where there is one: no request, no fault, every screen, both colour schemes, paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huref.report import html_page
from kit import browser
from kit.browser import CONTRAST
from kit.reports import CASES


@pytest.fixture(scope="module")
def new_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], browser.Tab]]:
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine: the page is only checked as text")
    with browser.opened(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(params=list(CASES))
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    target = tmp_path / "report.html"
    target.write_text(html_page(*CASES[request.param]))
    return target


def test_the_page_opens_without_a_fault_or_a_request(new_tab: Callable[[], browser.Tab], page: Path) -> None:
    tab = new_tab()
    tab.open(page)
    assert tab.faults == []
    assert {url.split(":")[0] for url in tab.requests} <= {"file", "data"}
    assert {url for url in tab.requests if url.startswith("file")} == {page.as_uri()}
    assert tab.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert tab.run("document.querySelectorAll('script').length") == 0
    assert tab.run("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"


def test_the_page_fits_every_screen_in_both_schemes(new_tab: Callable[[], browser.Tab], page: Path) -> None:
    tab = new_tab()
    grounds = set()
    for width, is_dark in ((320, False), (390, True), (1280, False), (1280, True)):
        tab.view(width, 900, is_dark=is_dark)
        tab.open(page)
        tab.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert tab.run("document.documentElement.scrollWidth") <= width
        grounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
        low = [
            entry
            for entry in tab.run(CONTRAST.replace('"h1, p,', '"h1, h2, h3, td, dt, dd, em, bdi, code, p,'))
            if entry[1] < 4.5
        ]
        assert low == []
    assert len(grounds) == 2


def test_words_in_the_drawings_do_not_run_out_of_them(new_tab: Callable[[], browser.Tab], page: Path) -> None:
    tab = new_tab()
    for width in (360, 1000):
        tab.view(width, 900)
        tab.open(page)
        assert (
            tab.run(
                "[...document.querySelectorAll('svg.chart text')].filter((t) => {"
                " const [a, b] = [t, t.closest('svg')].map((e) => e.getBoundingClientRect());"
                " return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1"
                " || a.bottom > b.bottom + 1;"
                "}).map((t) => t.textContent)"
            )
            == []
        )


def test_everything_folded_is_on_paper(new_tab: Callable[[], browser.Tab], tmp_path: Path) -> None:
    tab = new_tab()
    pages = {}
    for case in ("derived", "deep"):
        target = tmp_path / f"{case}.html"
        target.write_text(html_page(*CASES[case]))
        tab.open(target)
        printed = tab.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]
        text = base64.b64decode(printed).decode("latin-1")
        pages[case] = len(re.findall(r"/Type\s*/Page\b", text))
        assert re.search(r"/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]", text)  # A4 in points
    assert pages["derived"] > 0
    if tab.run("CSS.supports('selector(details::details-content)')"):
        assert pages["deep"] >= pages["derived"] + 2  # 79 layers


def test_the_keyboard_reaches_what_is_folded(new_tab: Callable[[], browser.Tab], tmp_path: Path) -> None:
    tab = new_tab()
    target = tmp_path / "deep.html"
    target.write_text(html_page(*CASES["deep"]))
    tab.open(target)
    for _ in range(40):
        tab.press("Tab", 9)
        if tab.run("document.activeElement.textContent") == "All 79 matched layers":
            break
    tab.press("Enter", 13, "\r")
    assert tab.run("document.activeElement.parentElement.open") is True
