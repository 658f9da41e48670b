"""`huref diff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="What the other is said to be made of.")],
    b: Annotated[str, typer.Argument(metavar="B", help="An update, a fine-tune, a quantisation of it.")],
    expect: Annotated[
        options.Faithful | None, typer.Option(help="Exit with 1 unless B is A, or A stored in another way.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also draw layers by kinds of tensors into this SVG file.")
    ] = None,
    arch_file: options.ArchFile = None,
    name: options.Names = None,
    base: options.Base = None,
    adapter: options.Adapter = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Tell tensor by tensor what changed.

    Equal, within the rounding of how it is stored, or not; new, missing, resized. Is a GGUF file a faithful
    quantisation of a checkpoint? Every value is read, a block at a time.

    Example: huref diff ./model ./model-Q4_K_M.gguf --expect faithful
    """
    options.require_ending(picture, "--picture", ".svg")
    options.require_there(a, b)
    from huref.fingerprints.listing import one_of

    models = options.adapted([one_of(a), one_of(b)], base, adapter)
    if name:
        from huref.model.name import require_names

        require_names(name, 2)
    from huref import api

    with output.progress(show, "diff", models=models) as report:
        found = api.diff(*models, arch_file=arch_file, names=name, report=report)
    output.print_json(found.to_dict()) if as_json else output.say(str(found))
    if picture is not None:  # the table stands on stdout already: a full disk loses nothing
        from huref.report import plots

        plots.save_differences(found, picture)
        output.say_written((picture,), as_json)
    if expect is not None and not found.is_faithful:
        raise typer.Exit(1)
