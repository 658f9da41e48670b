"""HTML by construction: every text is escaped on its way in, unless it is markup that this module made."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from huref.portraits.image.svg import visible
from huref.report.numbers import decimal, finite

LONG = 12
"""Entries above which a list is folded."""

_VOID = {"meta", "img", "br", "col", "link"}
_MAX_MARKS = 3
"""Combining marks on one letter that are kept: a tower of them covers the lines above."""


class Markup(str):
    """HTML that is safe already."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """An element; children that are no `Markup` are escaped, None ones left out.

    Args:
        attributes: `class_` for `class`, `_` for `-`; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(visible(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[str | None], between: str = "") -> Markup:
    """Several pieces in a row."""
    return Markup(between.join(_safe(child) for child in children if child is not None))


def filled(template: str, **names: Markup) -> Markup:
    """A sentence of huref's own with names in it, `{a}` and `{b}`."""
    parts = re.split(r"\{(\w+)\}", template)
    return join(names[part] if at % 2 else part for at, part in enumerate(parts))


def plain(text: object, limit: int = 600) -> str:
    """Hostile text as one line of letters that steer nothing, shortened in the middle."""
    line = " ".join(str(text).split())
    if len(line) > limit:
        line = f"{line[: limit * 2 // 3]} … {line[-(limit // 3) :]}"
    return visible(_without_towers(line))


def name(text: object, limit: int = 96) -> Markup:
    """A model's or a file's name: kept apart from the sentence whatever direction its letters have."""
    return element("bdi", plain(text, limit), class_="name")


def section(identity: str, title: str, *children: str | None) -> Markup:
    """A part of the page under a heading of its own."""
    heading = element("h2", title, id=identity)
    return element("section", heading, *children, aria_labelledby=identity)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = (), style: str = ""
) -> Markup:
    """A table whose first column names the row.

    Args:
        numeric: columns set to the right.
    """
    kinds = ["number" if at in numeric else None for at in range(len(head))]
    top = element("tr", *(element("th", text, scope="col", class_=k) for text, k in zip(head, kinds, strict=True)))
    body = []
    for row in rows:
        first = element("th", row[0], scope="row", class_=kinds[0])
        rest = (element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True))
        body.append(element("tr", first, *rest))
    inner = element(
        "table",
        element("caption", caption),
        element("thead", top),
        element("tbody", *body),
        class_=style or None,
    )
    return element("div", inner, class_="wide", role="region", aria_label=caption, tabindex="0")


def pairs(items: Iterable[tuple[str, str]]) -> Markup:
    """A list of terms and what they are."""
    return element(
        "dl", *(element("div", element("dt", term), element("dd", text)) for term, text in items), class_="pairs"
    )


def listing(items: Iterable[str]) -> Markup:
    """An unordered list."""
    return element("ul", *(element("li", item) for item in items))


def folded(summary: str, *children: str) -> Markup:
    """What is long, behind one line; unfolded on paper."""
    return element("details", element("summary", summary), *children)


def bounded(items: Sequence[str]) -> Markup:
    """A list, folded where it is long."""
    return folded(f"{len(items)} entries", listing(items)) if len(items) > LONG else listing(items)


def anything(item: object) -> str:
    """What a later version of a comparison may say and no part of the page has words for."""
    number = finite(item) if isinstance(item, int | float) else None
    if number is not None:
        return decimal(number, 4)
    if isinstance(item, Mapping):
        return plain(", ".join(f"{key} {anything(part)}" for key, part in item.items()))
    if isinstance(item, list | tuple):
        return plain(", ".join(anything(part) for part in item))
    return plain(item)


def paragraph(*children: str, style: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", *children, class_=style)


def _safe(text: str) -> str:
    return text if isinstance(text, Markup) else re.sub(r"(?<=\d) %", "&nbsp;%", html.escape(visible(text)))


def _without_towers(text: str) -> str:
    kept, height = [], 0
    for letter in text:
        height = height + 1 if unicodedata.combining(letter) else 0
        if height <= _MAX_MARKS:
            kept.append(letter)
    return "".join(kept)
