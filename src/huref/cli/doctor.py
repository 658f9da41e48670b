"""`huref doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from huref.cli import options, output


def doctor(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a checkpoint.")],
    arch_file: options.ArchFile = None,
    seed: Annotated[int, typer.Option(help="Of the rearrangement.", min=0, max=options.MAX_SEED)] = 1,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Check by transformers that a model is read rightly.

    A copy that is rearranged by the model's description must compute the same. Exit 1 where it does not. Needs the
    extra check.

    Example: huref doctor ./model --arch-file my-family.yaml
    """
    from huref import api

    options.require_there(model)
    with output.progress(show, "doctor", models=(model,)) as report:
        found = api.examine(model, arch_file, seed, report)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(found.to_text())
    if not found.is_right:
        raise typer.Exit(1)
