"""The CNN encoder as it trains: what `huref.fingerprints.encoder.network` encodes, with torch and differentiable.

Convolutions are folded there and here; a law of the tests: both give the same vectors.

Axes: n samples, i channels in, o channels out, h and w positions, s stride, b blocks of s in a kernel's side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.fingerprints.encoder.network import EPS, Encoder, EncoderConfig


class FoldedConv2d(nn.Module):
    """A strided convolution, held as the convolution of stride 1 that it equals after space to depth.

    On a small input the outer taps of the kernel meet nothing but padding at every position; they are left out.

    Attributes:
        weight: (o, i s s, b, b); `unfold` gives the usual (o, i, b s, b s).
        bias: (o,).
        cut: blocks that `narrow` took from each edge of the weight.
    """

    def __init__(self, inputs: int, outputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.blocks_around, self.pixels_around = divmod(config.padding, config.stride)
        self.cut = 0
        blocks = config.kernel // config.stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs * config.stride**2, blocks, blocks))
        self.bias = nn.Parameter(torch.empty(outputs))

    def initialise(self, generator: torch.Generator) -> None:
        """Uniform within 1 / sqrt(numbers that meet in one output), as torch's convolutions begin."""
        bound = 1.0 / math.sqrt(self.weight[0].numel())
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)
            self.bias.uniform_(-bound, bound, generator=generator)

    def unreached(self, side: int) -> int:
        """Blocks at each edge of the kernel that meet only padding when the output has that side."""
        return max(0, self.blocks_around + 1 - side)

    def narrow(self, side: int) -> None:
        """Keep only what an output of that side reaches: training there moves nothing else."""
        kept = self._cropped(self.unreached(side))
        self.cut = self.unreached(side)
        self.weight = nn.Parameter(kept.detach().clone())

    def widen(self, weight: Tensor) -> None:
        """The inverse of `narrow`: a full weight, into whose middle the kept part goes."""
        whole, cut = weight.detach().clone(), self.cut
        whole[:, :, cut : weight.shape[2] - cut, cut : weight.shape[3] - cut] = self.weight.detach()
        self.weight, self.cut = nn.Parameter(whole), 0

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, h s, w s) -> (n, o, h, w), in the type of x; h and w equal."""
        blocks = functional.pixel_unshuffle(functional.pad(x, [self.pixels_around] * 4), self.stride)
        unreached = self.unreached(x.shape[-1] // self.stride)
        weight = self._cropped(unreached).to(x.dtype)
        return functional.conv2d(blocks, weight, self.bias.to(x.dtype), padding=self.blocks_around - unreached)

    def _cropped(self, unreached: int) -> Tensor:
        more = unreached - self.cut
        if more < 0:
            raise ValueError("an encoder that was narrowed for a smaller input")
        size = self.weight.shape[-1] - more
        return self.weight[:, :, more:size, more:size]


class EncoderCNN(nn.Module):
    """The encoder. In evaluation mode a sample's vector does not depend on what else is in the batch.

    Args:
        config: its shape.
        seed: of the initial weights; None leaves them empty, to be loaded.
    """

    def __init__(self, config: EncoderConfig | None = None, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config = config or EncoderConfig()
        widths = (config.inputs, *config.channels)
        self.convs = nn.ModuleList(FoldedConv2d(i, o, config) for i, o in zip(widths, config.channels, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, EPS) for channels in config.channels)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            for conv in self.convs:
                conv.initialise(generator)  # type: ignore[operator]

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderCNN:
        """The network of these weights, in float32 and evaluation mode."""
        network = cls(encoder.config, seed=None)
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in encoder.tensors.items()})
        return network.eval().requires_grad_(False)

    def encoding(self) -> Encoder:
        """What encodes with the weights as they are now: a copy of them."""
        tensors = {name: value.numpy(force=True).copy() for name, value in self.state_dict().items()}
        return Encoder(self.config, tensors)

    def narrow(self, side: int) -> EncoderCNN:
        """Drop the weights that inputs of K = `side` never reach; returns itself."""
        for conv in self.convs:
            side //= self.config.stride
            conv.narrow(side)  # type: ignore[operator]
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, K, K) standardised terms -> (n, channels[-1]) standardised float32.

        Convolutions run in the type of x; batch normalisation's statistics are always float32.
        """
        last = len(self.convs) - 1
        for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            x = norm(x if k == last else functional.relu(x))
        return standardised_rows(x.float().mean(dim=(2, 3)))


def standardised_rows(x: Tensor) -> Tensor:
    """(n, d) -> each row at mean 0 and standard deviation 1 (n - 1 in the denominator, as torch.std)."""
    return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True)


def standardised_terms(terms: Tensor) -> Tensor:
    """(..., K, K) -> each matrix at mean 0 and standard deviation 1, float32; a constant matrix becomes zeros."""
    flat = terms.float().flatten(-2)
    deviation, mean = torch.std_mean(flat, dim=-1, keepdim=True)
    return ((flat - mean) / deviation.clamp_min(torch.finfo(torch.float32).tiny)).view(terms.shape)
