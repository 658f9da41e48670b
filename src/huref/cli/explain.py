"""`huref explain`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.cli.keeping import keeping


def explain(
    a: Annotated[str, typer.Argument(metavar="A", help="The reference: directory or weight file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to explain.")],
    out: Annotated[Path | None, typer.Option(help="Save the evidence, NAME.evidence.safetensors.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Check saved evidence instead; exit with 1 if a claim fails.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write a SARIF 2.1.0 log.")] = None,
    write_undone: Annotated[
        Path | None, typer.Option(help="Write B with what was found undone: a folder to make.")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Of B: all, few, or a list such as 0,5,-1.", callback=options.every_once)
    ] = "all",
    neurons: Annotated[
        int | None, typer.Option(help="With --check: neurons drawn in each layer, 64.", min=1, max=1 << 20)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="With --check: of what is drawn, 1.", min=0, max=options.MAX_SEED)
    ] = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    no_cache: options.NoCache = False,
    base: options.Base = None,
    adapter: options.Adapter = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table on stdout, a row a kind of weights.")] = False,
) -> None:
    """Recover what was done to one model to make the other.

    And what undoing it shows; exit code 3 where nothing agrees.

    Example: huref explain ./base ./suspect --out what.evidence.safetensors
    """
    options.refuse_together("--csv", "--json", is_given=as_csv and as_json)
    options.refuse_together("--check", "--csv", is_given=check is not None and as_csv)
    options.refuse_together("--check", "--out", is_given=check is not None and out is not None)
    options.refuse_together("--check", "--write-undone", is_given=check is not None and write_undone is not None)
    if check is None:
        options.require_with("--check", neurons=neurons, seed=seed)
    options.refuse_together("--check", "--no-cache", is_given=check is not None and no_cache)
    for path, name in ((report, "--report"), (sarif, "--sarif")):
        options.refuse_together("--check", name, is_given=check is not None and path is not None)
    options.require_there(a, b)
    a, b = options.adapted((a, b), base, adapter)
    from huref import api
    from huref.explanation import CheckOptions, ExplainOptions, explain_csv, save_evidence
    from huref.explanation.evidence_file import require_evidence_place
    from huref.explanation.text import undone_text
    from huref.explanation.writing import require_undoable
    from huref.report import ReportOptions, Told, save_told

    if check is not None:
        chosen = CheckOptions(layers, neurons or 64, 1 if seed is None else seed, arch_file, tokenizer)
        with output.progress(show) as progress:
            checked = api.check_evidence(check, a, b, chosen, progress)
        output.print_json(checked.to_dict()) if as_json else output.say(str(checked))
        raise typer.Exit(0 if checked.holds else 1)
    if out is not None:
        require_evidence_place(out)
    wanted, asked = ReportOptions(report, sarif), ExplainOptions(layers, arch_file, tokenizer)
    if write_undone is not None:
        options.require_place(write_undone, is_folder=True)
        require_undoable(a, b, write_undone, asked)
    with (
        keeping(no_cache, show, is_confirmed=bool(wanted.paths) or out is not None) as cache,
        output.progress(show, "explain", models=(a, b)) as progress,
    ):
        found = api.explain(a, b, asked, report=progress, cache=cache)
    if not as_json:  # the result stands on stdout already: a full disk loses nothing
        output.say(explain_csv(found) if as_csv else str(found))
    try:
        if out is not None:
            save_evidence(found, out)
        if write_undone is not None:
            with output.progress(show) as progress:
                found = replace(found, undone=api.save_undone(found, a, b, write_undone, asked, progress))
    finally:
        if as_json:
            output.print_json(found.to_dict())
    if found.undone is not None and not as_json and not as_csv:
        output.say("\n".join(undone_text(found.undone)))
    if wanted.paths:
        text = str(found)
        told = Told(
            command=("huref", "explain", a, b),
            models=(a, b),
            verdict="derived",
            sentence=f"Which of the two came first is not told. {text.splitlines()[0]}",
            text=text,
            notes=found.notes,
            document=found.to_dict(),
        )
        save_told(told, wanted)
        output.say_written(wanted.paths, as_json)
