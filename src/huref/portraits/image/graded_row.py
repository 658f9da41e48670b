"""Pictures in order of their likeness to the first, above a thin scale that says how alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from huref.errors import UsageError
from huref.portraits.image.contact_sheet import require_labels
from huref.portraits.image.page import FAINT, FRAME, GAP, INK, MARGIN, PAPER, Page, letter_height, line_height
from huref.portraits.image.pixels import Pixels

_FINE = 4


def graded_row(
    images: Sequence[Pixels] | Pixels,
    labels: Sequence[str],
    scores: Sequence[float],
    *,
    side: int = 160,
    lines: int = 2,
) -> Pixels:
    """One row: the first picture, then the others by falling score, each joined to its place on a scale.

    Args:
        images: uint8 (h, h, 3) each; the first is the one that the others are compared with.
        labels: a caption for each; a newline breaks it, what is too long is cut with an ellipsis.
        scores: likeness of each to the first, its own, 1, included; in [-1, 1]. Equal ones keep their order.
        side: of each picture on the page, in pixels.
        lines: caption lines that there is room for.

    Returns:
        uint8 (h, w, 3).

    Raises:
        UsageError: no pictures, another number of labels or scores, a score that is no number in [-1, 1].
    """
    require_labels(images, labels)
    if len(scores) != len(images) or not all(-1.0001 <= score <= 1.0001 for score in scores):
        raise UsageError(
            "a graded row needs one score a picture",
            where="scores",
            expected=f"{len(images)} numbers from -1 to 1",
            got=str(list(scores))[:200],
        )
    letters = letter_height(side)
    foot = MARGIN + side + 4 + lines * line_height(letters) + 4
    page = Page(
        2 * MARGIN - GAP + len(images) * (side + GAP),
        foot + _drop(side) + 14 + line_height(letters) + MARGIN // 2,
        letters,
    )
    scale = _Scale(page, foot, side, min(scores))
    order = [0, *sorted(range(1, len(images)), key=lambda k: -scores[k])]
    for place, k in enumerate(order):
        left = MARGIN + place * (side + GAP)
        page.place(images[k], left, MARGIN, side)
        page.caption(labels[k], left, MARGIN + side + 4, side, lines)
        scale.mark(left + side // 2, scores[k])
    scale.draw()
    return np.asarray(page.picture)


def _drop(side: int) -> int:
    """Pixels from the captions down to the scale."""
    return max(16, side // 6)


class _Scale:
    """A line from 100 % below the first picture to the lowest score, rounded down to a quarter, on the right.

    Lines are drawn `_FINE` times larger and reduced: Pillow draws slanted ones without smooth edges.
    """

    def __init__(self, page: Page, foot: int, side: int, lowest: float) -> None:
        self.page, self.foot = page, foot
        self.lowest = min(0.0, math.floor(lowest * 4) / 4)
        self.left, self.right = MARGIN + side // 2, page.picture.width - 2 * MARGIN
        self.axis = _drop(side)
        size = (_FINE * page.picture.width, _FINE * (self.axis + 6))
        self.strip = Image.new("RGB", size, PAPER)
        self.pen = ImageDraw.Draw(self.strip)
        self._stroke((self.left, self.axis), (self.right, self.axis), FRAME, 2)
        for quarter in self._quarters():
            self._stroke((self._x(quarter / 4), self.axis - 4), (self._x(quarter / 4), self.axis + 4), FRAME, 2)

    def mark(self, x: float, score: float) -> None:
        """A dot at a score, joined to its picture."""
        at = self._x(score)
        self._stroke((x, 0), (at, self.axis), FAINT, 1)
        box = (at - 3.5, self.axis - 3.5, at + 3.5, self.axis + 3.5)
        self.pen.ellipse(tuple(_FINE * value for value in box), fill=INK)

    def draw(self) -> None:
        """Put the scale and the numbers of its quarters on the page, all or, where they would touch, the ends."""
        size = (self.page.picture.width, self.axis + 6)
        self.page.picture.paste(self.strip.resize(size, Image.Resampling.BOX), (0, self.foot))
        quarters, font = self._quarters(), self.page.font
        room = (self.right - self.left) / (len(quarters) - 1)
        step = 1 if room > 1.3 * self.page.draw.textlength("100 %", font) else len(quarters) - 1
        for quarter in quarters[::step]:
            place = (self._x(quarter / 4), self.foot + self.axis + 8)
            self.page.draw.text(place, f"{25 * quarter} %", FAINT, font, anchor="ma")

    def _quarters(self) -> range:
        return range(4, round(self.lowest * 4) - 1, -1)

    def _x(self, score: float) -> float:
        share = (1.0 - score) / (1.0 - self.lowest)
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)

    def _stroke(
        self, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int], width: int
    ) -> None:
        points = [(_FINE * x, _FINE * y) for x, y in (start, end)]
        self.pen.line(points, fill=colour, width=_FINE * width)
