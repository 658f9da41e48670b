"""What the measures of pictures can tell, on real photographs: is a disturbed photograph still known, and by which
measure; and a ruler for the kernel distance: photographs at ever lower resolutions.

    .venv/bin/python lab/benchmarks/image_measures.py TRAINING HELD_OUT

Both are folders of photographs of one kind, of which no picture leaves this process. Needs the extras `study` and
`train` and the default extractor's package (docs/reference/generator-evaluation.md).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from huref.portraits.image.pixels import Pixels, resize
from huref_lab.generator.figures import Photographs
from huref_lab.pictures.efficientnet_lite import load_efficientnet
from huref_lab.pictures.embedding import EXTRACTORS, Embedding, load_embedding
from huref_lab.pictures.sample_distances import kernel_distance, precision_recall
from huref_lab.pictures.similarity import cosines, similarity_matrix
from measure import machine, verdict

SIDE = 128
SEEDS = 3


def disturb(pixels: Pixels, seed: int) -> Pixels:
    """Each photograph cut (75 to 95 % of its side), turned up to 12 degrees, lightened or darkened, half mirrored."""
    rng = np.random.default_rng(seed)
    changed = []
    for picture in pixels:
        side = int(SIDE * rng.uniform(0.75, 0.95))
        left, top = rng.integers(0, SIDE - side + 1, 2)
        cut = Image.fromarray(picture).crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        levels = np.asarray(cut.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)).astype(np.float64)
        levels = (levels - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-25, 25)
        changed.append(levels[:, :: rng.choice((-1, 1))].clip(0, 255).astype(np.uint8))
    return np.stack(changed)


class CriticsView(Embedding):
    """The last features of the network that the generator is trained against, for comparison only."""

    def __init__(self) -> None:
        network = load_efficientnet()
        super().__init__("the critic's own", lambda levels: network(levels / 127.5 - 1)[-1].mean((2, 3)), 160)


def retrieval(pixels: Pixels) -> dict[str, list[float]]:
    """By measure: share of disturbed photographs nearest to their own, and d' of own against others."""
    found: dict[str, list[list[float]]] = {}
    embeddings = [load_embedding(name) for name in EXTRACTORS] + [CriticsView()]
    for seed in range(SEEDS):
        changed = disturb(pixels, seed)
        tables = {embed.name: cosines(embed(pixels), embed(changed)) for embed in embeddings}
        tables |= {name: similarity_matrix(pixels, changed, name) for name in ("ssim", "phash")}
        for name, likeness in tables.items():
            own, others = np.diag(likeness), likeness[~np.eye(len(likeness), dtype=bool)]
            spread = np.sqrt((own.var() + others.var()) / 2)
            right = (likeness.argmax(axis=0) == np.arange(len(likeness))).mean()
            found.setdefault(name, []).append([right, (own.mean() - others.mean()) / spread])
    return {name: list(np.mean(rows, axis=0)) for name, rows in found.items()}


def print_rows(rows: list[list[str]]) -> None:
    """Columns, the first one to the left."""
    for first, *others in rows:
        print(f"{first:<26}" + "".join(f"{text:>24}" for text in others))


def main() -> None:
    """Everything, then exit code 1 if a goal was missed."""
    print(machine())
    folders = [Path(argument) for argument in sys.argv[1:3]]
    goals = []
    for name in EXTRACTORS:
        embed = load_embedding(name)
        known = Photographs.load(folders[0], folders[1], SIDE, embed)
        if name == next(iter(EXTRACTORS)):
            found = retrieval(known.held_out)
            print(f"\n{len(known.held_out)} held-out photographs, each disturbed {SEEDS} times: which one is it?")
            print_rows([["measure", "found", "d'"], *([m, f"{a:.3f}", f"{d:.2f}"] for m, (a, d) in found.items())])
            goals.append(verdict("the default extractor finds 95 %", found[name][0] >= 0.95, f"{found[name][0]:.3f}"))
        rows = [["held-out photographs at", "kernel distance x 1000", "error"]]
        for side in (SIDE, 96, 64, 48, 32):
            reduced = np.stack([resize(resize(picture, side), SIDE) for picture in known.held_out])
            distance = kernel_distance(embed(reduced), known.training_features)
            rows.append([f"{side} px", f"{1e3 * distance.value:.2f}", f"{1e3 * distance.error:.2f}"])
        print(f"\n{name}: against {len(known.training)} training photographs")
        print_rows(rows)
        halves = known.training_features[::2], known.training_features[1::2]
        distance, (precision, recall) = kernel_distance(*halves), precision_recall(*halves)
        print(
            f"half the photographs against the other half: {1e3 * distance.value:.2f} +- {1e3 * distance.error:.2f}, "
        )
        print(f"precision {precision:.3f}, recall {recall:.3f}")
        at_floor = abs(distance.value) < 3 * distance.error
        goals.append(verdict(f"{name}: halves are no distance apart", at_floor, f"{1e3 * distance.value:.2f}"))
    sys.exit(0 if all(goals) else 1)


if __name__ == "__main__":
    main()
