"""Figures of made pictures against photographs: likeness of the two distributions, variety, learning by heart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huref.portraits.image.contact_sheet import contact_sheet
from huref.portraits.image.pixels import Pixels, resize
from huref_lab.pictures.embedding import Embedding
from huref_lab.pictures.folder import load_images
from huref_lab.pictures.sample_distances import Features, kernel_distance, nearest, precision_recall
from huref_lab.pictures.similarity import cosines

QUANTILES = (0.01, 0.1, 0.5)
SHEET_ROWS = 12
COARSE = 32
"""Side at which pictures are compared pixel by pixel."""


@dataclass(frozen=True)
class Photographs:
    """Photographs and their features: those trained on, and those held out.

    Args:
        training, held_out: uint8 (n, side, side, 3).
        training_features, held_out_features: (n, d).
        blurred_features: of the held-out photographs reduced to half their side and enlarged again, (n, d).
    """

    training: Pixels
    held_out: Pixels
    training_features: Features
    held_out_features: Features
    blurred_features: Features

    @classmethod
    def load(cls, training: Path, held_out: Path, side: int, embed: Embedding) -> Photographs:
        """Both folders, every picture at `side` pixels."""
        stacks = [
            np.ascontiguousarray(load_images(folder, side).permute(0, 2, 3, 1).numpy())
            for folder in (training, held_out)
        ]
        blurred = np.stack([resize(resize(picture, side // 2), side) for picture in stacks[1]])
        return cls(stacks[0], stacks[1], embed(stacks[0]), embed(stacks[1]), embed(blurred))


def floor(photographs: Photographs) -> dict[str, Any]:
    """What photographs against photographs give: no generator can be expected to do better.

    The distance of blurred photographs says what a figure means to the eye: it is that of flawless dogs at half the
    resolution.
    """
    even, odd = photographs.training_features[::2], photographs.training_features[1::2]
    precision, recall = precision_recall(even, odd)
    return {
        "kernel_distance": asdict(kernel_distance(photographs.held_out_features, photographs.training_features)),
        "kernel_distance_half_size": asdict(
            kernel_distance(photographs.blurred_features, photographs.training_features)
        ),
        "precision": precision,
        "recall": recall,
        "diversity": diversity(photographs.training_features),
    }


def judge(made: Features, photographs: Photographs) -> dict[str, Any]:
    """The figures of one set of made pictures.

    Precision and recall depend on how many points there are, so that as many made pictures as half the photographs
    are held against one half, as `floor` holds the other half against it.
    """
    odd = photographs.training_features[1::2]
    precision, recall = precision_recall(made[: len(photographs.training_features[::2])], odd)
    return {
        "kernel_distance_held_out": asdict(kernel_distance(made, photographs.held_out_features)),
        "kernel_distance_training": asdict(kernel_distance(made, photographs.training_features)),
        "precision": precision,
        "recall": recall,
        "diversity": diversity(made),
    }


def diversity(features: Features) -> float:
    """Mean of 1 - cosine over all pairs: how different two pictures of one set are."""
    table = cosines(features, features)
    n = len(table)
    return float(1.0 - (table.sum() - np.trace(table)) / (n * (n - 1)))


def memorisation(made: Pixels, made_features: Features, photographs: Photographs) -> dict[str, Any]:
    """How near made pictures come to a training photograph, and how near photographs never seen come to one.

    A generator that learnt by heart is nearer than an unseen photograph ever is: `share_nearer` counts the made
    pictures nearer than the nearest hundredth of the held-out photographs. In features, and in coarse pixels, where
    training photographs count mirrored too, as they were shown.
    """
    both = np.concatenate([photographs.training, photographs.training[:, :, ::-1]])
    tables = {
        "features": (made_features, photographs.held_out_features, photographs.training_features),
        "pixels": (coarse(made), coarse(photographs.held_out), coarse(both)),
    }
    found = {}
    for name, (a, b, known) in tables.items():
        of_made, of_unseen = (nearest(rows, known, 1)[1][:, 0] for rows in (a, b))
        found[name] = {
            "made_to_training": _quantiles(of_made),
            "held_out_to_training": _quantiles(of_unseen),
            "share_nearer": float((of_made < np.quantile(of_unseen, QUANTILES[0])).mean()),
        }
    return found


def _quantiles(values: Features) -> dict[str, float]:
    return {f"{100 * q:g}%": float(np.quantile(values, q)) for q in QUANTILES}


def coarse(pixels: Pixels) -> NDArray[np.float32]:
    """Pictures as rows of 32 x 32 colours, scaled so that a distance of rows is a root mean square in levels."""
    small = np.stack([resize(picture, COARSE) for picture in pixels]).reshape(len(pixels), -1)
    return np.asarray(small.astype(np.float32) / np.sqrt(small.shape[1]), dtype=np.float32)


def nearest_sheet(made: Pixels, made_features: Features, photographs: Photographs) -> Pixels:
    """Made pictures, each with its three nearest training photographs; half are the most suspicious, half the first.

    It shows photographs: it is for the eyes of whoever has them.
    """
    order, distance = nearest(made_features, photographs.training_features, 3)
    suspects = np.argsort(distance[:, 0], kind="stable")[: SHEET_ROWS // 2]
    others = [k for k in range(len(made)) if k not in suspects][: SHEET_ROWS - len(suspects)]
    images, labels = [], []
    for kind, rows in (("nearest", suspects), ("as drawn", others)):
        for row in rows:
            images += [made[row], *photographs.training[order[row]]]
            labels += [f"made {row}\n{kind}", *(f"photograph\n{d:.2f}" for d in distance[row])]
    return contact_sheet(images, labels, columns=8, side=128)
