"""Fingerprints in, pictures out: as images, and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from huref.files.atomic import make_folder
from huref.fingerprints.file import SUFFIX, save_fingerprint
from huref.fingerprints.record import Fingerprint
from huref.portraits.drawing import PictureOptions, draw, save


def render(fingerprints: Fingerprint | Sequence[Fingerprint], options: PictureOptions | None = None) -> Image.Image:
    """The picture of a fingerprint; of several a sheet, a row or a difference, with their likeness to the first.

    Raises:
        HurefError: see `huref.errors`.
    """
    prints = [fingerprints] if isinstance(fingerprints, Fingerprint) else list(fingerprints)
    return Image.fromarray(draw(prints, options or PictureOptions()))


def save_picture(
    fingerprints: Fingerprint | Sequence[Fingerprint],
    path: str | Path,
    options: PictureOptions | None = None,
    style: str = "png",
) -> None:
    """Draw fingerprints into a PNG file, or one into an SVG badge; both carry the fingerprints' metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    prints = [fingerprints] if isinstance(fingerprints, Fingerprint) else fingerprints
    save(prints, options or PictureOptions(), Path(path), style)


def write(fingerprint: Fingerprint, out: str | Path) -> tuple[Path, Path]:
    """Write `NAME.huref.safetensors` and `NAME.png` with the same metadata into a folder.

    Raises:
        OutputError: the folder cannot be written; nothing is left half-written.
    """
    out = Path(out)
    make_folder(out)
    file, picture = out / f"{fingerprint.model}{SUFFIX}", out / f"{fingerprint.model}.png"
    save_picture([fingerprint], picture)
    save_fingerprint(fingerprint, file)
    return file, picture
