"""A trained generator inside a larger one: more pixels, more channels, the same pictures to begin with.

Progressive growing (Karras et al., 2018) without its fading: the skip architecture adds colours up, so that a new
block that adds none leaves the enlarged picture as it was. Widening follows Net2Net (Chen et al., 2016): what is new
is not listened to yet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from huref.errors import UsageError
from huref_lab.generator.mapping import fit_one_layer
from huref_lab.generator.network import TrainableGenerator


@torch.no_grad()
def grow(small: TrainableGenerator, large: TrainableGenerator) -> None:
    """Puts a trained generator into an untrained one, which then makes the same pictures, enlarged.

    Args:
        small: the trained one.
        large: of the same lengths of z and w; at least as many pixels and channels; a mapping as deep, or of one
            layer, which then makes other pictures of the same kind (`mapping`). Changed.

    Raises:
        UsageError: the one does not fit into the other.
    """
    state = large.state_dict()
    is_flattened = large.config.mapping_layers == 1 < small.config.mapping_layers
    if is_flattened:
        fit_one_layer(small.mapping, large.mapping)
    for name, value in small.state_dict().items():
        if is_flattened and name.startswith("mapping."):
            continue
        target = state.get(name)
        is_fitting = target is not None and target.ndim == value.ndim
        if not is_fitting or any(new < old for new, old in zip(target.shape, value.shape, strict=True)):  # type: ignore[union-attr]
            raise UsageError(
                "a trained generator does not fit into the new one",
                where=name,
                expected=f"at most {tuple(target.shape) if target is not None else 'no such tensor'}",
                got=str(tuple(value.shape)),
                next_step="grow it: the same mapping, at least as many pixels and channels",
            )
        _put(name, value, target)  # type: ignore[arg-type]
    for side in large.config.sides[len(small.config.sides) :]:
        state[f"synthesis.b{side}.torgb.weight"].zero_()


def _put(name: str, value: Tensor, target: Tensor) -> None:
    """One tensor into the corner of a larger one; known outputs do not listen to new inputs."""
    corner = tuple(slice(length) for length in value.shape)
    if target.shape != value.shape and value.ndim == 4:
        target[: value.shape[0]] = 0
    if name.endswith("torgb.weight"):  # its gain is one over the root of its inputs
        value = value * math.sqrt(target.shape[1] / value.shape[1])
    target[corner] = value
