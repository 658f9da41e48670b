"""Random generators."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import PSI, save_generator
from huref.portraits.generator.stylegan2 import PAPER_PSI, Generator


def random_generator(config: StyleGAN2Config, seed: int = 0, psi: float = PAPER_PSI) -> Generator:
    """Weights as training begins with them, but for noise and biases, which are not zero here."""
    random = np.random.default_rng(seed)

    def drawn(name: str, shape: tuple[int, ...]) -> Any:
        values = random.standard_normal(shape)
        if name.endswith("affine.bias"):
            return 1 + 0.1 * values
        if name.endswith(("bias", "noise_strength", "w_avg")):
            return 0.1 * values
        return values / config.mapping_rate if ".fc" in name else values

    tensors = {name: np.asarray(drawn(name, shape), np.float32) for name, shape in config.shapes.items()}
    assert sum(math.prod(value.shape) for value in tensors.values()) == config.weight_count
    return Generator(config, tensors, psi)


@cache
def tiny_generator() -> Generator:
    """Of 16 pixels; it stands in for the shipped one."""
    config = StyleGAN2Config(resolution=16, channel_base=256, channel_max=16, mapping_layers=2)
    return random_generator(config, psi=PSI)


def generator_file(path: Path, **changes: Any) -> Path:
    """Random weights of a tiny generator, as a user might have trained one."""
    config = {"resolution": 16, "channel_base": 128, "channel_max": 8, "mapping_layers": 2, "w_dim": 16, **changes}
    save_generator(random_generator(StyleGAN2Config(**config), seed=7), path, {})
    return path
