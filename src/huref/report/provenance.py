"""Parts of the page for who wants to check: the recovered transform, what was read, how to repeat it."""

from __future__ import annotations

import shlex

from huref.kinship.record import Comparison
from huref.report.markup import (
    LONG,
    Markup,
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
from huref.report.numbers import count, share, size
from huref.report.records import Evidence, InputRecord


def transform(evidence: Evidence) -> Markup | None:
    """The rearrangement that was found between the two, in words."""
    if not evidence.transform:
        return None
    facts = [(plain(key, 60), plain(text)) for key, text in evidence.transform]
    return section("transform", "Recovered transform", pairs(facts))


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


def repetition(evidence: Evidence) -> Markup:
    """The command, and everything that was chosen."""
    command = shlex.join(evidence.command)
    facts = [*evidence.settings, ("huref", evidence.version), ("made", evidence.made)]
    return section(
        "repeat",
        "To repeat this",
        element("pre", element("code", command), tabindex="0", aria_label="The command"),
        paragraph(
            "Run it in the folder that holds both models. Last digits may differ from one machine to another.",
            style="faint",
        ),
        pairs((term, plain(text)) for term, text in facts),
    )


def _digest(sha256: str) -> Markup:
    return element("code", sha256) if sha256 else element("small", "sha256 not computed")


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
    if n_read > total:
        return f"all {size(total)}, some of it several times: {size(n_read)} in all"
    return f"{size(n_read)} of {size(total)} ({share(n_read, total)})"
