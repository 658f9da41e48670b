"""A mapping of one layer with the statistics of a deep one.

Eight random layers bend: vectors at a cosine of 0.9 leave them at a correlation of 0.78, kin look less alike than
they are. One layer, `w = leaky(W z + b)`, keeps 0.88, and the synthesis network accepts its styles when their mean
and covariance before the last rectifier are those it was trained with.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from huref.portraits.generator.stylegan2 import GAIN, LEAK
from huref_lab.generator.network import Dense, Mapping, TrainableGenerator, leaky

SAMPLES = 16_384
DIRECTIONS = 64
PLACES = 4


@torch.no_grad()
def fit_one_layer(deep: Mapping, shallow: Mapping, seed: int = 0) -> None:
    """Sets the one layer of `shallow` to the mean and covariance of the last layer of `deep` before its rectifier.

    Args:
        deep: the trained mapping.
        shallow: a mapping of one layer with the same lengths. Changed.
        seed: of the vectors that the statistics are taken from.
    """
    layer = _only_layer(shallow)
    z = torch.randn(SAMPLES, layer.weight.shape[1], generator=torch.Generator().manual_seed(seed))
    before = _before_rectifier(torch.cat([deep(part) for part in z.chunk(16)]))
    mean = before.mean(dim=0)
    values, axes = torch.linalg.eigh(torch.cov(before.t()).double())
    root = (axes * values.clamp_min(0).sqrt()) @ axes.t()
    layer.weight.copy_(root.float() / layer.weight_gain)
    layer.bias.copy_(mean / layer.bias_gain)
    _set_mean_style(shallow, seed)


def _only_layer(mapping: Mapping) -> Dense:
    layer = mapping.get_submodule("fc0")
    assert isinstance(layer, Dense)
    return layer


def _set_mean_style(mapping: Mapping, seed: int) -> None:
    z = torch.randn(SAMPLES, _only_layer(mapping).weight.shape[1], generator=torch.Generator().manual_seed(seed))
    mapping.w_avg.copy_(torch.cat([mapping(part) for part in z.chunk(16)]).mean(dim=0))


def _before_rectifier(w: Tensor) -> Tensor:
    """What went into the last leaky rectifier; it can be undone."""
    plain = w / GAIN
    return torch.where(plain < 0, plain / LEAK, plain)


@torch.no_grad()
def even_out(
    generator: TrainableGenerator, *, reach: int = 24, level: float = 14.0, most: float = 2.5, seed: int = 0
) -> None:
    """Lets the most visible directions of style move the picture about equally.

    A generator shows a few differences strongly, such as light or dark, and the others hardly; kin at a cosine of 0.8
    are then told from strangers by a handful of numbers, too few for a line-up of 18. In the space of the largest
    style directions, `DIRECTIONS` of them in units of their deviation, the picture's local metric is measured on a
    coarse grid at a few styles; along its first `reach` axes the deviation is scaled so that the picture moves by
    `level` levels of 255 (root mean square), but never to more than `most` times its own.

    Args:
        generator: with a mapping of one layer. Changed.
        reach: axes to even out.
        level: levels of 255 that one deviation along an axis should move the picture.
        most: largest factor.
        seed: of the styles at which the metric is measured.
    """
    layer = _only_layer(generator.mapping)
    weight, mean = layer.weight * layer.weight_gain, layer.bias * layer.bias_gain
    directions, deviations, _ = torch.linalg.svd(weight, full_matrices=False)
    steps = (directions[:, :DIRECTIONS] * deviations[:DIRECTIONS]).t()
    chance = torch.Generator().manual_seed(seed)
    metric = torch.zeros(DIRECTIONS, DIRECTIONS)
    for _ in range(PLACES):
        at = mean + 0.6 * weight @ torch.randn(weight.shape[1], generator=chance)
        moved = (_coarse(generator, at + 0.7 * steps) - _coarse(generator, at - 0.7 * steps)) / 1.4
        metric += moved @ moved.t() / (PLACES * moved.shape[1])
    power, axes = torch.linalg.eigh(metric)
    power, axes = power.flip(0), axes.flip(1)
    factor = torch.ones(DIRECTIONS)
    factor[:reach] = (level / power[:reach].clamp_min(1e-6).sqrt()).clamp_max(most)
    change = (axes * (factor - 1)) @ axes.t()
    whitened = directions[:, :DIRECTIONS].t() @ weight / deviations[:DIRECTIONS, None]
    layer.weight.add_(steps.t() @ change @ whitened / layer.weight_gain)
    _set_mean_style(generator.mapping, seed)


def _coarse(generator: TrainableGenerator, before: Tensor) -> Tensor:
    """Pictures of styles before the rectifier, (n, w) -> (n, 768): a grid of 16 x 16 in levels of 255."""
    styles = leaky(before) * GAIN
    ws = styles[:, None].expand(-1, generator.config.style_layers, -1)
    grids = [
        functional.adaptive_avg_pool2d(generator.synthesis(part), 16).flatten(1)
        for part in ws.chunk(max(1, len(ws) // 16))
    ]
    return torch.cat(grids) * 127.5
