"""`huref parents`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.cli.keeping import keeping


def parents(
    child: Annotated[str, typer.Argument(metavar="CHILD", help="The model in question: directory or weight file.")],
    candidates: Annotated[
        list[str], typer.Argument(metavar="CANDIDATE", help="Models that may be its parents, of its architecture.")
    ],
    base: Annotated[
        str | None, typer.Option(help="What the parents were tuned from; else chosen among three or more relatives.")
    ] = None,
    arch_file: options.ArchFile = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write a SARIF 2.1.0 log.")] = None,
    expect: Annotated[options.Verdict | None, typer.Option(help="Exit with 1 unless this is the verdict.")] = None,
    no_cache: options.NoCache = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Find which candidates a model was merged or tuned from.

    With their weights in a merge; exit code 0 for a verdict, 3 for inconclusive.

    Example: huref parents ./suspect ./base ./other-base
    """
    options.require_there(child)
    from huref.fingerprints.listing import listed
    from huref.report import ReportOptions, Told, save_told

    wanted, models = ReportOptions(report, sarif), listed(candidates)
    from huref import api

    with (
        keeping(no_cache, show, is_confirmed=bool(wanted.paths)) as cache,
        output.progress(show, "parents", models=(child, *models)) as progress,
    ):
        found = api.parents(child, models, base, arch_file=arch_file, report=progress, cache=cache)
    output.print_json(found.to_dict()) if as_json else output.say(str(found))
    if wanted.paths:  # the result stands on stdout already: a full disk loses nothing
        command = ("huref", "parents", child, *candidates, *(("--base", base) if base else ()))
        text = str(found)
        told = Told(
            command=command,
            models=(child, *models),
            verdict=found.verdict,
            sentence=text.splitlines()[0],
            text=text,
            notes=found.notes,
            document=found.to_dict(),
            expect=expect,
        )
        save_told(told, wanted)
        output.say_written(wanted.paths, as_json)
    raise typer.Exit(found.exit_code(expect))
