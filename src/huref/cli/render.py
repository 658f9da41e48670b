"""`huref render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def render(
    fingerprints: Annotated[list[str], typer.Argument(metavar="FINGERPRINT", help="*.huref.safetensors files.")],
    layout: Annotated[
        options.Layout | None,
        typer.Option(help="A portrait of one, a sheet, a row graded by likeness to the first, a difference of two."),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Side of each picture in pixels, or native.")] = None,
    psi: Annotated[
        float | None, typer.Option(help="Truncation: 0 for the mean dog, 1 for all variety.", min=0, max=1)
    ] = None,
    generator: Annotated[Path | None, typer.Option(help="Weights of another generator.")] = None,
    label: Annotated[
        int | None, typer.Option("--class", help="Class of a conditional generator.", min=0, max=1 << 20)
    ] = None,
    style: Annotated[options.PictureFormat | None, typer.Option("--format", help="svg for a badge.")] = None,
    base: Annotated[str | None, typer.Option(help="Fingerprint that a badge compares with.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; its ending is the format. Default: NAME.png, sheet.png, ...")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also over a file that is in the way of the default.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw the portraits of saved fingerprints.

    Several make a labelled sheet, a row or a difference.

    Example: huref render base.huref.safetensors suspect.huref.safetensors --layout row
    """
    options.require_place(out)
    from huref import api
    from huref.fingerprints import load_fingerprint
    from huref.portraits import drawing
    from huref.portraits.files import require_own_picture

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
    target = out or Path(f"{drawing.file_stem(fingerprints, prints, chosen)}.{kind}")
    if out is None and not force:
        require_own_picture(target, prints)
    api.save_picture(prints, target, chosen, kind)
    if as_json:
        models = [item.model for item in prints]
        output.print_json({"schema_version": "huref.render/1.0", "models": models, "image_file": str(target)})
    else:
        output.say(str(target))
