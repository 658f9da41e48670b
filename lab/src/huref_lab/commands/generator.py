"""`huref generator`: what measures generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from huref.cli import options, output

Extractor = Literal["mobilenetv2-dogs", "resnet50-thin"]


def evaluate(
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Generator weights to measure.")],
    data: Annotated[Path, typer.Option(help="Folder of the photographs that it was trained on.")],
    held_out: Annotated[Path, typer.Option(help="Folder of photographs that it never saw.")],
    out: options.Out,
    samples: Annotated[int, typer.Option(help="Pictures to draw for each truncation.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Of the vectors.", min=0, max=options.MAX_SEED)] = 0,
    extractor: Annotated[Extractor, typer.Option(help="What measures pictures.")] = "mobilenetv2-dogs",
    baseline: Annotated[
        Path | None, typer.Option(help="Another generator to measure beside it.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of its training run, to draw the losses.", show_default=False)
    ] = None,
    exports: Annotated[
        Path | None, typer.Option(help="Folder of weights saved on the way, to measure each.", show_default=False)
    ] = None,
    export_samples: Annotated[int, typer.Option(help="Pictures to draw for each of those.", min=1)] = 500,
    as_json: options.AsJson = False,
) -> None:
    """Measure a generator against photographs.

    Those that it saw and those that it never saw; looks for pictures learnt by heart.

    Example: huref generator evaluate weights --data a --held-out b --out c
    """
    import json

    from huref_lab.generator.evaluation import GeneratorEvaluation, evaluate_generator, evaluation_text

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
