"""Pictures: vector to pixels, PNG files, contact sheets. Importing this loads no torch."""

from huref.image.contact_sheet import contact_sheet
from huref.image.pixels import Pixels, resize
from huref.image.png import read_png_metadata, save_png
from huref.image.rendering import render

__all__ = ["Pixels", "contact_sheet", "read_png_metadata", "render", "resize", "save_png"]
