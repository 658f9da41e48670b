"""`huref encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """CNN encoders: convert them, measure them.

    Example: huref encoder convert encoder.pth encoder.safetensors
    """


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An encoder.pth of the official kind.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    side: Annotated[
        int, typer.Option(help="K that it was trained at; 0 if unknown.", min=0, max=options.MAX_TOKENS)
    ] = 4096,
    as_json: options.AsJson = False,
) -> None:
    """Convert an official CNN encoder to safetensors.

    No code in the pickle is run.

    Example: huref encoder convert encoder.pth encoder.safetensors
    """
    options.require_place(target)
    from huref import api

    done = api.convert_encoder(source, target, side)
    if as_json:
        digests = {"sha256": done.sha256, "source_sha256": done.source_sha256}
        files = {"weights_file": str(done.target), **digests, "layers": list(done.layers)}
        output.print_json({"schema_version": "huref.encoder/1.0", **files})
    else:
        output.say(f"{done.target}\n  sha256  {done.sha256}\n  layers  {', '.join(done.layers)}")
