"""`huref render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def render(
    fingerprints: Annotated[list[str], typer.Argument(metavar="FINGERPRINT", help="*.huref.safetensors files.")],
    layout: Annotated[
        str | None,
        typer.Option(help="portrait of one, sheet, row (graded by likeness to the first), or difference of two."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Side of each picture in pixels, or native.")] = None,
    psi: Annotated[float | None, typer.Option(help="Truncation: 0 for the mean dog, 1 for all variety.")] = None,
    generator: Annotated[Path | None, typer.Option(help="Weights of another generator.")] = None,
    label: Annotated[int | None, typer.Option("--class", help="Class of a conditional generator.")] = None,
    style: Annotated[str | None, typer.Option("--format", help="png, or svg for a badge.")] = None,
    base: Annotated[str | None, typer.Option(help="Fingerprint that a badge compares with.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; its ending is the format. NAME.png, sheet.png and so on.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Draw the picture of a fingerprint again; several make a labelled sheet, a row or a difference."""
    from huref import api
    from huref.fingerprints import load_fingerprint
    from huref.portraits import drawing

    prints = [load_fingerprint(path) for path in fingerprints]
    chosen = drawing.PictureOptions(
        layout=layout,
        size=drawing.size_of(size),
        psi=psi,
        generator=generator,
        label=label,
        base=load_fingerprint(base) if base else None,
    )
    kind = drawing.format_of(out, style)
    target = out or Path(f"{drawing.file_stem(prints, chosen)}.{kind}")
    api.save_picture(prints, target, chosen, kind)
    if as_json:
        models = [item.model for item in prints]
        output.print_json({"schema_version": "huref.render/1.0", "models": models, "image_file": str(target)})
    else:
        output.say(str(target))
