"""`huref generator`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Generators of pictures: measure them, convert them."""


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An official pickle, or a safetensors file of huref.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")],
    dtype: Annotated[str, typer.Option(help="float16, or float32 to lose nothing.")] = "float16",
    as_json: options.AsJson = False,
) -> None:
    """Convert official StyleGAN2 weights to safetensors; no code in the pickle is run."""
    from dataclasses import asdict

    from huref.portraits.generator.conversion import LICENCE, convert_generator

    done = convert_generator(source, target, dtype)
    if as_json:
        paths = {"weights_file": str(done.target), "note_file": str(done.note), "source": str(done.source)}
        digests = {"sha256": done.sha256, "source_sha256": done.source_sha256}
        config = asdict(done.config)
        output.print_json(
            {"schema_version": "huref.generator/1.0", **paths, **digests, "dtype": dtype, "config": config}
        )
    else:
        output.say(f"{done.target}\n{done.note}\n  sha256   {done.sha256}\n  licence  {LICENCE}")


@app.command("evaluate")
def evaluate(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Generator weights to measure.")],
    data: Annotated[Path, typer.Option(help="Folder of the photographs that it was trained on.")],
    held_out: Annotated[Path, typer.Option(help="Folder of photographs that it never saw.")],
    out: options.Out,
    samples: Annotated[int, typer.Option(help="Pictures to draw for each truncation.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the vectors.")] = 0,
    extractor: Annotated[str, typer.Option(help="mobilenetv2-dogs or resnet50-thin.")] = "mobilenetv2-dogs",
    baseline: Annotated[
        Path | None, typer.Option(help="Another generator to measure beside it.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of its training run, to draw the losses.", show_default=False)
    ] = None,
    exports: Annotated[
        Path | None, typer.Option(help="Folder of weights saved on the way, to measure each.", show_default=False)
    ] = None,
    export_samples: Annotated[int, typer.Option(help="Pictures to draw for each of those.")] = 500,
    as_json: options.AsJson = False,
) -> None:
    """Measure a generator against photographs it saw and never saw, and look for pictures learnt by heart."""
    import json

    from huref.lab.generator_evaluation import GeneratorEvaluation, evaluate_generator, evaluation_text

    settings = GeneratorEvaluation(
        weights=weights,
        data=data,
        held_out=held_out,
        out=out,
        samples=samples,
        seed=seed,
        extractor=extractor,
        baseline=baseline,
        run=run,
        exports=exports,
        export_samples=export_samples,
    )
    path = evaluate_generator(settings)
    document = json.loads(path.read_text(encoding="utf-8"))
    if as_json:
        output.print_json({"evaluation_file": str(path), **document})
    else:
        output.say(f"{evaluation_text(document)}\n{path}")
