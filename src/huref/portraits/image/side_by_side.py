"""Two pictures and, between them, where they differ."""

from __future__ import annotations

import numpy as np

from huref.errors import UsageError
from huref.portraits.image.page import GAP, INK, MARGIN, PAPER, Page, letter_height, line_height
from huref.portraits.image.pixels import Pixels

GAIN = 4
"""How many times larger than life a difference is drawn."""


def mean_difference(a: Pixels, b: Pixels) -> float:
    """Mean absolute difference of two pictures (h, w, 3), in levels of 255.

    Raises:
        UsageError: pictures of different sizes.
    """
    return float(_distance(a, b).mean())


def difference(a: Pixels, b: Pixels, gain: float = GAIN) -> Pixels:
    """Where two pictures (h, w, 3) differ: paper where they agree, ink where `gain` times the difference is full.

    Raises:
        UsageError: pictures of different sizes.
    """
    share = np.minimum(_distance(a, b) * gain / 255.0, 1.0)[..., None]
    paper, ink = np.array(PAPER, np.float64), np.array(INK, np.float64)
    return (paper + share * (ink - paper)).round().astype(np.uint8)


def side_by_side(
    a: Pixels,
    b: Pixels,
    labels: tuple[str, str],
    *,
    note: str = "",
    gain: float = GAIN,
    side: int = 256,
) -> Pixels:
    """One picture, their difference enlarged, the other picture.

    Args:
        a, b: uint8 (h, h, 3), of one size: the difference is taken before anything is enlarged.
        labels: a caption for each; a newline breaks it, what is too long is cut with an ellipsis.
        note: the caption under the difference, such as the cosine; the mean difference and the gain follow it.
        gain: how many times larger the difference is drawn.
        side: of each picture on the page, in pixels.

    Returns:
        uint8 (h, w, 3).

    Raises:
        UsageError: pictures of different sizes.
    """
    letters = letter_height(side)
    middle = f"{note}\n" * bool(note) + f"mean {mean_difference(a, b):.1f} of 255, drawn x {gain:g}"
    lines = 1 + max(text.count("\n") for text in (*labels, middle))
    page = Page(2 * MARGIN + 3 * side + 2 * GAP, 2 * MARGIN + side + lines * line_height(letters), letters)
    pictures = ((a, labels[0]), (difference(a, b, gain), middle), (b, labels[1]))
    for k, (image, label) in enumerate(pictures):
        left = MARGIN + k * (side + GAP)
        page.place(image, left, MARGIN, side)
        page.caption(label, left, MARGIN + side + 4, side, lines)
    return np.asarray(page.picture)


def _distance(a: Pixels, b: Pixels) -> np.ndarray:
    """(h, w): mean over the colours of the absolute difference."""
    if a.shape != b.shape:
        raise UsageError(
            "two pictures of different sizes have no difference",
            where="pictures",
            expected=str(a.shape),
            got=str(b.shape),
            next_step="draw both with one generator",
        )
    return np.asarray(np.abs(a.astype(np.float64) - b.astype(np.float64)).mean(axis=-1))
