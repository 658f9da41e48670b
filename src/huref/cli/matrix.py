"""`huref matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output

if TYPE_CHECKING:
    from huref.kinship import Matrix


def matrix(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Two or more models or fingerprints; a folder of them, @LIST."),
    ],
    score: Annotated[
        options.Score | None,
        typer.Option(
            help="Default: agreement for fingerprints that all have neuron codes, else the ICS of their recipe, or "
            "ics_canonical_2."
        ),
    ] = None,
    style: Annotated[
        options.TableStyle | None, typer.Option("--format", help="How the table is written; text when left out.")
    ] = None,
    heat_map: Annotated[Path | None, typer.Option(help="Also draw the table into this PNG file.")] = None,
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare every pair of several models.

    The paper's table 1 is --score pcs, its tables 2, 3 and 7 are --score ics.

    Fingerprints with neuron codes (`huref fingerprint --codes`) also get verdicts, and clusters of kin, and are
    compared whole only where a few neurons do not tell that they are strangers.

    Example: huref matrix ./a ./b ./c --score ics --format latex
    """
    options.refuse_together("--format", "--json", is_given=style is not None and as_json)
    if heat_map is not None:
        options.require_png(heat_map, "--heat-map")
    options.require_there(*(model for model in models if not model.startswith("@")))
    from huref import api
    from huref.fingerprints.listing import listed
    from huref.kinship import CompareOptions
    from huref.report import tables

    chosen = CompareOptions(layers=layers, n_tokens=n_tokens, tokens_file=tokens, arch_file=arch_file)
    found = listed(models)
    with output.progress(show, "matrix", models=found) as report:
        table = api.matrix(found, score, chosen, report)
    _require_scores(table)
    if as_json:
        output.print_json(tables.as_document(table))
    elif style in (None, "text"):
        output.say(str(table))
    else:
        output.say(tables.as_text(table.names, table.score, table.values, style))
        for note in table.notes:
            output.say(f"note: {note}")
    if heat_map is not None:  # the table stands on stdout already: a full disk loses nothing
        tables.save_heat_map(table.names, table.values, heat_map)
        if style in (None, "text") and not as_json:
            output.say(f"written: {heat_map}")


def _require_scores(table: Matrix) -> None:
    """Refuse a table without a single score."""
    import numpy as np

    from huref.errors import InconclusiveError

    n = len(table.names)
    if np.isnan(table.values).sum() == n * n - n:
        raise InconclusiveError(
            "no pair has this score",
            where=f"--score {table.score}",
            expected="a score of one pair at least",
            got=next((note for note in table.notes if f"{table.score} is null" in note), [*table.notes, "none"][0]),
            next_step="another --score, or the models themselves in place of fingerprints",
        )
