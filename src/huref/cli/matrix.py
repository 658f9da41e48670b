"""`huref matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output
from huref.cli.keeping import keeping

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
    paper: Annotated[
        options.PaperTable | None,
        typer.Option(help="A table of the HuRef paper in LaTeX: 1 and 2 against the first model, 3 and 7 all pairs."),
    ] = None,
    tree: Annotated[Path | None, typer.Option(help="Also draw the tree of the scores into this SVG file.")] = None,
    drift: Annotated[
        Path | None, typer.Option(help="Also draw the scores along a run (SVG), or write them (CSV).")
    ] = None,
    heat_map: Annotated[Path | None, typer.Option(help="Also draw the table into this PNG file.")] = None,
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    name: options.Names = None,
    no_cache: options.NoCache = False,
    base: options.Base = None,
    adapter: options.Adapter = False,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare every pair of several models.

    With the tree of their scores, and the drift of a run where the models are its checkpoints. --paper gives the
    tables of the paper, docs/how-to/reproduce-the-paper.md.

    Fingerprints with neuron codes (`huref fingerprint --codes`) also get verdicts, and clusters of kin, and are
    compared whole only where a few neurons do not tell that they are strangers.

    Example: huref matrix ./a ./b ./c --score ics --format latex
    """
    options.refuse_together("--format", "--json", is_given=style is not None and as_json)
    options.refuse_together("--paper", "--score", is_given=paper is not None and score is not None)
    if heat_map is not None:
        options.require_png(heat_map, "--heat-map")
    options.require_ending(tree, "--tree", ".svg")
    options.require_ending(drift, "--drift", ".svg", ".csv")
    options.require_there(*(model for model in models if not model.startswith("@")))
    from huref import api
    from huref.fingerprints.listing import listed
    from huref.kinship import CompareOptions
    from huref.report import plots, tables

    chosen = CompareOptions("all", layers, n_tokens, tokens, arch_file, tokenizer=tokenizer)
    found, is_column = options.adapted(listed(models), base, adapter), paper in ("1", "2")
    if drift is not None:  # by the names alone, before long work
        plots.require_run(found, name)
    if paper is not None:
        score, style = "pcs" if paper == "1" else "ics", style or "latex"
    with keeping(no_cache, show) as cache, output.progress(show, "matrix", models=found) as report:
        table = api.matrix(found, score, chosen, report, names=name, against_first=is_column, cache=cache)
    _require_scores(table)
    if as_json:
        output.print_json(tables.as_document(table))
    else:
        output.say(_written(table, style, is_column))
    if heat_map is not None:  # the table stands on stdout already: a full disk loses nothing
        tables.save_heat_map(table.names, table.values, heat_map)
    if tree is not None:
        plots.save_tree(table, tree)
    if drift is not None:
        plots.save_drift(table, drift)
    written = [path for path in (heat_map, tree, drift) if path is not None]
    if written and style in (None, "text") and not as_json:
        output.say("\n".join(f"written: {path}" for path in written))


def _written(table: Matrix, style: options.TableStyle | None, is_column: bool) -> str:
    """The table and its notes in a style."""
    from huref.report import tables

    if style in (None, "text") and not is_column:
        return str(table)
    column = tables.as_column(table, style or "latex") if is_column else ""
    text = column or tables.as_text(table.names, table.score, table.values, style or "text")
    return "\n".join([text, *(f"note: {note}" for note in table.notes)])


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
