"""`huref matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output
from huref.cli.keeping import keeping
from huref.errors import UsageError

if TYPE_CHECKING:
    from huref.kinship import Matrix


_SEVERAL = "huref.matrices/1.0"


def matrix(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Two or more models or fingerprints; a folder of them, @LIST."),
    ] = None,
    of_set: Annotated[
        options.SetName | None,
        typer.Option("--set", help="A set of the HuRef paper, from the hub, as the table that the paper shows."),
    ] = None,
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
    download: options.Download = False,  # noqa: ARG001 its callback acts
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
    if of_set is not None and models:
        options.refuse_together("--set", "MODEL", is_given=True)
    groups, which = _groups(models or [], of_set, paper)
    for flag, path in (("--heat-map", heat_map), ("--tree", tree), ("--drift", drift)):
        options.refuse_together(flag, f"--set {of_set}", is_given=path is not None and len(groups) > 1)
    from huref import api
    from huref.fingerprints.listing import listed
    from huref.kinship import CompareOptions
    from huref.report import plots, tables

    chosen = CompareOptions("all", layers, n_tokens, tokens, arch_file, tokenizer=tokenizer)
    lists, is_column = [options.adapted(listed(group), base, adapter) for group in groups], which in ("1", "2")
    if drift is not None:  # by the names alone, before long work
        plots.require_run(lists[0], name)
    if which is not None:
        score, style = "pcs" if which == "1" else "ics", style or "latex"
    made = []
    for found in lists:
        with keeping(no_cache, show) as cache, output.progress(show, "matrix", models=found) as report:
            made.append(api.matrix(found, score, chosen, report, names=name, against_first=is_column, cache=cache))
        if len(lists) == 1:
            _require_scores(made[0])
        if not as_json:
            output.say(_written(made[-1], style, is_column))
    table, documents = made[0], [tables.as_document(each) for each in made]
    if as_json:
        output.print_json(documents[0] if len(made) == 1 else {"schema_version": _SEVERAL, "tables": documents})
    written = _drawn(table, heat_map, tree, drift)  # the table stands on stdout already: a full disk loses nothing
    if written and style in (None, "text") and not as_json:
        output.say("\n".join(f"written: {path}" for path in written))


def _drawn(table: Matrix, heat_map: Path | None, tree: Path | None, drift: Path | None) -> list[Path]:
    """Draw what is asked for; the files."""
    from huref.report import plots, tables

    if heat_map is not None:
        tables.save_heat_map(table.names, table.values, heat_map)
    if tree is not None:
        plots.save_tree(table, tree)
    if drift is not None:
        plots.save_drift(table, drift)
    return [path for path in (heat_map, tree, drift) if path is not None]


def _groups(
    models: list[str], of_set: options.SetName | None, paper: options.PaperTable | None
) -> tuple[list[list[str]], str | None]:
    """The models of each table, and which of the paper's tables it is; models of a set may be gone from the hub."""
    if of_set is None:
        if not models:
            raise UsageError(
                "no models",
                where="huref matrix",
                expected="two or more models, a folder of them, @LIST, or --set",
                got="none",
                next_step="huref matrix ./a ./b, or: huref matrix --set llama_family_models",
            )
        options.require_there(*(model for model in models if not model.startswith("@")))
        return [models], paper
    from huref.fingerprints.sets import model_set

    found = model_set(of_set)
    return [list(group) for group in found.groups], paper or found.paper


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
