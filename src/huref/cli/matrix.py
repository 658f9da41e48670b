"""`huref matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def matrix(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Two or more models or fingerprints.")],
    score: Annotated[
        str | None,
        typer.Option(
            help="pcs, ics, ics_canonical_2, ics_canonical, aligned, agreement, vectors. Default: agreement for "
            "fingerprints that all have neuron codes, else the ICS of their recipe, or ics_canonical_2."
        ),
    ] = None,
    style: Annotated[str, typer.Option("--format", help="text, csv or latex.")] = "text",
    heat_map: Annotated[Path | None, typer.Option(help="Also draw the table into this PNG file.")] = None,
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare every pair of models: the paper's tables 1, 2, 3 and 7.

    Fingerprints with neuron codes (`huref fingerprint --codes`) also get verdicts, and clusters of kin, and are
    compared whole only where a few neurons do not tell that they are strangers.
    """
    options.require_there(*models)
    from huref import api
    from huref.kinship import CompareOptions
    from huref.report import tables

    tables.require_style(style)
    chosen = CompareOptions(layers=layers, n_tokens=n_tokens, tokens_file=tokens, arch_file=arch_file)
    with output.progress() as report:
        table = api.matrix(models, score, chosen, report)
    if heat_map is not None:
        tables.save_heat_map(table.names, table.values, heat_map)
    if as_json:
        output.print_json(tables.as_document(table))
    else:
        output.say(tables.as_text(table.names, table.score, table.values, style))
        if style == "text" and (clusters := tables.clusters_as_text(table)):
            output.say(clusters)
        for note in table.notes:
            output.say(f"note: {note}")
