"""`huref train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from huref.cli import options, output

Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after so long, resumably.", show_default=False, min=0, callback=options.finite),
]
Threads = Annotated[int, typer.Option(help="Processor threads; 0 for all cores.", min=0, max=options.MAX_JOBS)]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0, max=options.MAX_SEED)]


def _multiple_of_256(side: int) -> int:
    """K of a network that halves it eight times."""
    if side % 256:
        raise typer.BadParameter(f"{side} is no multiple of 256.")
    return side


def _power_of_two(side: int) -> int:
    """Side of pictures that a generator doubles up to."""
    if side & (side - 1):
        raise typer.BadParameter(f"{side} is no power of two.")
    return side


Critic = Literal["projected", "pixel", "both"]
Negatives = Literal["fresh", "others"]
Folder = Annotated[Path, typer.Option(help="Folder to write to; its checkpoint is resumed.")]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Train the networks that huref ships.

    Example: huref train generator --data dogs --out run
    """


@app.command("encoder")
def encoder(
    out: Folder,
    side: Annotated[int, typer.Option(help="K of the synthetic terms.", min=256, callback=_multiple_of_256)] = 1024,
    width: Annotated[int, typer.Option(help="Width of the synthetic models, K or more.", min=1)] = 4096,
    steps: Annotated[int, typer.Option(help="Steps of the whole run; the rate falls along a cosine.", min=1)] = 1000,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(help="Triplets a step.", min=1)] = 10,
    negatives: Annotated[Negatives, typer.Option(help="others: each other's anchors.")] = "fresh",
    learning_rate: Annotated[
        float, typer.Option(help="Learning rate at the start.", min=0, callback=options.finite)
    ] = 1e-4,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 100,
    evaluate_every: Annotated[int, typer.Option(help="Steps between looks at held-out triplets.", min=1)] = 20,
    seed: Seed = 0,
    threads: Threads = 0,
    as_json: options.AsJson = False,
) -> None:
    """Train the CNN encoder on synthetic terms.

    An interrupt saves, and the same command goes on.

    Example: huref train encoder --out run --minutes 30
    """
    from huref_lab.encoder.training import EncoderTraining, train_encoder

    settings = EncoderTraining(
        out,
        side=side,
        width=width,
        rank=width,
        steps=steps,
        minutes=math.inf if minutes is None else minutes,
        batch=batch,
        negatives=negatives,
        learning_rate=learning_rate,
        save_every=save_every,
        evaluate_every=evaluate_every,
        seed=seed,
        threads=threads,
    )
    _say(train_encoder(settings), as_json)


def _rate(text: str) -> Any:
    """An option for a finite number of at least 0."""
    return typer.Option(help=text, min=0, callback=options.finite)


@app.command("generator")
def generator(
    data: Annotated[Path, typer.Option(help="Folder of pictures, searched with its subfolders.")],
    out: Folder,
    resolution: Annotated[
        int, typer.Option(help="Side of the pictures in pixels.", min=8, callback=_power_of_two)
    ] = 64,
    critic: Annotated[Critic, typer.Option(help="What judges pictures.")] = "projected",
    images: Annotated[int, typer.Option(help="Photographs to show until the run ends.", min=1)] = 400_000,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(help="Pictures a step.", min=1)] = 16,
    learning_rate: Annotated[float, _rate("Learning rate of the generator.")] = 0.0015,
    augment: Annotated[
        float, typer.Option(help="Probability of each disturbance of what the critics see.", min=0, max=1)
    ] = 0.7,
    save_every: Annotated[int, typer.Option(help="Images between checkpoints.", min=1)] = 10_000,
    seed: Seed = 0,
    threads: Threads = 0,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Trained weights, or a run's folder, to grow from; not larger."),
    ] = None,
    mapping_layers: Annotated[int, typer.Option(help="Layers from the vector to the style.", min=1)] = 8,
    mapping_boost: Annotated[float, _rate("Their learning rate, relative to the generator's.")] = 10.0,
    even_out: Annotated[
        int, typer.Option(help="Visible directions of style to even out before the start.", min=0)
    ] = 0,
    readability: Annotated[float, _rate("Weight of the line-up loss: kin alike, strangers not.")] = 0.0,
    warmup: Annotated[int, typer.Option(help="Images over which the generator's rate rises from zero.", min=0)] = 0,
    channel_base: Annotated[int, typer.Option(help="Channels of a block times its side, at most.", min=1)] = 3072,
    energy: Annotated[float, _rate("Weight of the energy distance to the photographs.")] = 60.0,
    energy_from: Annotated[
        int, typer.Option(help="Images before the energy distance joins the critic.", min=0)
    ] = 24_000,
    critic_rate: Annotated[float, _rate("Learning rate of the critics.")] = 0.0002,
    pixel_weight: Annotated[float, _rate("Of the pixel critic beside the projected one.")] = 0.5,
    pixel_rate: Annotated[float, _rate("Learning rate of the pixel critic.")] = 0.0015,
    cooldown: Annotated[int, typer.Option(help="Last images over which every rate falls to zero.", min=0)] = 50_000,
    as_json: options.AsJson = False,
) -> None:
    """Train the picture generator.

    An interrupt saves a checkpoint, and the same command goes on from it.

    Example: huref train generator --data dogs --out run
    """
    from huref_lab.generator.training import GeneratorTraining, train_generator

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
        mapping_layers=mapping_layers,
        mapping_boost=mapping_boost,
        even_out=even_out,
        readability=readability,
        warmup=warmup,
        channel_base=channel_base,
        energy=energy,
        energy_from=energy_from,
        critic_rate=critic_rate,
        pixel_weight=pixel_weight,
        pixel_rate=pixel_rate,
        cooldown=cooldown,
    )
    _say(train_generator(settings), as_json)


def _say(weights: Path, as_json: bool) -> None:
    """What both commands print."""
    if as_json:
        output.print_json({"schema_version": "huref.training/1.0", "weights_file": str(weights)})
    else:
        output.say(str(weights))
