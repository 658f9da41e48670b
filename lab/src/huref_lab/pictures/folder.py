"""A folder of pictures as one tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from huref.errors import CorruptFileError, UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
MINIMUM = 16


def find_images(folder: Path) -> list[Path]:
    """All pictures in a folder and below, sorted by name.

    Raises:
        UsageError: the folder is missing or holds too few pictures.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if len(found) < MINIMUM:
        raise UsageError(
            "too few pictures to train on",
            where=str(folder),
            expected=f"a folder with at least {MINIMUM} pictures ({', '.join(sorted(SUFFIXES))})",
            got=f"{len(found)} pictures" if folder.is_dir() else "no such folder",
        )
    return found


def read_image(path: Path, side: int) -> Tensor:
    """One picture, cut to its central square and resized: uint8 (3, side, side).

    Raises:
        CorruptFileError: the file is not a picture that can be read.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFileError("a picture cannot be read", where=str(path), got=str(error)) from error
    width, height = picture.size
    square = min(width, height)
    left, top = (width - square) // 2, (height - square) // 2
    box = (left, top, left + square, top + square)
    resized = picture.resize((side, side), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def load_images(folder: Path, side: int) -> Tensor:
    """Every picture of a folder: uint8 (n, 3, side, side)."""
    return torch.stack([read_image(path, side) for path in find_images(folder)])


def to_float(pictures: Tensor) -> Tensor:
    """uint8 -> fp32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1.0
