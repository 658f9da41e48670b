"""`huref doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from huref.cli import options, output


def doctor(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Whatever names a model.")],
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Let transformers check that it is read rightly: a rearranged copy must compute the same.",
        ),
    ] = False,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    seed: Annotated[int, typer.Option(help="Of the rearrangement.", min=0, max=options.MAX_SEED)] = 1,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Tell what is there, what is odd, and what to do.

    Files, format, family and why, sizes, tokens, what a fingerprint would read. With --check transformers computes
    the model and a rearranged copy; exit 1 where they differ (extra check). Exit 4 where it cannot be read.

    Example: huref doctor ./model --check --arch-file my-family.yaml
    """
    from huref import api

    options.require_there(model)
    found = api.doctor(model, arch_file=arch_file, tokenizer=tokenizer)
    checked = None
    if check and found.fault is None:
        with output.progress(show, "doctor", models=(model,)) as report:
            checked = api.examine(model, arch_file, seed, report)
    if as_json:
        output.print_json({**found.to_dict(), "check": None if checked is None else checked.to_dict()})
    else:
        output.say("\n".join(filter(None, (str(found), str(checked or "")))))
    if found.fault is not None:
        raise typer.Exit(found.fault.exit_code)
    if checked is not None and not checked.is_right:
        raise typer.Exit(1)
