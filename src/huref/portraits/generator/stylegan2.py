"""StyleGAN2: a Gaussian vector in, a picture out.

Read from the top: the network, its mapping from z to styles, its synthesis from styles to a picture, and the
convolutions and filters of that. The arithmetic and the tensor names are those of the published networks (Karras et
al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, and the later release with adaptive augmentation),
so that their weights mean the same thing here. The code is our own, and draws only; `huref_lab.generator.network`
computes the same with torch, to train.

Axes: n pictures, c or i channels in, o channels out, h and w pixels, l style layers. Feature maps are (n, h, w, c).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from huref.numerics.arrays import Array, Floats
from huref.numerics.convolution import convolved
from huref.portraits.generator.config import StyleGAN2Config

LEAK = 0.2
GAIN = math.sqrt(2.0)
"""Slope and gain of every leaky rectifier; the gain keeps unit variance through it."""

PAPER_PSI = 0.5
"""Truncation of the paper, usual for every generator that says nothing else."""

BLUR = np.array([1.0, 3.0, 3.0, 1.0], np.float32) / 8
"""Taps of the low-pass filter, along each axis."""

_TINY = 1e-8


@dataclass(frozen=True)
class Generator:
    """The whole network.

    Attributes:
        config: its shape.
        tensors: float32, of the names and shapes that `config.shapes` gives.
        usual_psi: truncation where none is asked for; it belongs to the weights, and who loads them sets it.
    """

    config: StyleGAN2Config
    tensors: Mapping[str, Floats]
    usual_psi: float = PAPER_PSI

    def __call__(self, z: Floats, psi: float | None = None, cutoff: int = 8, labels: Array | None = None) -> Floats:
        """Gaussian vectors (n, z_dim) -> pictures (n, r, r, 3), about [-1, 1], the same on every call.

        `labels` are the class numbers (n,) of a conditional generator; None is class 0 for all.
        """
        w = self.styles(z, labels)
        return self.pictures(self.truncated(w, self.usual_psi if psi is None else psi, cutoff))

    def styles(self, z: Floats, labels: Array | None = None) -> Floats:
        """z to w (n, w_dim): z normalised, since only its direction counts, then fully connected layers.

        A conditional generator appends the embedding of the class, normalised likewise.
        """
        w = normalised(z)
        if self.config.label_dim:
            numbers = np.zeros(len(z), np.int64) if labels is None else labels
            one_hot = np.eye(self.config.label_dim, dtype=np.float32)[numbers]
            w = np.concatenate([w, normalised(self._dense("mapping.embed", one_hot))], axis=1)
        for k in range(self.config.mapping_layers):
            w = leaky(self._dense(f"mapping.fc{k}", w, self.config.mapping_rate)) * GAIN
        return w

    def truncated(self, w: Floats, psi: float, cutoff: int) -> Floats:
        """One style a layer, the first `cutoff` of them pulled towards the mean: (n, w_dim) -> (n, l, w_dim).

        `psi` 1 leaves w as it is, 0 gives the mean (the truncation trick, "A Style-Based Generator", appendix B).
        """
        mean = self.tensors["mapping.w_avg"]
        pulled = w if psi == 1 else mean + (w - mean) * psi
        return np.stack([pulled if k < cutoff else w for k in range(self.config.style_layers)], axis=1)

    def pictures(self, ws: Floats) -> Floats:
        """Styles (n, l, w_dim) -> pictures (n, r, r, 3), from 4 x 4 up.

        Every block adds its colours to the upsampled sum of those before it (skip connections).
        """
        start = self.tensors["synthesis.b4.const"].transpose(1, 2, 0)
        x = np.broadcast_to(start, (len(ws), *start.shape))
        x = self._styled("synthesis.b4.conv1", x, ws[:, 0])
        picture = self._colours("synthesis.b4.torgb", x, ws[:, 1])
        for k, side in enumerate(self.config.sides[1:]):
            block = f"synthesis.b{side}"
            x = self._styled(f"{block}.conv0", x, ws[:, 2 * k + 1], is_up=True)
            x = self._styled(f"{block}.conv1", x, ws[:, 2 * k + 2])
            picture = upsampled(picture)
            picture += self._colours(f"{block}.torgb", x, ws[:, 2 * k + 3])
        return picture

    def _dense(self, name: str, x: Floats, rate: float = 1.0) -> Floats:
        """Fully connected layer with equalised learning rate (Karras et al., "Progressive Growing of GANs", 4.1)."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        y: Floats = x @ (weight * (rate / math.sqrt(weight.shape[1]))).T + bias * rate
        return y

    def _styled(self, name: str, x: Floats, w: Floats, *, is_up: bool = False) -> Floats:
        """Modulated 3 x 3 convolution, noise, bias, leaky rectifier; the rectifier's gain goes into what it takes."""
        y, demodulation = modulated(x, self.tensors[f"{name}.weight"], self._dense(f"{name}.affine", w), is_up=is_up)
        y *= (demodulation * GAIN)[:, None, None, :]
        y += (self.tensors[f"{name}.noise_const"] * (self.tensors[f"{name}.noise_strength"] * GAIN))[..., None]
        y += self.tensors[f"{name}.bias"] * GAIN
        return self._clamped(leaky(y))

    def _colours(self, name: str, x: Floats, w: Floats) -> Floats:
        """Modulated 1 x 1 convolution to colours, not demodulated: (n, h, w, i) -> (n, h, w, 3)."""
        weight = self.tensors[f"{name}.weight"][:, :, 0, 0]
        style = self._dense(f"{name}.affine", w) * (1 / math.sqrt(weight.shape[1]))
        kernel = style[:, :, None] * weight.T  # (n, i, 3)
        rows = x.reshape(len(x), -1, x.shape[-1]) @ kernel
        colours: Floats = rows.reshape(*x.shape[:3], 3) + self.tensors[f"{name}.bias"]
        return self._clamped(colours)

    def _clamped(self, x: Floats) -> Floats:
        """Values held within a bound, which keeps half-precision feature maps finite where they were trained."""
        bound = self.config.conv_clamp
        return x if bound is None else np.clip(x, -bound, bound, out=x)


def normalised(x: Floats) -> Floats:
    """Rows scaled to a mean square of 1: (n, c) -> (n, c)."""
    scaled: Floats = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + _TINY)
    return scaled


def leaky(x: Floats) -> Floats:
    """Leaky rectifier without its gain."""
    y: Floats = np.maximum(x, x * LEAK)
    return y


def modulated(x: Floats, weight: Floats, style: Floats, *, is_up: bool = False) -> tuple[Floats, Floats]:
    """Convolution whose input channels are scaled by a style, and the factors that demodulate it.

    The published form scales the weights and convolves every sample with its own. Scaling the input instead is the
    same sum and shares one weight among the samples; the demodulation depends on weight and style only.

    Args:
        x: (n, h, w, i).
        weight: (o, i, 3, 3).
        style: (n, i).
        is_up: double the side: a transposed convolution, then the low-pass filter.

    Returns:
        The undemodulated output (n, h', w', o) and the factors (n, o).
    """
    power = np.square(weight).sum(axis=(2, 3))
    demodulation: Floats = 1 / np.sqrt(np.square(style) @ power.T + _TINY)
    kernel = weight.transpose(2, 3, 1, 0)
    scaled = x * style[:, None, None, :]
    return (blurred(spread(scaled, kernel)) if is_up else convolved(scaled, kernel, padding=1)), demodulation


def spread(x: Floats, kernel: Floats) -> Floats:
    """Transposed convolution of stride 2: (n, h, w, i) by a kernel (3, 3, i, o) -> (n, 2h + 1, 2w + 1, o)."""
    n, height, width, inputs = x.shape
    out = np.zeros((n, 2 * height + 1, 2 * width + 1, kernel.shape[-1]), np.float32)
    rows = x.reshape(-1, inputs)
    for down in range(3):
        for right in range(3):
            share = (rows @ kernel[down, right]).reshape(n, height, width, -1)
            out[:, down : down + 2 * height : 2, right : right + 2 * width : 2] += share
    return out


def blurred(x: Floats) -> Floats:
    """The [1, 3, 3, 1] low-pass filter of sum 4: (n, h + 1, w + 1, c), with zeros around it -> (n, h, w, c)."""
    for axis in (1, 2):
        outer, inner = 2 * BLUR[:2]
        length = x.shape[axis] - 1
        padded = np.pad(x, [(1, 1) if axis == k else (0, 0) for k in range(4)])
        a, b, c, d = (padded.take(range(k, k + length), axis) for k in range(4))
        x = (a + d) * outer + (b + c) * inner
    return x


def upsampled(x: Floats) -> Floats:
    """Twice the side, low-pass filtered: (n, h, w, c) -> (n, 2h, 2w, c)."""
    for axis in (1, 2):
        far, near = 2 * BLUR[:2]
        length = x.shape[axis]
        padded = np.pad(x, [(1, 1) if axis == k else (0, 0) for k in range(4)])
        before, after = padded.take(range(length), axis), padded.take(range(2, length + 2), axis)
        pair = np.stack([x * near + before * far, x * near + after * far], axis=axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * length, *x.shape[axis + 1 :])
    return x
