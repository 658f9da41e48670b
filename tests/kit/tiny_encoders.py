"""Small CNN encoders, and the modules that official files pickle: plain torch layers in the published order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.fingerprints.encoder.file import save_encoder
from huref.fingerprints.encoder.network import EPS, Encoder, EncoderConfig, unfold

SMALL = EncoderConfig(inputs=6, channels=(2, 512), kernel=12, stride=4)
"""Takes what `--encoder cnn` gives it, in milliseconds."""


class OfficialLike(nn.Module):
    """The published layers, with names of nobody's choosing."""

    def __init__(self, config: EncoderConfig, *, has_bias: bool = True, **changes: int) -> None:
        super().__init__()
        widths = (config.inputs, *config.channels)
        shape = {"kernel_size": config.kernel, "stride": config.stride, "padding": config.padding} | changes
        for k in range(len(config.channels)):
            setattr(self, f"cnn{k}", nn.Conv2d(widths[k], widths[k + 1], bias=has_bias, **shape))  # type: ignore[arg-type]
            setattr(self, f"bn{k}", nn.BatchNorm2d(widths[k + 1]))
        self.act = nn.ReLU()
        self.count = len(config.channels)

    def forward(self, x: Tensor) -> Tensor:
        for k in range(self.count):
            x = getattr(self, f"cnn{k}")(x)
            x = getattr(self, f"bn{k}")(self.act(x) if k < self.count - 1 else x)
        x = x.mean(dim=(2, 3))
        return (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True)


def official_like(config: EncoderConfig, seed: int = 0, **changes: int) -> OfficialLike:
    """With batch statistics and affine parameters that are not the initial ones."""
    torch.manual_seed(seed)
    module = OfficialLike(config, **changes)  # type: ignore[arg-type]
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
    return module.eval()


def trained(config: EncoderConfig = SMALL, seed: int = 0) -> Encoder:
    """Random weights, with the batch statistics of random samples, so that its vectors share no common part."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in config.shapes.items():
        bound = 1 / np.sqrt(max(1, np.prod(config.shapes[name.replace("bias", "weight")][1:])))
        drawn = random.uniform(-bound, bound, shape) if name.startswith("convs") else np.zeros(shape)
        tensors[name] = drawn.astype(np.int64 if name.endswith("tracked") else np.float32)
    side = config.multiple * (2 if config.multiple < 64 else 1)
    with torch.no_grad():
        x = torch.from_numpy(random.standard_normal((32, config.inputs, side, side), dtype=np.float32))
        for k in range(len(config.channels)):
            kernel = torch.from_numpy(unfold(tensors[f"convs.{k}.weight"], config.stride))
            x = plain_conv(x, kernel, torch.from_numpy(tensors[f"convs.{k}.bias"]), config)
            x = x.relu() if k < len(config.channels) - 1 else x
            variance, mean = torch.var_mean(x, dim=(0, 2, 3))
            tensors[f"norms.{k}.running_mean"], tensors[f"norms.{k}.running_var"] = mean.numpy(), variance.numpy()
            tensors[f"norms.{k}.weight"] = np.ones(config.channels[k], np.float32)
            x = (x - mean[:, None, None]) / (variance[:, None, None] + EPS).sqrt()
    return Encoder(config, tensors)


def save_small(path: Path, seed: int = 0, side: int = 256) -> Path:
    """A weights file of a small encoder."""
    save_encoder(trained(seed=seed), path, {"side": side})
    return path


def plain_conv(x: Tensor, kernel: Tensor, bias: Tensor, config: EncoderConfig) -> Tensor:
    """The convolution as published, by torch."""
    return functional.conv2d(x, kernel, bias, stride=config.stride, padding=config.padding)
