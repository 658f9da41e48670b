"""`huref encoder`: what measures CNN encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

_Weights = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Encoder weights (safetensors).")]
_Target = Annotated[Path, typer.Argument(metavar="OUT", help="The safetensors file to write.")]


def calibrate(
    weights: _Weights,
    target: _Target,
    side: Annotated[int, typer.Option(help="K to measure batch statistics at.", min=1)] = 1024,
    samples: Annotated[int, typer.Option(help="Synthetic samples to measure them on.", min=2)] = 16,
    seed: Annotated[int, typer.Option(help="Of the samples.", min=0, max=options.MAX_SEED)] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure the batch statistics of an encoder afresh.

    To use it on another number of tokens.

    Example: huref encoder calibrate a.safetensors b.safetensors --side 4096
    """
    options.require_place(target)
    from huref_lab.encoder.evaluation import calibrate as measure

    done = measure(weights, target, side, samples, seed)
    if as_json:
        document = {"weights_file": str(target), "sha256": done.sha256, "side": done.side}
        output.print_json({"schema_version": "huref.encoder/1.0", **document})
    else:
        output.say(f"{target}\n  sha256  {done.sha256}")


def evaluate(
    weights: _Weights,
    side: Annotated[
        int | None, typer.Option(help="K of the samples; what the weights say, else 1024.", min=1)
    ] = None,
    triplets: Annotated[int, typer.Option(help="Synthetic triplets to measure on.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the samples.", min=0, max=options.MAX_SEED)] = 0,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Measure an encoder on triplets and on pairs of graded kinship.

    Example: huref encoder evaluate encoder.safetensors
    """
    from huref.fingerprints.encoder.file import load_encoder
    from huref_lab.encoder.evaluation import evaluate_encoder
    from huref_lab.encoder.network import EncoderCNN
    from huref_lab.encoder.samples import SampleShape

    found = load_encoder(weights)
    K = side or found.side or 1024
    with output.progress(show) as report:
        shape = SampleShape(K, max(4096, K), max(4096, K))
        measures = evaluate_encoder(EncoderCNN.of(found.encoder), shape, triplets, seed, report)
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
