"""A badge for a model card: one picture with a few words beside it, as a self-contained SVG file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import east_asian_width
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from huref.errors import CorruptFileError, InputError
from huref.portraits.image.pixels import Pixels
from huref.portraits.image.png import png_bytes

_NAMESPACE = "http://www.w3.org/2000/svg"
_MAX_BYTES = 1 << 26
_LINE = 30
"""Letters of the name that fit in one line of the badge."""

_ROOM = 292
"""Units that a line of the badge has."""


@dataclass(frozen=True)
class BadgeText:
    """What a badge says.

    Attributes:
        name: the model's.
        score: likeness to `base`, in [-1, 1], or None without one.
        measure: what the score is: `ICS` or `vector similarity`.
        base: name of the model that the score compares with, or empty.
        digest: the fingerprint's first digits.
        recipe: how the fingerprint was made, in a few words.
    """

    name: str
    score: float | None
    measure: str
    base: str
    digest: str
    recipe: str

    @property
    def sentence(self) -> str:
        """The same for readers who do not see the picture."""
        kin = f" {self.measure} {percent(self.score)} to {self.base}." if self.score is not None else ""
        return f"Portrait of the weights of {self.name}.{kin} {self.recipe}. Fingerprint {self.digest}."


def badge(picture: Pixels, text: BadgeText, metadata: Mapping[str, str]) -> str:
    """An SVG document, 480 by 168: the picture on the left, the words on the right.

    Args:
        picture: uint8 (h, h, 3), drawn 144 units wide.
        text: what it says; any letters, also hostile ones.
        metadata: keyword to text, kept in the document's `metadata` element as JSON.
    """
    data = base64.b64encode(png_bytes(picture, {})).decode()
    lines = _broken(visible(text.name))
    letters = min(18.0, _ROOM / (0.68 * max(map(_width, lines))))
    top = 46 if text.score is not None else 60
    name = "\n  ".join(
        f'<text class="name" x="172" y="{top + 20 * k}" style="font-size: {letters:.1f}px">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return _TEMPLATE.format(
        title=escape(visible(f"huref: {text.name}")),
        sentence=escape(visible(text.sentence)),
        metadata=escape(json.dumps(dict(metadata), sort_keys=True)),
        image=quoteattr(f"data:image/png;base64,{data}"),
        name=name,
        kin=_kin(text, top + 20 * len(lines) + 9),
        recipe=escape(_short(visible(text.recipe), 1.75 * _LINE)),
        digest=escape(visible(text.digest)),
    )


def read_svg_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a badge.

    Raises:
        CorruptFileError: not a badge that can be read.
        InputError: no such file, or one that the system refuses.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError as error:
        raise InputError("a picture cannot be read", where=str(path), got=error.strerror or str(error)) from None
    try:
        if b"<!DOCTYPE" in data:
            raise ValueError("a document type, which no badge has")
        found = ElementTree.fromstring(data).findtext(f"{{{_NAMESPACE}}}metadata")
        table = json.loads(found or "")
        return {str(key): str(value) for key, value in table.items()}
    except (ElementTree.ParseError, ValueError, AttributeError, RecursionError) as error:
        raise CorruptFileError("not a badge that can be read", where=str(path), got=str(error)[:200]) from None


def percent(score: float | None) -> str:
    """`98.9 %`, or a dash."""
    return "-" if score is None else f"{100 * score:.1f} %"


def visible(text: str) -> str:
    """Text without letters that steer a reader, such as controls and changes of direction: U+FFFD instead."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _width(text: str) -> float:
    """About how many usual letters of a line a text fills, in whatever font the reader has."""
    return sum(1.5 if letter in "MWmw@%" or east_asian_width(letter) in "WF" else 1.0 for letter in text)


def _start(text: str, room: float) -> str:
    """As much of a text as fits."""
    kept = len(text)
    while _width(text[:kept]) > room:
        kept -= 1
    return text[:kept]


def _end(text: str, room: float) -> str:
    return _start(text[::-1], room)[::-1]


def _short(text: str, room: float) -> str:
    """Text as it is if it fits, or its start and its end around an ellipsis."""
    return text if _width(text) <= room else f"{_start(text, room / 2)}…{_end(text, room / 2 - 1)}"


def _broken(name: str) -> list[str]:
    """A name on one line or two, broken after a mark where there is one; the middle is left out if it is longer."""
    if _width(name) <= _LINE:
        return [name]
    name = _short(name, 1.7 * _LINE)
    cut = len(_start(name, _LINE))
    marks = [k for k in range(cut // 2, cut + 1) if name[k - 1] in "-_./ " and _width(name[k:]) <= _LINE]
    cut = marks[-1] if marks else cut
    return [name[:cut], name[cut:]]


def _kin(text: BadgeText, top: int) -> str:
    """The score, a thin scale, and what the score compares with; nothing without a base."""
    if text.score is None:
        return ""
    base = escape(_short(visible(text.base), 1.4 * _LINE))
    length = round(_ROOM * min(max(text.score, 0.0), 1.0), 1)
    return (
        f'<text class="ink score" x="172" y="{top}">{escape(text.measure)} {percent(text.score)}</text>\n'
        f'  <rect class="rail" x="172" y="{top + 7}" width="{_ROOM}" height="3" rx="1.5"/>\n'
        f'  <rect class="bar" x="172" y="{top + 7}" width="{length}" height="3" rx="1.5"/>\n'
        f'  <text class="faint small" x="172" y="{top + 23}">to {base}</text>'
    )


_TEMPLATE = """<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="480" height="168" viewBox="0 0 480 168" role="img" \
aria-labelledby="huref-title huref-desc">
  <title id="huref-title">{title}</title>
  <desc id="huref-desc">{sentence}</desc>
  <metadata>{metadata}</metadata>
  <style>
    .card {{ fill: #faf9f6; stroke: #d6d3cc }}
    .name, .ink {{ fill: #26262a }}
    .faint {{ fill: #6b6964 }}
    .rail {{ fill: #e2dfd8 }}
    .bar {{ fill: #2f6f5e }}
    .frame {{ fill: none; stroke: #d6d3cc }}
    text {{ font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }}
    .name {{ font-weight: 600 }}
    .score {{ font-size: 14px }}
    .small {{ font-size: 11px }}
    .hash {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace }}
    @media (prefers-color-scheme: dark) {{
      .card {{ fill: #1d1e22; stroke: #3a3b41 }}
      .name, .ink {{ fill: #f1f0ec }}
      .faint {{ fill: #a5a39d }}
      .rail {{ fill: #34353b }}
      .bar {{ fill: #6cc0a7 }}
      .frame {{ stroke: #3a3b41 }}
    }}
    @media print {{
      .card {{ fill: #fff; stroke: #999 }}
      .name, .ink {{ fill: #000 }}
      .faint {{ fill: #444 }}
      .rail {{ fill: #ddd }}
      .bar {{ fill: #333 }}
    }}
  </style>
  <clipPath id="huref-round"><rect x="12" y="12" width="144" height="144" rx="8"/></clipPath>
  <rect class="card" x="0.5" y="0.5" width="479" height="167" rx="12"/>
  <image href={image} x="12" y="12" width="144" height="144" clip-path="url(#huref-round)"/>
  <rect class="frame" x="12" y="12" width="144" height="144" rx="8"/>
  <text class="faint small" x="172" y="24" letter-spacing="0.6">MODEL FINGERPRINT</text>
  {name}
  {kin}
  <text class="faint small" x="172" y="138">{recipe}</text>
  <text class="faint small hash" x="172" y="154">sha256 {digest}</text>
  <text class="faint small" x="464" y="154" text-anchor="end">huref</text>
</svg>
"""
