"""Arrays of pixels: their type, and a change of size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huref.errors import UsageError

Pixels = NDArray[np.uint8]
"""uint8, (h, w, 3) or (n, h, w, 3), RGB."""

MAX_SIDE = 4096


def resize(array: Pixels, side: int) -> Pixels:
    """A square picture (h, h, 3) at another side, with Lanczos' filter: smooth enlarged, free of aliases reduced.

    Raises:
        UsageError: a side that is not sensible.
    """
    if not 1 <= side <= MAX_SIDE:
        raise UsageError("no such picture size", where="size", expected=f"1 to {MAX_SIDE} pixels", got=str(side))
    if array.shape[:2] == (side, side):
        return array
    picture = Image.fromarray(np.ascontiguousarray(array))
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))
