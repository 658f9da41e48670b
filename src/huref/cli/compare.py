"""`huref compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from huref.cli import options, output


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Directory, weight file or saved fingerprint.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    method: Annotated[str, typer.Option(help="all, pcs or ics.")] = "all",
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    encoder_weights: options.EncoderWeights = None,
    expect: Annotated[str | None, typer.Option(help="Exit with 1 unless this is the verdict.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare two models: PCS, ICS, every term; exit code 0 for a verdict, 3 for inconclusive."""
    from huref import api
    from huref.artefact import CompareOptions

    chosen = CompareOptions(method, layers, n_tokens, tokens, arch_file, expect, encoder_weights)
    with output.progress() as report:
        found = api.compare(a, b, chosen, report)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(output.comparison_text(found))
    raise typer.Exit(chosen.exit_code(found))
