"""How good is a picture generator, and has it merely learnt its photographs by heart: `huref generator evaluate`.

Everything is measured with an extractor that the generator was not trained against (`pictures.embedding`),
against photographs that it saw and photographs that it never saw, and every figure stands beside the same figure of
photographs against photographs: a distance of made pictures means nothing without that floor.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huref.errors import UsageError
from huref.files.atomic import make_folder, write_atomically
from huref.portraits.generator.file import open_generator, read_metadata
from huref.portraits.generator.stylegan2 import PAPER_PSI, Generator
from huref.portraits.image.pixels import Pixels, resize
from huref.portraits.image.png import save_png
from huref.portraits.image.rendering import CUTOFF, render
from huref_lab.generator.curve import ExportScore, curve_svg, read_log, score_files
from huref_lab.generator.figures import Photographs, floor, judge, memorisation, nearest_sheet
from huref_lab.pictures.embedding import DEFAULT, Embedding, load_embedding
from huref_lab.pictures.sample_distances import Estimate, kernel_distance

SCHEMA = "huref.generator-evaluation/1.0"
LEAST_SAMPLES = 16


@dataclass(frozen=True)
class GeneratorEvaluation:
    """What to measure.

    Args:
        weights: the generator.
        data: folder of the photographs that it was trained on.
        held_out: folder of photographs that it never saw.
        out: folder for `evaluation.json`, `nearest.png` and `curve.svg`. The second shows photographs.
        samples: pictures drawn for each truncation.
        seed: of the vectors.
        extractor: one of `image_embedding.EXTRACTORS`.
        baseline: another generator, measured alike; its pictures are resized to those of `weights`.
        run: folder of the training run, whose `log.jsonl` is drawn.
        exports: folder of weights saved during the run, each of which is measured with at most `export_samples`.
        export_samples: see there.
    """

    weights: Path
    data: Path
    held_out: Path
    out: Path
    samples: int = 2000
    seed: int = 0
    extractor: str = DEFAULT
    baseline: Path | None = None
    run: Path | None = None
    exports: Path | None = None
    export_samples: int = 500

    def __post_init__(self) -> None:
        for name in ("samples", "export_samples"):
            if getattr(self, name) < LEAST_SAMPLES:
                raise UsageError(
                    "too few samples to measure",
                    where=f"--{name.replace('_', '-')}",
                    expected=f"{LEAST_SAMPLES} or more",
                    got=str(getattr(self, name)),
                )


def evaluate_generator(settings: GeneratorEvaluation) -> Path:
    """Measures a generator and writes what it found.

    Returns:
        `evaluation.json` in `settings.out`.

    Raises:
        UsageError: too few photographs or samples, or an unknown extractor.
        MissingFileError: the extractor is not installed.
        InputError: a generator, a photograph or a log that cannot be read.
        OutputError: the output folder cannot be written.
    """
    make_folder(settings.out)
    embed = load_embedding(settings.extractor)
    generator = open_generator(settings.weights)
    side = generator.config.resolution
    photographs = Photographs.load(settings.data, settings.held_out, side, embed)
    vectors = draw_vectors(settings.samples, generator.config.z_dim, settings.seed)
    full = draw(generator, vectors, 1.0, side)
    full_features = embed(full)
    shown = embed(draw(generator, vectors, PAPER_PSI, side))
    document: dict[str, Any] = {
        "schema_version": SCHEMA,
        "weights": describe(settings.weights, generator),
        "extractor": settings.extractor,
        "samples": settings.samples,
        "seed": settings.seed,
        "photographs": {"training": len(photographs.training), "held_out": len(photographs.held_out)},
        "floor": floor(photographs),
        "generator": [
            {"psi": psi, **judge(made, photographs)} for psi, made in ((1.0, full_features), (PAPER_PSI, shown))
        ],
        "memorisation": memorisation(full, full_features, photographs),
    }
    if settings.baseline is not None:
        document["baseline"] = _judge_other(settings.baseline, settings, side, embed, photographs)
    save_png(settings.out / "nearest.png", nearest_sheet(full, full_features, photographs), {})
    scores = evaluate_exports(settings, side, embed, photographs) if settings.exports else []
    document["exports"] = [asdict(score) for score in scores]
    if settings.run or scores:
        log = read_log(settings.run) if settings.run else []
        floor_value = Estimate(**document["floor"]["kernel_distance"])
        write_atomically(settings.out / "curve.svg", curve_svg(log, scores, floor_value).encode())
    path = settings.out / "evaluation.json"
    write_atomically(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    return path


def draw_vectors(count: int, length: int, seed: int) -> NDArray[np.float32]:
    """Gaussian vectors (count, length)."""
    return np.random.default_rng(seed).standard_normal((count, length), dtype=np.float32)


def draw(generator: Generator, vectors: NDArray[np.float32], psi: float, side: int) -> Pixels:
    """Pictures of vectors, resized to `side`: uint8 (n, side, side, 3)."""
    pictures = render(vectors, generator, psi=psi, cutoff=CUTOFF)
    return pictures if pictures.shape[1] == side else np.stack([resize(picture, side) for picture in pictures])


def describe(path: Path, generator: Generator) -> dict[str, Any]:
    """Which weights were measured."""
    data = path.read_bytes()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "resolution": generator.config.resolution,
        "parameters": generator.config.parameter_count,
        "images": shown_images(path),
    }


def shown_images(path: Path) -> int | None:
    """How many photographs a generator had been shown when it was saved, if its file says so."""
    try:
        images = json.loads(read_metadata(path.read_bytes())["notes"])["images"]
    except (ValueError, KeyError, TypeError):
        return None
    return images if isinstance(images, int) else None


def evaluate_exports(
    settings: GeneratorEvaluation, side: int, embed: Embedding, photographs: Photographs
) -> list[ExportScore]:
    """The kernel distance of every export of a run, in the order of the images that it was shown.

    Figures already in `exports.json` of the output folder, of the same file and settings, are not measured again.
    """
    folder = settings.exports
    files = sorted(folder.glob("*.safetensors")) if folder and folder.is_dir() else []
    if not files:
        raise UsageError("no exports to measure", where=str(folder), expected="*.safetensors files")
    return score_files(
        settings.out / "exports.json",
        files,
        f"{settings.extractor}, {settings.export_samples} samples, seed {settings.seed}, side {side}",
        lambda path: _score(path, settings, side, embed, photographs),
    )


def _score(
    path: Path, settings: GeneratorEvaluation, side: int, embed: Embedding, photographs: Photographs
) -> ExportScore:
    generator = open_generator(path)
    vectors = draw_vectors(settings.export_samples, generator.config.z_dim, settings.seed)
    made = embed(draw(generator, vectors, 1.0, side))
    return ExportScore(
        path.name,
        shown_images(path) or 0,
        kernel_distance(made, photographs.held_out_features),
        kernel_distance(made, photographs.training_features),
    )


def _judge_other(
    path: Path, settings: GeneratorEvaluation, side: int, embed: Embedding, photographs: Photographs
) -> dict[str, Any]:
    generator = open_generator(path)
    vectors = draw_vectors(settings.samples, generator.config.z_dim, settings.seed)
    figures = [
        {"psi": psi, **judge(embed(draw(generator, vectors, psi, side)), photographs)} for psi in (1.0, PAPER_PSI)
    ]
    return {"weights": describe(path, generator), "generator": figures}


def evaluation_text(document: dict[str, Any]) -> str:
    """The figures of an `evaluation.json` for people."""
    base = document["floor"]
    lines = [
        f"{document['weights']['file']}: kernel distance x 1000 of {document['samples']} pictures, "
        f"features of {document['extractor']} (no FID)",
        f"{'':<28}{'held-out':>16}{'training':>16}{'precision':>11}{'recall':>8}{'diversity':>11}",
        f"{'held-out photographs':<28}{'':>16}{_written(base['kernel_distance']):>16}{_row(base)}",
        f"{'the same at half the side':<28}{'':>16}{_written(base['kernel_distance_half_size']):>16}",
    ]
    rows = [("", document["generator"]), ("baseline ", document.get("baseline", {}).get("generator", []))]
    for name, figures in rows:
        for row in figures:
            distances = [_written(row[f"kernel_distance_{which}"]) for which in ("held_out", "training")]
            lines.append(f"{name + 'psi ' + str(row['psi']):<28}{distances[0]:>16}{distances[1]:>16}{_row(row)}")
    for name, found in document["memorisation"].items():
        made, unseen = found["made_to_training"]["50%"], found["held_out_to_training"]["50%"]
        lines.append(
            f"nearest training photograph in {name}, median: made {made:.2f}, held-out {unseen:.2f}; "
            f"suspiciously near {100 * found['share_nearer']:.1f} % (1 % by chance)"
        )
    return "\n".join(lines)


def _written(distance: dict[str, float]) -> str:
    return f"{1e3 * distance['value']:.1f} +- {1e3 * distance['error']:.1f}"


def _row(row: dict[str, Any]) -> str:
    return f"{row['precision']:>11.3f}{row['recall']:>8.3f}{row['diversity']:>11.3f}"
