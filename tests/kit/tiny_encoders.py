"""Small CNN encoders, and the modules that official files pickle: plain torch layers in the published order."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.fingerprints.encoder.file import save_encoder
from huref.fingerprints.encoder.network import EncoderCNN, EncoderConfig

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


def trained(config: EncoderConfig = SMALL, seed: int = 0) -> EncoderCNN:
    """An encoder whose batch statistics are measured, so that its vectors share no common part."""
    encoder = EncoderCNN(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    side = config.multiple * (2 if config.multiple < 64 else 1)
    for norm in encoder.norms:
        norm.momentum = None  # type: ignore[assignment]
    with torch.no_grad():
        encoder(torch.randn(32, config.inputs, side, side, generator=generator))
    return encoder.eval()


def save_small(path: Path, seed: int = 0, side: int = 256) -> Path:
    """A weights file of a small encoder."""
    save_encoder(trained(seed=seed), path, {"side": side})
    return path


def plain_conv(x: Tensor, kernel: Tensor, bias: Tensor, config: EncoderConfig) -> Tensor:
    """The convolution as published, by torch."""
    return functional.conv2d(x, kernel, bias, stride=config.stride, padding=config.padding)
