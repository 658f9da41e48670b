"""PNG files with text inside, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from huref.errors import CorruptFileError
from huref.files.atomic import write_atomically
from huref.portraits.image.pixels import Pixels

_LEVEL = 2
"""Of deflate: level 9 makes a portrait of 512 pixels an eighth smaller and takes twelve times as long."""


def save_png(path: Path, array: Pixels, metadata: Mapping[str, str]) -> None:
    """Writes a picture and its text metadata; an existing file is replaced only by a complete one.

    Args:
        path: the file.
        array: uint8 (h, w, 3).
        metadata: keyword (Latin-1, 1 to 79 characters) to text (any Unicode), kept in iTXt chunks.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, png_bytes(array, metadata))


def png_bytes(array: Pixels, metadata: Mapping[str, str]) -> bytes:
    """The file that `save_png` writes."""
    info = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        info.add_itxt(key, value)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(stream, format="PNG", pnginfo=info, compress_level=_LEVEL)
    return stream.getvalue()


def read_png_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a PNG file.

    Raises:
        CorruptFileError: not a PNG file that can be read.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            text = getattr(picture, "text", {})
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFileError("not a PNG file that can be read", where=str(path), got=str(error)) from error
    return {str(key): str(value) for key, value in text.items()}


def read_png(path: Path) -> Pixels:
    """The pixels of a PNG file: uint8 (h, w, 3).

    Raises:
        CorruptFileError: not a PNG file that can be read.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFileError("not a PNG file that can be read", where=str(path), got=str(error)) from error
