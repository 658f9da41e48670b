"""A random generator of 16 pixels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from huref.portraits.generator.file import PSI, save_generator
from huref.portraits.generator.stylegan2 import Generator, StyleGAN2Config


@cache
def tiny_generator() -> Any:
    import torch

    from huref.portraits.generator.stylegan2 import Generator, StyleGAN2Config

    config = StyleGAN2Config(resolution=16, channel_base=256, channel_max=16, mapping_layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(config).eval().requires_grad_(False)
    generator.usual_psi = PSI  # it stands in for the shipped one
    return generator


def generator_file(path: Path, **changes: Any) -> Path:
    """Random weights of a tiny generator, as a user might have trained one."""
    config = {"resolution": 16, "channel_base": 128, "channel_max": 8, "mapping_layers": 2, "w_dim": 16, **changes}
    torch.manual_seed(7)
    save_generator(Generator(StyleGAN2Config(**config)).eval(), path, {})
    return path
