"""The shape of a StyleGAN2 generator, and the tensors that it has."""

from __future__ import annotations

import math
from dataclasses import dataclass

_LIMITS = {
    "z_dim": (1, 2**14),
    "w_dim": (1, 2**14),
    "mapping_layers": (1, 64),
    "channel_base": (1, 2**20),
    "channel_max": (1, 2**14),
    "label_dim": (0, 2**16),
    "noise_seed": (0, 2**48),
}


@dataclass(frozen=True)
class StyleGAN2Config:
    """The shape of a generator.

    Args:
        resolution: side of the picture in pixels, a power of two from 8 to 1024.
        z_dim: length of the Gaussian vector.
        w_dim: length of the style vector.
        mapping_layers: fully connected layers between them.
        channel_base: a block of side r has `min(channel_base // r, channel_max)` channels.
        channel_max: see `channel_base`.
        noise_seed: fixes the constant noise pictures, and with them the pixels.
        label_dim: classes of a conditional generator; 0 for one without.
        mapping_rate: learning rate of the mapping, as a multiple of the rest's; its weights are stored divided by it.
        conv_clamp: bound on what a convolution puts out, either way; None for no bound.

    Raises:
        ValueError: a number outside its limits.
    """

    resolution: int = 64
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 3072
    channel_max: int = 192
    noise_seed: int = 0
    label_dim: int = 0
    mapping_rate: float = 0.01
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        side = self.resolution
        if not 8 <= side <= 1024 or side & (side - 1):
            raise ValueError(f"resolution must be a power of two from 8 to 1024, not {side}")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, not {value}")
        if not self.mapping_rate > 0 or not (self.conv_clamp is None or self.conv_clamp > 0):
            raise ValueError("mapping_rate and conv_clamp must be positive")

    @property
    def sides(self) -> list[int]:
        """Sides of the blocks: 4, 8, ... resolution."""
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    @property
    def style_layers(self) -> int:
        """How many style vectors the synthesis takes: `2 log2(resolution) - 2`."""
        return 2 * len(self.sides)

    def channels(self, side: int) -> int:
        """Channels of the block of that side."""
        return max(1, min(self.channel_base // side, self.channel_max))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the network by their published names, known before any of them is allocated."""
        first = self.z_dim + (self.w_dim if self.label_dim else 0)
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (self.w_dim,)}
        if self.label_dim:
            shapes |= _dense("mapping.embed", self.label_dim, self.w_dim)
        for k in range(self.mapping_layers):
            shapes |= _dense(f"mapping.fc{k}", self.w_dim if k else first, self.w_dim)
        for side in self.sides:
            block, channels = f"synthesis.b{side}", self.channels(side)
            if side == 4:
                shapes[f"{block}.const"] = (channels, 4, 4)
            else:
                shapes |= self._styled(f"{block}.conv0", self.channels(side // 2), channels, side)
            shapes |= self._styled(f"{block}.conv1", channels, channels, side)
            shapes |= _dense(f"{block}.torgb.affine", self.w_dim, channels)
            shapes |= {f"{block}.torgb.weight": (3, channels, 1, 1), f"{block}.torgb.bias": (3,)}
        return shapes

    @property
    def weight_count(self) -> int:
        """Numbers in the tensors of the network."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def parameter_count(self) -> int:
        """Numbers that were trained: all but the mean style and the constant noise."""
        constant = ("w_avg", "noise_const")
        return sum(math.prod(shape) for name, shape in self.shapes.items() if not name.endswith(constant))

    def _styled(self, name: str, inputs: int, outputs: int, side: int) -> dict[str, tuple[int, ...]]:
        return {
            **_dense(f"{name}.affine", self.w_dim, inputs),
            f"{name}.weight": (outputs, inputs, 3, 3),
            f"{name}.bias": (outputs,),
            f"{name}.noise_const": (side, side),
            f"{name}.noise_strength": (),
        }


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
