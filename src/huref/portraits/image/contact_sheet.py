"""Several pictures on one page, each with a caption under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huref.errors import UsageError
from huref.portraits.image.page import GAP, MARGIN, Page, letter_height, line_height
from huref.portraits.image.pixels import Pixels


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
    require_labels(images, labels)
    per_row = min(columns or int(np.ceil(np.sqrt(len(images)))), len(images))
    letters = letter_height(side)
    cell_width, cell_height = side + GAP, side + GAP + lines * line_height(letters)
    rows = -(-len(images) // per_row)
    page = Page(2 * MARGIN - GAP + per_row * cell_width, 2 * MARGIN - GAP + rows * cell_height, letters)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = MARGIN + index % per_row * cell_width
        top = MARGIN + index // per_row * cell_height
        page.place(image, left, top, side)
        page.caption(label, left, top + side + 4, side, lines)
    return np.asarray(page.picture)


def require_labels(images: Sequence[Pixels] | Pixels, labels: Sequence[str]) -> None:
    """Refuse a page without pictures, or with another number of captions than pictures."""
    if not len(images) or len(images) != len(labels):
        got = f"{len(images)} pictures, {len(labels)} labels"
        raise UsageError("a page needs one label a picture", where="labels", got=got)
