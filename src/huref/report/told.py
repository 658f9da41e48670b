"""What a command says, as a page and as SARIF: of parents and explanations, which have no page of their own."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huref.files.atomic import write_atomically
from huref.kinship.record import VERDICTS
from huref.report import words
from huref.report.collection import shown
from huref.report.markup import bounded, element, join, name, paragraph, plain, section
from huref.report.numbers import json_ready
from huref.report.options import ReportOptions
from huref.report.page import page
from huref.report.records import FileRecord
from huref.report.sarif import SCHEMA, driver, message_text, severity, uri_of
from huref.version import __version__

_LONGEST = 400
"""Letters of a line that are shown."""


@dataclass(frozen=True)
class Told:
    """A result in words.

    Attributes:
        command: the arguments that repeat it, `huref` first.
        models: what it is about, as the user named them.
        verdict: one of `huref.kinship.record.VERDICTS`.
        sentence: the first thing to read.
        text: all that the command prints.
        notes: reasons and caveats.
        document: the `--json` document.
        expect: the verdict that a policy wanted, or None.
    """

    command: tuple[str, ...]
    models: tuple[str | Path, ...]
    verdict: str
    sentence: str
    text: str
    notes: tuple[str, ...]
    document: Mapping[str, Any]
    expect: str | None = None


def save_told(told: Told, wanted: ReportOptions) -> None:
    """Write it as a self-contained page, as SARIF, or as both.

    Raises:
        OutputError: a file cannot be written.
    """
    if wanted.html is not None:
        write_atomically(wanted.html, told_page(told).encode())
    if wanted.sarif is not None:
        text = json.dumps(told_sarif(told), indent=2, allow_nan=False)
        write_atomically(wanted.sarif, f"{text}\n".encode())


def told_page(told: Told) -> str:
    """The page."""
    what = told.command[1]
    label = words.LABELS.get(told.verdict, plain(told.verdict, 40))
    notes = section("notes", "Notes", bounded([plain(note) for note in told.notes])) if told.notes else None
    repeated = section("repeat", "To repeat", element("pre", plain(_line(told.command), 4000)))
    parts = [
        section(
            "verdict",
            label,
            paragraph(plain(told.sentence), style="sentence"),
            paragraph(words.LIMIT, style="faint"),
        ),
        section("all", "In full", element("pre", join([line[:_LONGEST] for line in told.text.splitlines()], "\n"))),
        notes,
        repeated,
    ]
    header = element("header", element("p", f"huref · {what}", class_="kicker"), element("h1", name(_first(told))))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return page(
        f"{plain(_first(told), 60)}: {plain(told.verdict, 40)} – huref {what}", header, parts, (__version__, made)
    )


def told_sarif(told: Told) -> dict[str, Any]:
    """The log: one run with one result."""
    kind, level = severity(told.verdict, told.expect)
    locations = [
        {"physicalLocation": {"artifactLocation": {"uri": uri_of(FileRecord(shown(model), -1, path=shown(model)))}}}
        for model in told.models
    ]
    result = {
        "ruleId": f"huref-{told.verdict}",
        "ruleIndex": VERDICTS.index(told.verdict),
        "kind": kind,
        "level": level,
        "message": {"text": message_text(f"{plain(told.sentence)}. {words.LIMIT}")},
        "locations": locations[:1],
        "relatedLocations": locations[1:],
        "properties": json_ready(dict(told.document)),
    }
    run = {
        "tool": {"driver": driver(__version__)},
        "automationDetails": {"id": f"huref/{told.command[1]}"},
        "invocations": [{"commandLine": _line(told.command), "executionSuccessful": True}],
        "results": [result],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _line(command: Sequence[str]) -> str:
    return shlex.join(command)


def _first(told: Told) -> str:
    return shown(told.models[0])
