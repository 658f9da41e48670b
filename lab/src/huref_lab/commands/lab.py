"""`huref lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from huref.cli import options, output

Size = Literal["full", "small"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Models of known kinship, bench, studies.

    Example: huref lab zoo --out zoo --size small
    """


@app.command("study")
def study(
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    models: Annotated[
        Path | None, typer.Option("--study", help="Folder of a study of real models; drawn vectors when left out.")
    ] = None,
    questions: Annotated[int, typer.Option(help="Portraits to ask about.", min=1, max=1000)] = 24,
    seed: Annotated[int, typer.Option(help="Of the choice of bases and portraits.", min=0, max=options.MAX_SEED)] = 0,
    encoder: Annotated[options.EncoderName, typer.Option(help="Whose vectors of the study.")] = "sketch",
    psi: Annotated[
        float | None, typer.Option(help="Truncation: 0 for the mean dog, 1 for all variety.", min=0, max=1)
    ] = None,
    generator: Annotated[Path | None, typer.Option(help="Weights of another generator.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a page with which people try to read portraits.

    One file, offline, that scores itself.

    Example: huref lab study --out study.html
    """
    options.require_place(out)
    from huref.files.atomic import write_atomically
    from huref.portraits.generator.file import open_generator
    from huref_lab.encoder_study.record import load_study
    from huref_lab.reading.form import FormOptions, make_form

    found = load_study(models) if models else None
    network = open_generator(generator) if generator else None
    asked = FormOptions(questions, seed, encoder) if psi is None else FormOptions(questions, seed, encoder, psi)
    page = make_form(asked, found, network).encode()
    write_atomically(out, page)
    if as_json:
        output.print_json({"schema_version": "huref.reading-form/1.0", "page_file": str(out), "bytes": len(page)})
    else:
        output.say(f"{out}\nOpen it in a browser, or send it to people; score what they save: huref lab study-score")


@app.command("zoo")
def zoo(
    out: options.Out,
    size: Annotated[
        Size, typer.Option(help="full: 167 models, in half an hour; small: a dozen, in seconds.")
    ] = "full",
    jobs: Annotated[
        int, typer.Option(help="Processes at once, of one thread each.", min=1, max=options.MAX_JOBS)
    ] = 2,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Train small language models whose kinship is known.

    With offspring of many kinds; what is there is kept.

    Example: huref lab zoo --out zoo --size small
    """
    options.require_place(out, is_folder=True)
    from huref_lab.zoo.construction import ZooOptions, build_zoo

    with output.progress(show) as report:
        made = build_zoo(out, ZooOptions(size, jobs), report)
    if as_json:
        output.print_json(made.to_dict())
    else:
        output.say(made.to_text())


@app.command("study-score")
def study_score(
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS", help="JSON files that the page saved.")],
    as_json: options.AsJson = False,
) -> None:
    """Pool the answers that people gave to a study.

    The right ones are counted by closeness of kinship.

    Example: huref lab study-score anna.json bert.json
    """
    from huref_lab.reading.answers import read_answers, score_answers

    score = score_answers([read_answers(path) for path in answers])
    if as_json:
        output.print_json(score.to_dict())
    else:
        output.say(score.to_text())


@app.command("bench")
def bench(
    zoo: Annotated[Path, typer.Option(help="Folder of a zoo, with its zoo.json.")],
    attacks: Annotated[Path | None, typer.Option(help="Folder of attacked copies, with its attacks.json.")] = None,
    peers: Annotated[Path | None, typer.Option(help="Folder of the methods of others, one Python file each.")] = None,
    methods: Annotated[str, typer.Option(help="Only these, by file name; huref, huref:agreement: huref,awm.")] = "",
    pairs: Annotated[
        int, typer.Option(help="Sampled pairs of an offspring and a foreign base; -1 for all.", min=-1)
    ] = 300,
    seed: Annotated[int, typer.Option(help="Of their choice.", min=0, max=options.MAX_SEED)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes at once.", min=1, max=options.MAX_JOBS)] = 2,
    cost: Annotated[bool, typer.Option("--cost", help="Also seconds and memory of each method on SmolLM2.")] = False,
    reuse: Annotated[
        list[Path] | None, typer.Option(help="JSON of an earlier bench: answers on the same files stay.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Text file to write; the JSON document goes beside it.")] = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare pairs of known kinship by huref and by other methods.

    Who tells kin from strangers?

    Example: huref lab bench --zoo zoo --out bench.txt
    """
    options.require_place(out)
    from huref_lab.bench.benchmark import BenchOptions, run_bench, write_report
    from huref_lab.bench.report import as_text

    wanted = tuple(name.strip() for name in methods.split(",") if name.strip())
    n_other = None if pairs == -1 else pairs
    asked = BenchOptions(zoo, attacks, peers, wanted, n_other, seed, jobs, cost, tuple(reuse or ()))
    with output.progress(show) as report:
        document = run_bench(asked, report)
    if out is not None:
        write_report(document, out)
    if as_json:
        output.print_json(document)
    else:
        output.say(as_text(document))


@app.command("calibrate")
def calibrate(
    zoo: Annotated[Path, typer.Option(help="Folder of a zoo, with its zoo.json.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    version: Annotated[str, typer.Option("--as", help="What verdicts will call it.")] = "2",
    sampled: Annotated[
        int, typer.Option(help="Pairs of an offspring and a base, of each of two sorts.", min=0)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of their choice.", min=0, max=options.MAX_SEED)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes at once.", min=1, max=options.MAX_JOBS)] = 2,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare the unrelated pairs of a zoo, resumably.

    They are the background that verdicts are held against.

    Example: huref lab calibrate --zoo zoo --out calibration.json
    """
    options.require_place(out)
    from huref.kinship.verdict import save_calibration
    from huref_lab.bench.calibration import CalibrationOptions, calibrate

    with output.progress(show) as report:
        journal = out.with_name(f"{out.name}.partial")
        made = calibrate(CalibrationOptions(zoo, version, sampled, seed, jobs, journal), report)
    save_calibration(out, made)
    journal.unlink(missing_ok=True)
    if as_json:
        output.print_json(
            {"schema_version": "huref.calibration-made/1.0", "file": str(out), "pairs": len(made.pairs)}
        )
    else:
        output.say(f"{out}\n{len(made.pairs)} unrelated pairs of {len(made.made['bases'])} independent models")
