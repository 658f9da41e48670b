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
    start_from: Annotated[
        Path | None, typer.Option(help="Trained weights to grow from: fewer pixels, as many channels or fewer.")
    ] = None,
    warmup: Annotated[int, typer.Option(help="Images over which the generator's rate rises from zero.")] = 0,
    channel_base: Annotated[int, typer.Option(help="Channels of a block times its side, at most.")] = 3072,
    energy: Annotated[float, typer.Option(help="Weight of the energy distance to the photographs.")] = 60.0,
    energy_from: Annotated[int, typer.Option(help="Images before the energy distance joins the critic.")] = 24_000,
    critic_rate: Annotated[float, typer.Option(help="Learning rate of the critics.")] = 0.0002,
    cooldown: Annotated[int, typer.Option(help="Last images over which every rate falls to zero.")] = 50_000,
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
        start_from=start_from,
        warmup=warmup,
        channel_base=channel_base,
        energy=energy,
        energy_from=energy_from,
        critic_rate=critic_rate,
        cooldown=cooldown,
    )
    path = train_generator(settings)
    if as_json:
        output.print_json({"schema_version": "huref.training/1.0", "weights_file": str(path)})
    else:
        output.say(str(path))
