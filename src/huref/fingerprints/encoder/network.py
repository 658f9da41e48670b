"""The CNN encoder: six K x K invariant terms in, 512 numbers out.

HuRef (NeurIPS 2024, arXiv 2312.04828) and its code: four convolutions with a 48 x 48 kernel, stride 4
and padding 22; a rectifier, then batch normalisation after each, but only batch normalisation after the last; the
mean over all positions; 512 numbers at mean 0 and standard deviation 1. Each term enters at mean 0 and standard
deviation 1. The network is convolutional: K is free where it is a multiple of 256. The code is our own, and encodes
only; `huref_lab.encoder.network` computes the same with torch, to train.

A convolution whose stride divides its kernel equals one of stride 1 on the input with each stride x stride block
turned into channels (space to depth). It is computed, and its weights are stored, in that form: the same sums in
another order, faster on a processor (`docs/decisions/2026-11-25-cnn-encoder.md`).

Axes: i channels in, o channels out, h and w positions, s stride, b blocks of s in a kernel's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from huref.choices import option
from huref.errors import UsageError
from huref.numerics.arrays import Array, Floats
from huref.numerics.convolution import convolved

N_TERMS = 6
EPS = 1e-5
"""Added to the variances of batch normalisation, as torch does."""


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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of an encoder by name, kernels folded."""
        shapes: dict[str, tuple[int, ...]] = {}
        blocks = self.kernel // self.stride
        for k, (inputs, outputs) in enumerate(zip((self.inputs, *self.channels), self.channels, strict=False)):
            shapes[f"convs.{k}.weight"] = (outputs, inputs * self.stride**2, blocks, blocks)
            shapes[f"convs.{k}.bias"] = (outputs,)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"norms.{k}.{leaf}"] = (outputs,)
            shapes[f"norms.{k}.num_batches_tracked"] = ()
        return shapes


@dataclass(frozen=True)
class Encoder:
    """An encoder with its weights and batch statistics.

    Attributes:
        config: its shape.
        tensors: of the names and shapes that `config.shapes` gives, kernels of any floating type.
    """

    config: EncoderConfig
    tensors: Mapping[str, Array]

    def __call__(self, terms: Floats) -> Floats:
        """(inputs, K, K) standardised terms -> (channels[-1],) standardised float32."""
        x = terms.transpose(1, 2, 0)
        last = len(self.config.channels) - 1
        for k in range(last + 1):
            x = self._convolved(k, x)
            if k < last:
                np.maximum(x, 0, out=x)
            x = self._normalised(k, x)
        vector = x.mean(axis=(0, 1), dtype=np.float64)
        standard: Floats = ((vector - vector.mean()) / vector.std(ddof=1)).astype(np.float32)
        return standard

    def _convolved(self, k: int, x: Floats) -> Floats:
        """(h s, w s, i) -> (h, w, o). Outer taps of the kernel that meet nothing but padding are left out."""
        stride = self.config.stride
        blocks_around, pixels_around = divmod(self.config.padding, stride)
        blocks = space_to_depth(np.pad(x, ((pixels_around, pixels_around),) * 2 + ((0, 0),)), stride)
        unreached = max(0, blocks_around + 1 - x.shape[0] // stride)
        kernel = self.tensors[f"convs.{k}.weight"].transpose(2, 3, 1, 0)
        reached = slice(unreached, kernel.shape[0] - unreached)
        y: Floats = convolved(blocks[None], kernel[reached, reached], blocks_around - unreached)[0]
        y += self.tensors[f"convs.{k}.bias"]
        return y

    def _normalised(self, k: int, x: Floats) -> Floats:
        """Batch normalisation by the statistics of training."""
        mean, variance, gain, shift = (
            self.tensors[f"norms.{k}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        factor = gain / np.sqrt(variance + np.float32(EPS))
        x *= factor
        x += shift - mean * factor
        return x


def space_to_depth(x: Floats, stride: int) -> Floats:
    """(h s, w s, i) -> (h, w, i s s): each block as channels, the input's channel before the place in the block."""
    height, width, channels = x.shape
    split = x.reshape(height // stride, stride, width // stride, stride, channels)
    return split.transpose(0, 2, 4, 1, 3).reshape(height // stride, width // stride, channels * stride**2)


def standardised_terms(terms: Floats) -> Floats:
    """(..., K, K) -> each matrix at mean 0 and standard deviation 1, float32; a constant matrix becomes zeros."""
    standard = np.empty(terms.shape, np.float32)
    for place in np.ndindex(terms.shape[:-2]):
        matrix = standard[place]
        np.subtract(terms[place], np.float32(terms[place].mean(dtype=np.float64)), out=matrix)
        squares = np.einsum("ij,ij->", matrix, matrix, dtype=np.float64)
        matrix /= np.float32(max(np.sqrt(squares / (matrix.size - 1)), np.finfo(np.float32).tiny))
    return standard


def encode(terms: Floats, encoder: Encoder) -> Floats:
    """The vector of one model's terms, in float32.

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
            where=option("encoder"),
            expected=f"{config.inputs} square matrices whose side is a multiple of {config.multiple}",
            got=" x ".join(str(size) for size in terms.shape),
            next_step=f"choose --n-tokens a multiple of {config.multiple}, and two layers",
        )
    return encoder(standardised_terms(terms))


def fold(kernel: Array, stride: int) -> Array:
    """A usual kernel (o, i, b s, b s) as it is stored: (o, i s s, b, b)."""
    o, i, side, _ = kernel.shape
    b = side // stride
    split = kernel.reshape(o, i, b, stride, b, stride)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(o, i * stride * stride, b, b)


def unfold(folded: Array, stride: int) -> Array:
    """The inverse of `fold`."""
    o, channels, b, _ = folded.shape
    i = channels // (stride * stride)
    split = folded.reshape(o, i, stride, stride, b, b)
    return split.transpose(0, 1, 4, 2, 5, 3).reshape(o, i, b * stride, b * stride)
