"""What a CNN encoder does to held-out triplets and to pairs of graded kinship; its batch statistics measured afresh.

For inputs that look isotropic, the cosine of two vectors is a function k of the correlation rho of the inputs, and
k(rho) <= rho where independent inputs give orthogonal vectors: no encoder makes kin look more alike than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from huref.errors import UsageError
from huref.fingerprints.encoder.file import EncoderWeights, load_encoder, save_encoder
from huref.progress import Progress, Report
from huref_lab.encoder.network import EncoderCNN, standardised_terms
from huref_lab.encoder.samples import SampleShape, draw_one, draw_triplets, stream

GRADES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.1, 0.0)

_TRIPLETS, _GRADED, _STATISTICS = range(100, 103)
"""Streams of random numbers that no training run draws from."""


@dataclass(frozen=True)
class EncoderMeasures:
    """What `evaluate_encoder` found, at one K.

    Attributes:
        side: K.
        triplets: how many.
        near: mean cosine of anchor and positive, whose entries correlate by `correlation`.
        far: mean absolute cosine of anchor and negative; independent normal vectors of 512 numbers give 0.035.
        far_signed: mean cosine of anchor and negative, 0 for a right encoder.
        kurtosis: of the vectors' numbers; 3 for normal ones.
        correlation: of the entries of anchor and positive.
        graded: mean cosine of the vectors of two inputs, by the correlation of the inputs.
    """

    side: int
    triplets: int
    near: float
    far: float
    far_signed: float
    kurtosis: float
    correlation: float
    graded: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"graded": [[rho, cosine] for rho, cosine in self.graded.items()]}


@torch.inference_mode()
def evaluate_encoder(
    encoder: EncoderCNN, shape: SampleShape, n: int = 8, seed: int = 0, report: Report | None = None
) -> EncoderMeasures:
    """Measure an encoder in evaluation mode, sample by sample, in float32.

    Args:
        encoder: in evaluation mode.
        shape: of the samples.
        n: triplets, and pairs for each grade.
        seed: of the samples, which no training run sees.
        report: called with a `Progress` for each triplet.
    """
    triplets, grades = [], []
    for k in range(n):
        if report:
            report(Progress("measuring the encoder", k, n, "triplet"))
        triplets.append(_encoded(encoder, draw_triplets(shape, 1, stream(seed, _TRIPLETS, k))))
        grades.append(_encoded(encoder, _graded_inputs(shape, GRADES, stream(seed, _GRADED, k))))
    anchors, positives, negatives = torch.stack(triplets, dim=1)
    graded = torch.stack(grades, dim=1)
    far = _cosines(anchors, negatives)
    return EncoderMeasures(
        side=shape.side,
        triplets=n,
        near=float(_cosines(anchors, positives).mean()),
        far=float(far.abs().mean()),
        far_signed=float(far.mean()),
        kurtosis=float(anchors.pow(4).mean() / anchors.pow(2).mean().square()),
        correlation=shape.correlation,
        graded={rho: float(_cosines(graded[0], row).mean()) for rho, row in zip(GRADES, graded, strict=True)},
    )


def measure_statistics(encoder: EncoderCNN, shape: SampleShape, samples: int, seed: int = 0, batch: int = 8) -> None:
    """Set the batch statistics to those of fresh samples, in place; the weights stay as they are.

    A run of few steps, or another K than the one trained at, leaves them wrong, and then vectors share a component
    that is no likeness.

    Args:
        samples: anchors to draw, at least `batch`.
        batch: samples normalised together.
    """
    momenta = [norm.momentum for norm in encoder.norms]
    for norm in encoder.norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]
    encoder.train()
    with torch.no_grad():
        for start in range(0, max(samples // batch, 1)):
            encoder(_anchors(shape, batch, stream(seed, _STATISTICS, start)))
    for norm, momentum in zip(encoder.norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.eval()


def calibrate(source: Path, target: Path, side: int, samples: int = 16, seed: int = 0) -> EncoderWeights:
    """Write an encoder with batch statistics of another K.

    Raises:
        UsageError: a K that the encoder cannot take.
        WeightsError: the source cannot be read.
        OutputError: the target cannot be written.
    """
    weights = load_encoder(source)
    multiple = weights.encoder.config.multiple
    if side < 1 or side % multiple or samples < 2:
        raise UsageError(
            "no statistics can be measured so",
            where="--side" if side < 1 or side % multiple else "--samples",
            expected=f"a side that is a multiple of {multiple}, and 2 samples or more",
            got=f"{side}, {samples}",
            next_step="huref encoder calibrate --help",
        )
    shape = SampleShape(side, max(4096, side), max(4096, side), weights.encoder.config.inputs)
    encoder = EncoderCNN.of(weights.encoder)
    measure_statistics(encoder, shape, samples, seed, min(8, samples))
    calibration = {"side": side, "samples": samples, "seed": seed, "source_sha256": weights.sha256}
    save_encoder(encoder.encoding(), target, {**weights.notes, "side": side, "calibration": calibration})
    return load_encoder(target)


def _encoded(encoder: EncoderCNN, batch: Tensor) -> Tensor:
    """(n, d) vectors, one sample at a time: memory stays small."""
    return torch.cat([encoder(sample[None]) for sample in batch])


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1)


def _anchors(shape: SampleShape, n: int, random: torch.Generator) -> Tensor:
    """(n, inputs, side, side) standardised fresh samples."""
    return torch.stack([_sample(shape, random) for _ in range(n)])


def _sample(shape: SampleShape, random: torch.Generator) -> Tensor:
    return standardised_terms(torch.stack([draw_one(shape, random) for _ in range(shape.inputs)]))


def _graded_inputs(shape: SampleShape, grades: Sequence[float], random: torch.Generator) -> Tensor:
    """(grades, inputs, side, side): mixtures of two fresh samples, whose correlation with the first is the grade."""
    first, other = _sample(shape, random), _sample(shape, random)
    return torch.stack([standardised_terms(rho * first + (1 - rho**2) ** 0.5 * other) for rho in grades])
