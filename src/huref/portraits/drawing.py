"""From fingerprints to pictures that say what they show: one portrait, a sheet, a row, a difference, a badge.

Every picture carries the fingerprints' headers (`huref`) and how it was drawn (`huref:picture`) as text, so that who
has the fingerprints can draw it again: docs/how-to/pictures.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huref.choices import option, take_texts_for_paths
from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.files.canonical_json import canonical_json
from huref.fingerprints.file import SUFFIX, fingerprint_digest
from huref.fingerprints.record import Fingerprint
from huref.kinship.saved import compare_fingerprints
from huref.portraits.image import contact_sheet, graded_row, png_bytes, render, resize, side_by_side
from huref.portraits.image.pixels import Pixels, require_side
from huref.portraits.image.rendering import CUTOFF, require_psi
from huref.portraits.image.svg import BadgeText, badge

if TYPE_CHECKING:
    from huref.portraits.generator.stylegan2 import Generator

LAYOUTS = ("portrait", "sheet", "row", "difference")
FORMATS = ("png", "svg")
NATIVE = "native"

_SIDES = {"portrait": 512, "sheet": 192, "row": 160, "difference": 256}
_BADGE_SIDE = 288
"""Twice the 144 units that a badge draws, for screens with two pixels a unit."""

_COUNTS = {"portrait": (1, 1), "sheet": (1, 1024), "row": (2, 64), "difference": (2, 2)}


@dataclass(frozen=True)
class PictureOptions:
    """How fingerprints are drawn.

    Attributes:
        layout: one of `LAYOUTS`; None takes the portrait of one fingerprint and the sheet of several.
        size: side of each picture in pixels, `native` for the generator's own, None for what suits the layout.
        psi: truncation, 0 for the mean dog, 1 for the full variety; None takes the usual one.
        generator: weights of another generator; None takes the shipped one.
        label: class of a conditional generator.
        base: what a badge compares its model with.
    """

    layout: str | None = None
    size: int | str | None = None
    psi: float | None = None
    generator: Path | None = None
    label: int | None = None
    base: Fingerprint | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "generator")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UsageError("no such layout", where=option("layout"), expected=" or ".join(LAYOUTS), got=self.layout)
        if self.psi is not None:
            require_psi(self.psi)
        if isinstance(self.size, int):
            require_side(self.size)
        elif self.size not in (None, NATIVE):
            raise UsageError(
                "no such picture size", where=option("size"), expected=f"pixels or {NATIVE}", got=self.size[:60]
            )


def size_of(text: str | None) -> int | str | None:
    """A size as written on the command line: a number becomes one, the rest is left for `PictureOptions`."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return text


def layout_of(prints: Sequence[Fingerprint], options: PictureOptions) -> str:
    """The layout asked for, or the one that suits the number of fingerprints.

    Raises:
        UsageError: a layout for another number of them.
    """
    layout = options.layout or ("portrait" if len(prints) == 1 else "sheet")
    least, most = _COUNTS[layout]
    if not least <= len(prints) <= most:
        raise UsageError(
            f"the layout {layout} is for another number of fingerprints",
            where=option("layout"),
            expected=str(least) if least == most else f"{least} to {most}",
            got=str(len(prints)),
            next_step=f"choose among {', '.join(LAYOUTS)}",
        )
    return layout


def file_stem(files: Sequence[str], prints: Sequence[Fingerprint], options: PictureOptions) -> str:
    """A file name without ending: the fingerprint file's for a portrait, else the layout's."""
    layout = layout_of(prints, options)
    return Path(files[0]).name.removesuffix(SUFFIX) if layout == "portrait" else layout


def format_of(path: Path | None, style: str | None) -> str:
    """The format asked for, or the one that the file's ending names; PNG where neither says.

    Raises:
        UsageError: an unknown format, or two that contradict each other.
    """
    ending = path.suffix.removeprefix(".").lower() if path else ""
    chosen = (style or ending or FORMATS[0]).lower()
    if chosen not in FORMATS or (ending in FORMATS and ending != chosen):
        raise UsageError(
            "unknown picture format" if chosen not in FORMATS else "the file's ending is of another format",
            where=option("style") if style else "path (--out)",
            expected=" or ".join(FORMATS),
            got=chosen if chosen not in FORMATS else f"--format {chosen} --out {path}",
            next_step="--out NAME.png or --out NAME.svg",
        )
    return chosen


def draw(prints: Sequence[Fingerprint], options: PictureOptions) -> Pixels:
    """The picture, uint8 (h, w, 3).

    Raises:
        UsageError: options that do not fit the fingerprints or the generator.
        InconclusiveError: a row or a difference of fingerprints of different recipes.
        WeightsError: a generator that cannot be read.
    """
    if options.base is not None:
        raise UsageError(
            "only a badge compares with a base", where=option("base"), expected="--format svg", got="png"
        )
    layout = layout_of(prints, options)
    scores = _scores(prints) if layout in ("row", "difference") else []
    pictures = _pictures(prints, options)
    side = _side(options, layout, pictures)
    if layout == "portrait":
        return resize(pictures[0], side)
    if layout == "row":
        labels = [f"{item.model}\n{score.text}" for item, score in zip(prints, scores, strict=True)]
        labels[0] = prints[0].model
        return graded_row(pictures, labels, [score.value for score in scores], side=side, lines=3)
    if layout == "difference":
        names = (prints[0].model, prints[1].model)
        return side_by_side(pictures[0], pictures[1], names, note=scores[1].text, side=side)
    return contact_sheet(pictures, [item.model + _kinship(prints[0], item) for item in prints], side=side)


def draw_badge(item: Fingerprint, options: PictureOptions) -> str:
    """An SVG document for a model card.

    Raises:
        UsageError: a layout, or options that do not fit.
        InconclusiveError: a base of another recipe.
        WeightsError: a generator that cannot be read.
    """
    if options.layout not in (None, "portrait"):
        raise UsageError("a badge has one layout", where=option("layout"), expected="none", got=str(options.layout))
    pictures = _pictures([item], options)
    side = _BADGE_SIDE if options.size is None else _side(options, "portrait", pictures)
    recipe = item.recipe
    text = BadgeText(
        name=item.model,
        score=None,
        measure="",
        base="",
        digest=fingerprint_digest(item)[:12],
        recipe=f"{recipe.name} recipe, {recipe.encoder}, layers {recipe.layers}, {item.tokens['used']} tokens",
    )
    if options.base is not None:
        score = _scores([options.base, item])[1]
        text = BadgeText(text.name, score.value, score.measure, options.base.model, text.digest, text.recipe)
    return badge(resize(pictures[0], side), text, metadata([item], options, "badge"))


def metadata(prints: Sequence[Fingerprint], options: PictureOptions, layout: str) -> dict[str, str]:
    """What a picture file says of itself: the fingerprints' headers, and how they were drawn."""
    from huref.portraits.generator.file import usual_psi

    headers = [item.header() for item in prints]
    digest = _generator_digest(options.generator)
    document = headers[0] if len(headers) == 1 else {"schema_version": "huref.sheet/1.0", "fingerprints": headers}
    picture: dict[str, Any] = {
        "schema_version": "huref.picture/1.0",
        "layout": layout,
        "fingerprints": [{"model": item.model, "sha256": fingerprint_digest(item)} for item in prints],
        "generator_sha256": digest,
        "psi": usual_psi(digest) if options.psi is None else options.psi,
        "cutoff": CUTOFF,
        "class": options.label,
        "size": options.size,
    }
    if options.base is not None:
        picture["base"] = {"model": options.base.model, "sha256": fingerprint_digest(options.base)}
    return {"huref": canonical_json(document), "huref:picture": canonical_json(picture)}


def save(prints: Sequence[Fingerprint], options: PictureOptions, path: Path, style: str = "png") -> None:
    """Draw fingerprints into a file, written whole or not at all.

    Args:
        style: one of `FORMATS`; an SVG file is a badge of one fingerprint.

    Raises:
        UsageError: an unknown format, a badge of several, options that do not fit.
        OutputError: the file cannot be written.
    """
    if format_of(None, style) == "svg":
        if len(prints) != 1:
            got = f"{len(prints)} fingerprints"
            raise UsageError("a badge is of one model", where=option("style"), expected="one fingerprint", got=got)
        write_atomically(path, draw_badge(prints[0], options).encode())
        return
    pixels = draw(prints, options)
    write_atomically(path, png_bytes(pixels, metadata(prints, options, layout_of(prints, options))))


@dataclass(frozen=True)
class _Score:
    """How alike a model is to the first one."""

    value: float
    measure: str
    text: str


def _scores(prints: Sequence[Fingerprint]) -> list[_Score]:
    """Of each to the first: the ICS that its sketches estimate where all have one, else the vectors' cosine."""
    found = [compare_fingerprints(prints[0], item) for item in prints]
    has_ics = all(item.invariant_ics is not None for item in found)
    scores = []
    for item in found:
        vector = f"vector {100 * (item.vectors or 0.0):.1f} %"
        ics = item.invariant_ics
        if has_ics and ics is not None:
            scores.append(_Score(ics, "ICS", f"ICS {100 * ics:.1f} %\n{vector}"))
        else:
            scores.append(_Score(item.vectors or 0.0, "vector similarity", vector))
    return scores


def _kinship(first: Fingerprint, other: Fingerprint) -> str:
    """A caption's second line; where the recipes differ the vectors do not compare, and so it names the recipe."""
    if other.recipe.name != first.recipe.name:
        return f"\nrecipe {other.recipe.name}"
    return "" if other is first or other.recipe != first.recipe else f"\n{100 * first.similarity(other):.1f} %"


def _pictures(prints: Sequence[Fingerprint], options: PictureOptions) -> Pixels:
    vectors = np.stack([item.vector for item in prints])
    return render(vectors, _network(options), psi=options.psi, label=options.label)


def _side(options: PictureOptions, layout: str, pictures: Pixels) -> int:
    if options.size is None:
        return _SIDES[layout]
    return pictures.shape[1] if options.size == NATIVE else int(options.size)


def _network(options: PictureOptions) -> Generator | None:
    if options.generator is None:
        return None
    from huref.portraits.generator.file import open_generator

    return open_generator(options.generator)


def _generator_digest(path: Path | None) -> str:
    if path is None:
        from huref.portraits.generator.file import SHIPPED_SHA256

        return SHIPPED_SHA256
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
