"""What a training run hands over: sample sheets, fp16 weights, a model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.files.atomic import write_atomically
from huref.portraits.generator.file import save_generator
from huref.portraits.generator.stylegan2 import Generator
from huref.portraits.image.png import save_png
from huref.portraits.image.rendering import render

SHEET_SEED = 7

CARD = """# {name}

A StyleGAN2 generator (`huref.portraits.generator.stylegan2`): {count:.2f} million parameters, averaged
over the run, fp16. {config}.

sha256 `{digest}`

## Training
`huref train generator`: {photographs} pictures, {images} shown in all (mirrored half of the time), {minutes:.1f} min.
Losses at the end (running means): {losses}.

| until image | settings |
|---|---|
{phases}

## Data, licence, looks
To be filled in by whoever publishes these weights: where the pictures come from, what their owners allow, what the
samples show. Weights trained on pictures carry the limits of those pictures.
"""


@dataclass(frozen=True)
class Provenance:
    """Where weights come from.

    Args:
        images: photographs shown in all.
        photographs: size of the training set.
        seconds: time spent.
        phases: the settings of each phase, with the count of images at its end.
        losses: running means at the end.
    """

    images: int
    photographs: int
    seconds: float
    phases: tuple[dict[str, Any], ...]
    losses: dict[str, float]


def write_sheet(generator: Generator, path: Path, *, columns: int = 8) -> None:
    """The same 64 vectors on every sheet: left at the paper's psi 0.5, right untruncated."""
    z = np.random.default_rng(SHEET_SEED).standard_normal((columns * columns, generator.config.z_dim))
    halves = []
    for psi in (0.5, 1.0):
        pixels = render(z, generator, psi=psi)
        rows = pixels.reshape(columns, columns, *pixels.shape[1:])
        halves.append(rows.transpose(0, 2, 1, 3, 4).reshape(columns * pixels.shape[1], -1, 3))
    gap = halves[0][:, :8] * 0 + 255
    save_png(path, np.concatenate([halves[0], gap, halves[1]], axis=1), {})


def export_generator(generator: Generator, path: Path, provenance: Provenance) -> Path:
    """Writes the weights in half precision, with their provenance in the metadata, and a model card beside them."""
    digest = save_generator(generator, path, asdict(provenance))
    card = model_card(generator, path.name, digest, provenance)
    write_atomically(path.with_suffix(".md"), card.encode())
    return path


def model_card(generator: Generator, name: str, digest: str, provenance: Provenance) -> str:
    """What a run can say about its weights by itself; data, licence and looks are for a person to add."""
    config = ", ".join(f"{key} {value}" for key, value in asdict(generator.config).items())
    losses = ", ".join(f"{key} {value:.3f}" for key, value in provenance.losses.items())
    phases = "\n".join(_phase_row(phase) for phase in provenance.phases)
    return CARD.format(
        name=name,
        digest=digest,
        count=generator.config.parameter_count / 1e6,
        config=config,
        photographs=provenance.photographs,
        images=provenance.images,
        minutes=provenance.seconds / 60,
        losses=losses,
        phases=phases,
    )


def _phase_row(phase: dict[str, Any]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in phase.items() if key != "until_images")
    return f"| {phase['until_images']} | {settings} |"
