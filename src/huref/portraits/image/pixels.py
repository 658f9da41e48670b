"""Arrays of pixels: their type, and a change of size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from huref.choices import option
from huref.errors import UsageError

Pixels = NDArray[np.uint8]
"""uint8, (h, w, 3) or (n, h, w, 3), RGB."""

MAX_SIDE = 4096

_LANCZOS = Image.Resampling.LANCZOS


def resize(array: Pixels, side: int) -> Pixels:
    """A square picture (h, h, 3) at another side: enlarged crisply and without halos, or reduced without aliases.

    Raises:
        UsageError: a side that is not sensible.
    """
    require_side(side)
    if array.shape[:2] == (side, side):
        return array
    if side > len(array):
        return _enlarged(array, side)
    return np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize((side, side), _LANCZOS))


def require_side(side: int) -> None:
    """Refuse a side that no picture has.

    Raises:
        UsageError: less than one pixel, or more than `MAX_SIDE`.
    """
    if not 1 <= side <= MAX_SIDE:
        raise UsageError(
            "no such picture size", where=option("size"), expected=f"1 to {MAX_SIDE} pixels", got=str(side)
        )


def _enlarged(array: Pixels, side: int) -> Pixels:
    """Lanczos' filter after one step of back-projection, within the colours around each place.

    Measured against others in docs/decisions/2026-11-25-enlarging.md.
    """
    along = _enlarging_matrix(len(array), side)
    picture = Image.fromarray(np.ascontiguousarray(array))
    lowest, highest = (
        np.asarray(picture.filter(kind(3)).resize((side, side), Image.Resampling.BILINEAR))
        for kind in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    enlarged = np.empty((side, side, 3), np.uint8)
    for k in range(3):
        colour = along @ array[..., k].astype(np.float32) @ along.T
        enlarged[..., k] = np.clip(colour + 0.5, lowest[..., k], highest[..., k])
    return enlarged


@lru_cache(maxsize=8)
def _enlarging_matrix(n: int, side: int) -> NDArray[np.float32]:
    """(side, n): one axis from n to `side` pixels.

    With U (side, n) Lanczos' enlargement and D (n, side) his reduction, D U is not the identity: reduced again, the
    enlarged picture is a little soft. One step of back-projection (Irani and Peleg, 1991) adds what is missing:
    U x + U (x - D U x) = U (2 I - D U) x.
    """
    up, down = _line(n, side), _line(side, n)
    return np.asarray(up @ (2.0 * np.eye(n) - down @ up), np.float32)


def _line(n: int, m: int) -> NDArray[np.float64]:
    """(m, n): Pillow's own filter along one axis, read from what it makes of the identity."""
    unit = Image.fromarray(np.eye(n, dtype=np.float32))
    return np.asarray(unit.resize((n, m), _LANCZOS)).astype(np.float64)
