"""`huref explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def explain(
    a: Annotated[str, typer.Argument(metavar="A", help="The reference: directory or weight file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to explain.")],
    out: Annotated[Path | None, typer.Option(help="Save the evidence, NAME.evidence.safetensors.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Check saved evidence instead; exit with 1 if a claim fails.")
    ] = None,
    layers: Annotated[str, typer.Option(help="Of B: all, few, or a list such as 0,5,-1.")] = "all",
    neurons: Annotated[int, typer.Option(help="With --check: neurons drawn in each layer.")] = 64,
    seed: Annotated[int, typer.Option(help="With --check: of what is drawn.")] = 1,
    arch_file: options.ArchFile = None,
    as_json: options.AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table on stdout, a row a kind of weights.")] = False,
) -> None:
    """Recover what was done to A to make B, and what undoing it shows; exit code 3 where nothing agrees."""
    options.require_there(a, b)
    from huref import api
    from huref.explanation import CheckOptions, ExplainOptions, checked_text, explain_csv, explain_text

    if check is not None:
        chosen = CheckOptions(layers, neurons, seed, arch_file)
        with output.progress() as report:
            checked = api.check_evidence(check, a, b, chosen, report)
        output.print_json(checked.to_dict()) if as_json else output.say("\n".join(checked_text(checked)))
        raise typer.Exit(0 if checked.holds else 1)
    with output.progress() as report:
        found = api.explain(a, b, ExplainOptions(layers, arch_file), out, report)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(explain_csv(found) if as_csv else "\n".join(explain_text(found)))
