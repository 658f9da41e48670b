"""Fingerprints as pictures that people compare by eye.

render(fingerprints, PictureOptions())              a PIL image: a portrait, a sheet, a row, a difference
save_picture(fingerprints, path)                    the same as PNG or SVG, saying how it was drawn
write(fingerprint, folder)                          the fingerprint's file and its picture
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.portraits.drawing import LAYOUTS, PictureOptions
    from huref.portraits.files import render, save_picture, write
    from huref.portraits.image.png import read_png_metadata
    from huref.portraits.image.svg import read_svg_metadata

__all__ = [
    "LAYOUTS",
    "PictureOptions",
    "read_png_metadata",
    "read_svg_metadata",
    "render",
    "save_picture",
    "write",
]

_HOMES = {
    "LAYOUTS": "huref.portraits.drawing",
    "PictureOptions": "huref.portraits.drawing",
    "read_png_metadata": "huref.portraits.image.png",
    "read_svg_metadata": "huref.portraits.image.svg",
    "render": "huref.portraits.files",
    "save_picture": "huref.portraits.files",
    "write": "huref.portraits.files",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
