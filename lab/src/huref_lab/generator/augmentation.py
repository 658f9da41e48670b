"""Differentiable augmentation: what the critic sees, real and made, is disturbed in the same ways.

Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020. With a few thousand photographs a
critic would otherwise learn them by heart. Every draw comes from one generator, so that a run can be repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _draw(x: Tensor, generator: torch.Generator) -> Tensor:
    """One uniform number in [0, 1) a picture, (n, 1, 1, 1)."""
    return torch.rand(x.shape[0], 1, 1, 1, generator=generator)


def jitter_colour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness +-0.25, saturation 0.5 to 1.5, contrast 0.75 to 1.25, half of the published reach."""
    x = x + (_draw(x, generator) - 0.5) * 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (_draw(x, generator) + 0.5) + grey
    level = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - level) * (_draw(x, generator) * 0.5 + 0.75) + level


def shift(x: Tensor, generator: torch.Generator, ratio: float = 0.125) -> Tensor:
    """Moves each picture by up to `ratio` of its side; what comes in from outside is zero."""
    n, _, height, width = x.shape
    reach = max(1, round(height * ratio))
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator)
    padded = functional.pad(x, (reach, reach, reach, reach))
    rows = (torch.arange(height) + dy)[:, None, :, None]
    columns = (torch.arange(width) + dx)[:, None, None, :]
    samples = torch.arange(n)[:, None, None, None]
    channels = torch.arange(x.shape[1])[None, :, None, None]
    return padded[samples, channels, rows, columns]


def cut_out(x: Tensor, generator: torch.Generator, ratio: float = 0.5) -> Tensor:
    """Blanks a square of `ratio` of the side, centred anywhere."""
    n, _, height, width = x.shape
    half = height * ratio / 2
    centre_y = torch.rand(n, 1, 1, generator=generator) * height
    centre_x = torch.rand(n, 1, 1, generator=generator) * width
    is_row = (torch.arange(height)[None, :, None] - centre_y).abs() < half
    is_column = (torch.arange(width)[None, None, :] - centre_x).abs() < half
    return x * (~(is_row & is_column)).to(x.dtype)[:, None]


def augment(x: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Colour, shift and cut-out, each applied to a picture with probability `strength`: (n, c, h, w) -> the same."""
    if strength <= 0:
        return x
    for change in (jitter_colour, shift, cut_out):
        is_chosen = _draw(x, generator) < strength
        x = torch.where(is_chosen, change(x, generator), x)
    return x
