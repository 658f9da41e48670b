"""Critics: what tells a photograph from a made picture while the generator learns.

Two of them, which can work together. `ProjectedCritic` looks at a picture through a frozen pretrained network (Sauer
et al., "Projected GANs Converge Faster", 2021) and learns several times faster from few pictures. `PixelCritic` is
the residual one of StyleGAN2 and needs nothing else.

A critic has two halves: `features` is differentiated only towards the picture, `judge` holds all that learns. The
made pictures of one step thus pass through the costly first half once.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.portraits.generator.stylegan2 import GAIN
from huref_lab.generator.energy import EnergyDistance
from huref_lab.generator.network import Dense, leaky
from huref_lab.pictures.efficientnet_lite import TAPS, EfficientNetLite0


class Critic(nn.Module, abc.ABC):
    """The two halves, and the loss that fits the critic."""

    is_hinge = False

    @abc.abstractmethod
    def features(self, picture: Tensor) -> list[Tensor]:
        """(n, 3, h, w) in [-1, 1] -> what `judge` takes."""

    @abc.abstractmethod
    def judge(self, features: list[Tensor]) -> list[Tensor]:
        """Features -> logits, high for photographs, one tensor (n, ...) a head."""

    def generator_loss(self, made: list[Tensor]) -> Tensor:
        """Low when the critic takes made pictures for photographs; non-saturating (Goodfellow, 2014) or linear."""
        return sum_heads(-y if self.is_hinge else functional.softplus(-y) for y in made)

    def critic_loss(self, real: list[Tensor], made: list[Tensor]) -> Tensor:
        """Low when the critic is right: logistic, or hinge."""
        if self.is_hinge:
            return sum_heads(functional.relu(1 - y) for y in real) + sum_heads(functional.relu(1 + y) for y in made)
        return sum_heads(functional.softplus(-y) for y in real) + sum_heads(functional.softplus(y) for y in made)


def sum_heads(losses: Iterable[Tensor]) -> Tensor:
    """Sum over the heads of the mean loss."""
    return torch.stack([loss.float().mean() for loss in losses]).sum()


class SpectralConv(nn.Module):
    """Convolution whose weight is divided by its largest singular value (Miyato et al., 2018)."""

    u: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs * kernel * kernel)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride, self.padding = stride, padding
        self.register_buffer("u", functional.normalize(torch.randn(outputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, h, w) -> (n, o, h', w')."""
        rows = self.weight.flatten(1)
        with torch.no_grad():  # one power iteration a step is enough, since weights move slowly
            v = functional.normalize(rows.t() @ self.u, dim=0)
            u = functional.normalize(rows @ v, dim=0)
            if self.training:
                self.u.copy_(u)
        norm = torch.dot(u, rows @ v)
        kernel = (self.weight / norm).to(x.dtype)
        return functional.conv2d(x, kernel, self.bias.to(x.dtype), self.stride, self.padding)


class Head(nn.Sequential):
    """Judges one feature map: halves it down to a side of 8 or keeps a smaller one, then a grid of logits."""

    def __init__(self, inputs: int, side: int, width: int) -> None:
        layers: list[nn.Module] = []
        while True:
            is_large = side > 8
            kernel, stride = (4, 2) if is_large else (3, 1)
            outputs = min(width, 2 * inputs) if side > 16 else width
            layers += [
                SpectralConv(inputs, outputs, kernel, stride, 1),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
            inputs, side = outputs, side // stride
            if side <= 8:
                break
        super().__init__(*layers, SpectralConv(inputs, 1, min(4, side)))


class ProjectedCritic(Critic):
    """Frozen features, mixed by fixed random projections across channels and scales, one head a scale.

    Args:
        network: the frozen network.
        side: pictures are enlarged to this side before it.
        width: channels inside the heads.
        mixed: channels after the random projections, fine to coarse.
        dtype: of the frozen network and of all feature maps.
    """

    is_hinge = True

    def __init__(
        self,
        network: EfficientNetLite0,
        *,
        side: int = 128,
        width: int = 192,
        mixed: tuple[int, ...] = (64, 64, 128, 256),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network.to(dtype).requires_grad_(False)
        self.side = side
        across = [nn.Conv2d(channels, out, 1) for channels, out in zip(TAPS.values(), mixed, strict=True)]
        down = [nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(mixed)]
        self.across, self.down = nn.ModuleList(across), nn.ModuleList(down)
        for conv in (*across, *down):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            conv.to(dtype).requires_grad_(False)
        self.energy = EnergyDistance(mixed)
        self.heads = nn.ModuleList(Head(c, side // 4 >> k, width) for k, c in enumerate(mixed))

    def features(self, picture: Tensor) -> list[Tensor]:
        """(n, 3, h, w) -> four mixed feature maps, fine to coarse, in the critic's type."""
        large = functional.interpolate(picture, size=(self.side, self.side), mode="bilinear", align_corners=False)
        taps = [mix(tap) for mix, tap in zip(self.across, self.network(large), strict=True)]
        mixed = [taps[-1]]
        for k in range(len(taps) - 2, -1, -1):
            coarse = functional.interpolate(self.down[k](mixed[0]), scale_factor=2.0, mode="nearest")
            mixed.insert(0, (taps[k] + coarse) * math.sqrt(0.5))
        return mixed

    def judge(self, features: list[Tensor]) -> list[Tensor]:
        """One grid of logits a scale."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]


class EqualConv(nn.Module):
    """Convolution with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, has_bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_bias else None
        self.gain = 1.0 / math.sqrt(inputs * kernel * kernel)

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, h, w) -> (n, o, h, w)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.conv2d(x, (self.weight * self.gain).to(x.dtype), bias, padding=self.weight.shape[-1] // 2)


class ResidualBlock(nn.Module):
    """Two convolutions and half the side, beside a 1 x 1 shortcut; a box filter, for the processor's sake."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3)
        self.skip = EqualConv(inputs, outputs, 1, has_bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, 2h, 2w) -> (n, o, h, w)."""
        y = leaky(self.conv0(x)) * GAIN
        y = leaky(functional.avg_pool2d(self.conv1(y), 2)) * GAIN
        out: Tensor = (y + self.skip(functional.avg_pool2d(x, 2))) * math.sqrt(0.5)
        return out


def batch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Appends the deviation within small groups as a map, so that sameness shows ("Progressive Growing", 3)."""
    n, channels, height, width = x.shape
    group = math.gcd(n, group)
    grouped = x.float().reshape(group, n // group, channels, height, width)
    deviation = (grouped.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    maps = deviation.repeat(group).reshape(n, 1, 1, 1).expand(n, 1, height, width)
    return torch.cat([x, maps.to(x.dtype)], dim=1)


def tiles(pictures: Tensor, side: int) -> Tensor:
    """One tile of each picture, the first of picture 0, the second of picture 1: (n, c, h, h) -> (n, c, side, side).

    A critic of texture needs no whole pictures, and a quarter of the pixels takes a quarter of the time.
    """
    across = pictures.shape[-1] // side
    if across <= 1:
        return pictures
    corners = [(row * side, column * side) for row in range(across) for column in range(across)]
    parts = [pictures[k :: len(corners), :, y : y + side, x : x + side] for k, (y, x) in enumerate(corners)]
    return torch.cat(parts)


class PixelCritic(Critic):
    """The residual critic of StyleGAN2 on the pixels themselves, or on tiles of them.

    Args:
        resolution: side of what it judges; of a larger picture it judges one tile.
        channel_base: `channel_base // side` channels at a side.
        channel_max: at most so many.
        dtype: of the feature maps.
    """

    def __init__(
        self,
        resolution: int,
        channel_base: int = 1024,
        channel_max: int = 64,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.resolution, self.dtype = resolution, dtype
        sides = [resolution >> k for k in range(int(math.log2(resolution)) - 1)]
        widths = [min(channel_base // side, channel_max) for side in sides]
        self.from_rgb = EqualConv(3, widths[0], 1)
        pairs = pairwise(widths)
        self.blocks = nn.Sequential(*(ResidualBlock(inputs, outputs) for inputs, outputs in pairs))
        self.last = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.dense = Dense(widths[-1] * 16, widths[-1], is_leaky=True)
        self.out = Dense(widths[-1], 1)

    def features(self, picture: Tensor) -> list[Tensor]:
        """The picture itself, or a tile of it, in the critic's type."""
        return [tiles(picture, self.resolution).to(self.dtype)]

    def judge(self, features: list[Tensor]) -> list[Tensor]:
        """One logit a picture; the maps are of the picture's type."""
        x = features[0].contiguous(memory_format=torch.channels_last)
        x = self.blocks(leaky(self.from_rgb(x)) * GAIN)
        x = leaky(self.last(batch_deviation(x))) * GAIN
        return [self.out(self.dense(x.flatten(1).float()))]


def gradient_penalty(critic: PixelCritic, real: Tensor) -> Tensor:
    """R1: mean squared gradient norm of the logit at photographs (Mescheder et al., 2018), in fp32."""
    picture = tiles(real.detach(), critic.resolution).requires_grad_(True)
    (logits,) = critic.judge([picture])
    (gradient,) = torch.autograd.grad(logits.sum(), picture, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
