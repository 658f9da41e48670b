"""Networks that look at pictures, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from huref_lab.pictures.efficientnet_lite import STAGES


def random_state() -> dict[str, Tensor]:
    """An EfficientNet-Lite0 with random weights, under the names of the pretrained file."""
    state: dict[str, Tensor] = {}

    def add(conv: str, norm: str, shape: tuple[int, int, int, int]) -> None:
        state[f"{conv}.weight"] = torch.randn(shape) / (shape[1] * shape[2] * shape[3]) ** 0.5
        reference = nn.BatchNorm2d(shape[0])
        state.update({f"{norm}.{name}": value for name, value in reference.state_dict().items()})

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    inputs, index = 32, 0
    for repeats, kernel, _, expansion, outputs in STAGES:
        for _ in range(repeats):
            name, hidden = f"_blocks.{index}.", inputs * expansion
            if expansion > 1:
                add(name + "_expand_conv", name + "_bn0", (hidden, inputs, 1, 1))
            add(name + "_depthwise_conv", name + "_bn1", (hidden, 1, kernel, kernel))
            add(name + "_project_conv", name + "_bn2", (outputs, hidden, 1, 1))
            inputs, index = outputs, index + 1
    return state
