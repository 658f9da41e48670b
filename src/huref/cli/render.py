"""`huref render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def render(
    fingerprints: Annotated[list[str], typer.Argument(metavar="FINGERPRINT", help="*.huref.safetensors files.")],
    size: Annotated[int | None, typer.Option(help="Side of a picture in pixels.")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG file; NAME.png or sheet.png when left out.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Draw the picture of a fingerprint again; several make a labelled sheet."""
    from huref import api
    from huref.fingerprint_file import load_fingerprint

    prints = [load_fingerprint(path) for path in fingerprints]
    target = out or Path(f"{prints[0].model}.png" if len(prints) == 1 else "sheet.png")
    api.save_picture(prints, size, target)
    if as_json:
        models = [item.model for item in prints]
        output.print_json({"schema_version": "huref.render/1.0", "models": models, "image_file": str(target)})
    else:
        output.say(str(target))
