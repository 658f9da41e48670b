"""MXFP4 of gpt-oss: four-bit floats in blocks of 32 with a power of two each.

`X_blocks` (..., out, in / 32, 16) bytes, the first of two numbers in the low half, and `X_scales` (..., out, in / 32)
bytes. Experts stand for (experts, in, out) in plain checkpoints, turned; a `weight` does not. Source: README of
gpt-oss, section on precision format; OCP Microscaling Formats 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.packed_tensor import (
    Blocks,
    PackedTensor,
    RowNumbers,
    packed_info,
    require,
    require_part,
)
from huref.model.source.packed.scaled import Scaled
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import E2M1, MXFP4_GAPS, looked_up, powers_of_two
from huref.numerics.arrays import Array

NAME = "MXFP4"
METHODS = ("mxfp4",)

_BLOCK = 32


@dataclass(frozen=True)
class Mxfp4Tensor(PackedTensor):
    """A tensor in blocks of 32."""

    info: TensorInfo
    parts: tuple[str, ...]
    is_turned: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        name, scale_name = self.parts
        shape = checkpoint.tensors[scale_name].shape
        octets = _rows(checkpoint, name, rows, shape[-1])
        scales = powers_of_two(checkpoint.read_table(scale_name, rows))

        def block(here: slice) -> Scaled:
            shape = (here.stop - here.start, octets.shape[1], _BLOCK)
            levels, gaps = looked_up(E2M1, MXFP4_GAPS, octets[here], shape)
            return Scaled(levels, scales[here][:, :, None], gaps)

        return block


def _rows(checkpoint: Checkpoint, name: str, rows: RowNumbers, n_blocks: int) -> Array:
    """(n, blocks, 16) bytes of some rows: all axes but the last two are rows."""
    places = None if rows is None else (rows[:, None] * n_blocks + np.arange(n_blocks)).ravel()
    return checkpoint.read_table(name, places).reshape(-1, n_blocks, _BLOCK // 2)


def find(stored: Stored) -> Iterator[Mxfp4Tensor]:
    """Tensors in `_blocks` and `_scales`."""
    for name, blocks in stored.ending("_blocks"):
        if blocks.dtype != "U8":
            continue
        scales = require_part(stored.get(f"{name}_scales"), blocks, f"{name}_scales")
        require(
            len(blocks.shape) >= 3 and blocks.shape[-1] == _BLOCK // 2, blocks, "blocks of 16 bytes", blocks.shape
        )
        require(
            scales.shape == blocks.shape[:-1] and scales.dtype == "U8", scales, str(blocks.shape[:-1]), scales.shape
        )
        require(math.prod(blocks.shape) > 0, blocks, "numbers", blocks.shape)
        shape = (*scales.shape[:-1], scales.shape[-1] * _BLOCK)
        is_turned = len(shape) == 3 and not name.endswith("weight")
        if is_turned:
            shape = (shape[0], shape[2], shape[1])
        yield Mxfp4Tensor(
            packed_info(name, shape, "MXFP4", [blocks, scales]), (blocks.name, scales.name), is_turned=is_turned
        )
