"""Several pictures on one page, each with a caption under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from huref.errors import UsageError
from huref.image.pixels import Pixels, resize

PAPER = (250, 249, 246)
INK = (38, 38, 42)
FRAME = (214, 211, 204)
MARGIN = 16
GAP = 14


def contact_sheet(
    images: Sequence[Pixels] | Pixels,
    labels: Sequence[str],
    *,
    columns: int | None = None,
    side: int = 192,
    lines: int = 2,
) -> Pixels:
    """A page of captioned pictures, row by row.

    Args:
        images: uint8 (h, h, 3) each.
        labels: a caption for each; a newline breaks it, what is too long is cut with an ellipsis.
        columns: pictures a row; None gives a page about as wide as high.
        side: of each picture on the page, in pixels.
        lines: caption lines that there is room for.

    Returns:
        uint8 (h, w, 3).

    Raises:
        UsageError: no pictures, or another number of labels.
    """
    if not len(images) or len(images) != len(labels):
        got = f"{len(images)} pictures, {len(labels)} labels"
        raise UsageError("a contact sheet needs one label a picture", where="labels", got=got)
    per_row = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    font = ImageFont.load_default(size=max(10.0, side / 13))
    line_height = int(font.size * 1.35) if isinstance(font, ImageFont.FreeTypeFont) else 14
    cell_width, cell_height = side + GAP, side + GAP + lines * line_height
    rows = -(-len(images) // per_row)
    size = (2 * MARGIN - GAP + per_row * cell_width, 2 * MARGIN - GAP + rows * cell_height)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = MARGIN + index % per_row * cell_width
        top = MARGIN + index // per_row * cell_height
        page.paste(Image.fromarray(resize(image, side)), (left, top))
        draw.rectangle((left - 1, top - 1, left + side, top + side), outline=FRAME)
        for k, line in enumerate(label.split("\n")[:lines]):
            position = (left + side // 2, top + side + 4 + k * line_height)
            draw.text(position, fit(line, side, draw, font), INK, font, anchor="ma")
    return np.asarray(page)


def fit(text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Text as it is if it fits, or its start and its end around an ellipsis."""
    if draw.textlength(text, font) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if draw.textlength(shorter, font) <= width:
            return shorter
    return "…"
