"""The CNN encoder: six K x K invariant terms in, 512 numbers out.

HuRef (NeurIPS 2024, arXiv 2312.04828) and its code: four convolutions with a 48 x 48 kernel, stride 4
and padding 22; a rectifier, then batch normalisation after each, but only batch normalisation after the last; the
mean over all positions; 512 numbers at mean 0 and standard deviation 1. Each term enters at mean 0 and standard
deviation 1. The network is convolutional: K is free where it is a multiple of 256. The code is our own.

A convolution whose stride divides its kernel equals one of stride 1 on the input with each stride x stride block
turned into channels (space to depth). It is computed, and its weights are stored, in that form: the same sums in
another order, faster on a processor (`docs/decisions/2026-11-25-cnn-encoder.md`).

Axes: n samples, i channels in, o channels out, h and w positions, s stride, b blocks of s in a kernel's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import UsageError

N_TERMS = 6


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder; the defaults are the published one.

    Args:
        inputs: matrices in a sample.
        channels: outputs of each convolution; the last is the length of the vector.
        kernel: side of every kernel, a multiple of `stride`, with an even number of positions around a block.
        stride: of every convolution; padding is `(kernel - stride) / 2`, so that a side shrinks by exactly `stride`.
    """

    inputs: int = N_TERMS
    channels: tuple[int, ...] = (8, 64, 256, 512)
    kernel: int = 48
    stride: int = 4

    def __post_init__(self) -> None:
        sizes = (self.inputs, self.kernel, self.stride, *self.channels)
        if not self.channels or min(sizes) < 1 or self.channels[-1] < 2:
            raise ValueError(f"sizes of an encoder: {sizes}")
        if self.kernel % self.stride or (self.kernel - self.stride) % 2:
            raise ValueError(f"a kernel of {self.kernel} does not surround blocks of {self.stride} evenly")

    @property
    def padding(self) -> int:
        """Zeros on each side."""
        return (self.kernel - self.stride) // 2

    @property
    def multiple(self) -> int:
        """K must be a multiple of this."""
        return int(self.stride ** len(self.channels))


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
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in config.channels)
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            for conv in self.convs:
                conv.initialise(generator)  # type: ignore[operator]

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


def encode(terms: Tensor, encoder: EncoderCNN) -> Tensor:
    """The vector of one model's terms, in float32 and evaluation mode, whatever mode the encoder is in.

    Args:
        terms: (6, K, K), not yet standardised, K a multiple of 256.
        encoder: with trained weights and their batch statistics.

    Returns:
        (512,) float32, mean 0 and standard deviation 1.

    Raises:
        UsageError: matrices of another number or shape.
    """
    config = encoder.config
    side = terms.shape[-1]
    if terms.shape != (config.inputs, side, side) or side == 0 or side % config.multiple:
        raise UsageError(
            "the CNN encoder cannot take these matrices",
            where="--encoder cnn",
            expected=f"{config.inputs} square matrices whose side is a multiple of {config.multiple}",
            got=" x ".join(str(size) for size in terms.shape),
            next_step=f"choose --n-tokens a multiple of {config.multiple}, and two layers",
        )
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            vector: Tensor = encoder(standardised_terms(terms)[None])[0]
    finally:
        encoder.train(was_training)
    return vector.clone()


def fold(kernel: Tensor, stride: int) -> Tensor:
    """A usual kernel (o, i, b s, b s) in the form of `FoldedConv2d`: (o, i s s, b, b)."""
    o, i, side, _ = kernel.shape
    b = side // stride
    split = kernel.reshape(o, i, b, stride, b, stride)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(o, i * stride * stride, b, b)


def unfold(folded: Tensor, stride: int) -> Tensor:
    """The inverse of `fold`."""
    o, channels, b, _ = folded.shape
    i = channels // (stride * stride)
    split = folded.reshape(o, i, stride, stride, b, b)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(o, i, b * stride, b * stride)
