"""`huref train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Train the networks that huref ships."""


@app.command("generator")
def generator(
    data: Annotated[Path, typer.Option(help="Folder of pictures, searched with its subfolders.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; its checkpoint is resumed.")],
    resolution: Annotated[int, typer.Option(help="Side of the pictures in pixels, a power of two.")] = 64,
    critic: Annotated[str, typer.Option(help="projected, pixel or both.")] = "projected",
    images: Annotated[int, typer.Option(help="Photographs to show until the run ends.")] = 400_000,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long, resumably.", show_default=False)] = None,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the generator.")] = 0.0015,
    augment: Annotated[float, typer.Option(help="Probability of each disturbance of what the critics see.")] = 0.7,
    save_every: Annotated[int, typer.Option(help="Images between checkpoints.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Annotated[int, typer.Option(help="Processor threads; 0 for all cores.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train the picture generator; an interrupt saves a checkpoint, and the same command goes on from it."""
    from huref.lab.generator_training import GeneratorTraining, train_generator

    settings = GeneratorTraining(
        data=data,
        out=out,
        resolution=resolution,
        critic=critic,
        images=images,
        minutes=math.inf if minutes is None else minutes,
        batch=batch,
        learning_rate=learning_rate,
        augment=augment,
        save_every=save_every,
        seed=seed,
        threads=threads,
    )
    path = train_generator(settings)
    if as_json:
        output.print_json({"schema_version": "huref.training/1.0", "weights_file": str(path)})
    else:
        output.say(str(path))
