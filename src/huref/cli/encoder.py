"""`huref encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_Weights = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Encoder weights (safetensors).")]
_Target = Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")]


@app.callback()
def group() -> None:
    """CNN encoders: convert them, measure them."""


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An encoder.pth of the official kind.")],
    target: _Target,
    side: Annotated[int, typer.Option(help="K that it was trained at; 0 if unknown.")] = 4096,
    as_json: options.AsJson = False,
) -> None:
    """Convert an official CNN encoder to safetensors; no code in the pickle is run."""
    from huref.fingerprints.encoder.conversion import convert_encoder

    done = convert_encoder(source, target, side)
    if as_json:
        digests = {"sha256": done.sha256, "source_sha256": done.source_sha256}
        files = {"weights_file": str(done.target), **digests, "layers": list(done.layers)}
        output.print_json({"schema_version": "huref.encoder/1.0", **files})
    else:
        output.say(f"{done.target}\n  sha256  {done.sha256}\n  layers  {', '.join(done.layers)}")


@app.command("calibrate")
def calibrate(
    weights: _Weights,
    target: _Target,
    side: Annotated[int, typer.Option(help="K to measure batch statistics at, a multiple of 256.")] = 1024,
    samples: Annotated[int, typer.Option(help="Synthetic samples to measure them on.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure the batch statistics of an encoder afresh, to use it on another number of tokens."""
    from huref.lab.encoder_evaluation import calibrate as measure

    done = measure(weights, target, side, samples, seed)
    if as_json:
        document = {"weights_file": str(target), "sha256": done.sha256, "side": done.side}
        output.print_json({"schema_version": "huref.encoder/1.0", **document})
    else:
        output.say(f"{target}\n  sha256  {done.sha256}")


@app.command("evaluate")
def evaluate(
    weights: _Weights,
    side: Annotated[int | None, typer.Option(help="K of the samples; what the weights say, else 1024.")] = None,
    triplets: Annotated[int, typer.Option(help="Synthetic triplets to measure on.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure an encoder on held-out synthetic triplets and on pairs of graded kinship."""
    from huref.fingerprints.encoder.file import load_encoder
    from huref.lab.encoder_evaluation import evaluate_encoder
    from huref.lab.encoder_samples import SampleShape

    found = load_encoder(weights)
    K = side or found.side or 1024
    with output.progress() as report:
        shape = SampleShape(K, max(4096, K), max(4096, K))
        measures = evaluate_encoder(found.encoder, shape, triplets, seed, report)
    if as_json:
        document = {"schema_version": "huref.encoder_evaluation/1.0", "sha256": found.sha256}
        output.print_json({**document, **measures.to_dict()})
        return
    lines = [
        f"K {K}, {triplets} triplets",
        f"  cos(anchor, positive)    {measures.near:.4f}  (inputs {shape.correlation:.4f})",
        f"  |cos(anchor, negative)|  {measures.far:.4f}",
        f"  kurtosis                 {measures.kurtosis:.3f}",
        *(f"  inputs at {rho:4.2f}: vectors at {value:.4f}" for rho, value in measures.graded.items()),
    ]
    output.say("\n".join(lines))
