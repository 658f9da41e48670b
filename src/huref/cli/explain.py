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
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write a SARIF 2.1.0 log.")] = None,
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
    if check is None:
        options.require_with("--check", neurons=neurons, seed=seed)
    for path, name in ((report, "--report"), (sarif, "--sarif")):
        options.refuse_together("--check", name, is_given=check is not None and path is not None)
    options.require_there(a, b)
    from huref import api
    from huref.explanation import CheckOptions, ExplainOptions, explain_csv, save_evidence
    from huref.explanation.evidence_file import require_evidence_place
    from huref.report import ReportOptions, Told, save_told

    if check is not None:
        chosen = CheckOptions(layers, neurons or 64, 1 if seed is None else seed, arch_file)
        with output.progress(show) as progress:
            checked = api.check_evidence(check, a, b, chosen, progress)
        output.print_json(checked.to_dict()) if as_json else output.say(str(checked))
        raise typer.Exit(0 if checked.holds else 1)
    if out is not None:
        require_evidence_place(out)
    wanted = ReportOptions(report, sarif)
    with output.progress(show, "explain", models=(a, b)) as progress:
        found = api.explain(a, b, ExplainOptions(layers, arch_file), report=progress)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(explain_csv(found) if as_csv else str(found))
    if out is not None:  # the result stands on stdout already: a full disk loses nothing
        save_evidence(found, out)
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
