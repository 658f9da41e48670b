"""One page with everything inside: no script, no other file, no address. The style sheet lies beside this module."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from huref.kinship.record import Comparison
from huref.report import conclusion, measured, provenance
from huref.report.markup import Markup, element, name, plain
from huref.report.records import Evidence


def html_page(found: Comparison, evidence: Evidence) -> str:
    """The report.

    Returns:
        HTML that asks no network for anything: its policy allows its own style sheet and pictures inside it only.
    """
    parts = [
        conclusion.verdict(found, evidence),
        conclusion.portraits(found, evidence),
        conclusion.scores(found),
        measured.background(found, evidence.accused_from),
        measured.layers(found),
        conclusion.derivation(found),
        provenance.transform(evidence),
        provenance.what_was_read(found, evidence),
        measured.alignment(found),
        provenance.repetition(evidence),
        conclusion.notes(found),
    ]
    title = f"{plain(found.a, 60)} and {plain(found.b, 60)}: {plain(found.verdict, 40)} – huref"
    return page(title, _header(found), parts, (evidence.version, evidence.made))


def page(title: str, header: Markup, parts: Sequence[Markup | None], made: tuple[str, str]) -> str:
    """HTML of a whole page; `made` is huref's version and the time."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = element(
        "body",
        header,
        element("main", *parts),
        element("footer", f"Made by huref {made[0]}, {made[1]}."),
    )
    return "<!doctype html>\n" + element("html", _head(title, style), body, lang="en") + "\n"


def _head(title: str, style: str) -> Markup:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )


def _header(found: Comparison) -> Markup:
    heading = element("h1", name(found.a), element("span", " compared with ", class_="with"), name(found.b))
    return element("header", element("p", "huref · model comparison", class_="kicker"), heading)
