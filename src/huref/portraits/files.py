"""Fingerprints in, pictures out: as images, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from huref.choices import chosen
from huref.errors import HurefError, OutputError
from huref.files.atomic import make_folder
from huref.fingerprints.file import SUFFIX, as_references, fingerprint_digest, load_fingerprint, save_fingerprint
from huref.fingerprints.record import Fingerprint, Reference
from huref.fingerprints.references import fingerprint
from huref.portraits.drawing import PictureOptions, draw, format_of, save
from huref.portraits.image import read_png_metadata
from huref.portraits.image.svg import read_svg_metadata

_SAME_VECTOR = 0.999
"""Cosine of two fingerprints of one model by one recipe, on machines that add in another order, is above this."""


def render(
    fingerprints: Reference | Sequence[Reference],
    options: PictureOptions | None = None,
    *,
    layout: str | None = None,
    size: int | str | None = None,
    psi: float | None = None,
    generator: str | Path | None = None,
    label: int | None = None,
) -> Image.Image:
    """The picture of a fingerprint; of several a sheet, a row or a difference, with their likeness to the first.

    Args:
        fingerprints: one or more: fingerprints, files of these, or models, which are fingerprinted first.
        options: instead of the keywords, which are the attributes of `PictureOptions`.

    Raises:
        UsageError: options that cannot be honoured, or given as an object and as keywords.
        HurefError: see `huref.errors`.
    """
    options = chosen(PictureOptions, options, layout=layout, size=size, psi=psi, generator=generator, label=label)
    return Image.fromarray(draw(_prints(fingerprints), options))


def save_picture(
    fingerprints: Reference | Sequence[Reference],
    path: str | Path,
    options: PictureOptions | None = None,
    style: str | None = None,
    *,
    layout: str | None = None,
    size: int | str | None = None,
    psi: float | None = None,
    generator: str | Path | None = None,
    label: int | None = None,
    base: Reference | None = None,
) -> None:
    """Draw fingerprints into a PNG file, or one into an SVG badge; both carry the fingerprints' metadata.

    Args:
        fingerprints: as `render` takes them.
        options: instead of the keywords `layout` to `base`, which are the attributes of `PictureOptions`.
        style: `png` or `svg`; None takes what the ending of the file says.

    Raises:
        UsageError: options that cannot be honoured, or given as an object and as keywords.
        OutputError: the file cannot be written.
    """
    options = chosen(
        PictureOptions,
        options,
        layout=layout,
        size=size,
        psi=psi,
        generator=generator,
        label=label,
        base=None if base is None else fingerprint(base),
    )
    path = Path(path)
    save(_prints(fingerprints), options, path, format_of(path, style))


def write(fingerprint: Fingerprint, out: str | Path) -> tuple[Path, Path]:
    """Write `NAME.huref.safetensors` and `NAME.png` with the same metadata into a folder.

    Raises:
        OutputError: the folder cannot be written; nothing is left half-written.
    """
    out = Path(out)
    make_folder(out)
    file, picture = _paths(fingerprint, out)
    save_picture([fingerprint], picture)
    save_fingerprint(fingerprint, file)
    return file, picture


def _prints(references: Reference | Sequence[Reference]) -> list[Fingerprint]:
    return [fingerprint(reference) for reference in as_references(references)]


def require_own_files(fingerprint: Fingerprint, out: str | Path) -> None:
    """Refuse to let `write` replace what is of another model, or of none.

    Raises:
        OutputError: such a file has the name that one of the two would get.
    """
    file, picture = _paths(fingerprint, Path(out))
    if file.exists() and not _is_print_of(file, fingerprint):
        raise _in_the_way(file, "the fingerprint of this model")
    if picture.exists() and not _is_portrait_of(picture, fingerprint):
        raise _in_the_way(picture, "the portrait of this model")


def require_own_picture(path: Path, fingerprints: Sequence[Fingerprint]) -> None:
    """Refuse to replace a file that is no picture of these fingerprints.

    Raises:
        OutputError: there is such a file.
    """
    drawn = [item.get("sha256") for item in _metadata(path, "huref:picture").get("fingerprints", [])]
    if path.exists() and drawn != [fingerprint_digest(item) for item in fingerprints]:
        raise _in_the_way(path, "a picture of the same fingerprints")


def _paths(fingerprint: Fingerprint, out: Path) -> tuple[Path, Path]:
    return out / f"{fingerprint.model}{SUFFIX}", out / f"{fingerprint.model}.png"


def _is_print_of(path: Path, made: Fingerprint) -> bool:
    """Whether a file may be an earlier fingerprint of the same weights."""
    try:
        found = load_fingerprint(path)
    except HurefError:
        return False
    is_alike = found.recipe != made.recipe or found.similarity(made) > _SAME_VECTOR
    return _is_of_like_files(found.header(), made) and is_alike


def _is_portrait_of(path: Path, made: Fingerprint) -> bool:
    """The same of a portrait, which has a fingerprint's header and its digest."""
    header, drawn = _metadata(path, "huref"), _metadata(path, "huref:picture").get("fingerprints", [{}])
    is_other = header == made.header() and drawn[0].get("sha256") != fingerprint_digest(made)
    return _is_of_like_files(header, made) and not is_other


def _is_of_like_files(header: Mapping[str, Any], made: Fingerprint) -> bool:
    """Weight files of the same names and sizes, in a model of the same shape."""
    files = header.get("weights", {}).get("files")
    return bool(header.get("geometry") == made.geometry and files == made.weights.get("files"))


def _metadata(path: Path, key: str) -> dict[str, Any]:
    """What a picture of ours says of itself; nothing where it is no such picture."""
    read = read_svg_metadata if path.suffix.lower() == ".svg" else read_png_metadata
    try:
        document = json.loads(read(path).get(key, "{}"))
    except (HurefError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _in_the_way(path: Path, expected: str) -> OutputError:
    return OutputError(
        "a file of that name is in the way",
        where=str(path),
        expected=f"a free name, or {expected}",
        got="another file, or the weights have changed since",
        next_step="choose another --out, or --force to replace it",
    )
