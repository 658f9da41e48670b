"""Pictures: vector to pixels, PNG files, pages of several pictures. Importing this loads no torch."""

from huref.portraits.image.contact_sheet import contact_sheet
from huref.portraits.image.graded_row import graded_row
from huref.portraits.image.pixels import Pixels, resize
from huref.portraits.image.png import png_bytes, read_png_metadata, save_png
from huref.portraits.image.rendering import render
from huref.portraits.image.side_by_side import difference, mean_difference, side_by_side
from huref.portraits.image.svg import read_svg_metadata

__all__ = [
    "Pixels",
    "contact_sheet",
    "difference",
    "graded_row",
    "mean_difference",
    "png_bytes",
    "read_png_metadata",
    "read_svg_metadata",
    "render",
    "resize",
    "save_png",
    "side_by_side",
]
