"""`huref generator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Generators of portraits: convert them, measure them.

    Example: huref generator convert network.pkl generator.safetensors
    """


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An official pickle, or a safetensors file of huref.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    dtype: Annotated[options.GeneratorType, typer.Option(help="float32 to lose nothing.")] = "float16",
    as_json: options.AsJson = False,
) -> None:
    """Convert official StyleGAN2 weights to safetensors.

    No code in the pickle is run.

    Example: huref generator convert network.pkl generator.safetensors
    """
    options.require_place(target)
    from dataclasses import asdict

    from huref import api
    from huref.portraits.generator.conversion import LICENCE

    done = api.convert_generator(source, target, dtype)
    if as_json:
        paths = {"weights_file": str(done.target), "note_file": str(done.note), "source": str(done.source)}
        digests = {"sha256": done.sha256, "source_sha256": done.source_sha256}
        config = asdict(done.config)
        output.print_json(
            {"schema_version": "huref.generator/1.0", **paths, **digests, "dtype": dtype, "config": config}
        )
    else:
        output.say(f"{done.target}\n{done.note}\n  sha256   {done.sha256}\n  licence  {LICENCE}")
