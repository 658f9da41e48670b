"""NVFP4: four-bit floats in blocks of 16 with an E4M3 scale each, and one scale for the whole tensor.

ModelOpt: `weight` (out, in / 2) bytes, `weight_scale` (out, in / 16), `weight_scale_2`, which multiplies.
compressed-tensors: `weight_packed`, `weight_scale`, `weight_global_scale`, which divides; with scales of bytes and no
global scale it is MXFP4 in blocks of 32. The first of two numbers is in the low half of a byte. Source: documentation
of ModelOpt (NVFP4) and of compressed-tensors (nvfp4-pack-quantized); OCP Microscaling Formats 1.0.
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
)
from huref.model.source.packed.scaled import Scaled
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import E2M1, MXFP4_GAPS, NVFP4_GAPS, looked_up, powers_of_two
from huref.numerics.arrays import float32

NAME = "NVFP4"
METHODS = ("modelopt", "modelopt-fp4", "nvfp4", "compressed-tensors")

_BLOCK, _MX_BLOCK = 16, 32


@dataclass(frozen=True)
class PairsTensor(PackedTensor):
    """A tensor of four-bit floats, two in a byte."""

    info: TensorInfo
    parts: tuple[str, ...]
    packed: str
    scale: str
    whole: str
    divides: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        octets = checkpoint.read_table(self.packed, rows)
        scales = checkpoint.read_table(self.scale, rows)
        size, table = (_BLOCK, NVFP4_GAPS) if self.whole else (_MX_BLOCK, MXFP4_GAPS)
        if self.whole:
            factor = float32(checkpoint.read(self.whole).reshape(-1))
            factor = np.float32(1) / factor if self.divides else factor
            scales = float32(scales) * self._of_rows(factor, rows)
        else:
            scales = powers_of_two(scales)

        def block(here: slice) -> Scaled:
            shape = (here.stop - here.start, scales.shape[1], size)
            levels, gaps = looked_up(E2M1, table, octets[here], shape)
            return Scaled(levels, scales[here][:, :, None], gaps)

        return block

    def _of_rows(self, factor: np.ndarray, rows: RowNumbers) -> np.ndarray:
        """One factor for all, or that of each row's slab."""
        if len(factor) == 1:
            return factor
        n_rows = math.prod(self.info.shape[:-1])
        chosen = np.arange(n_rows) if rows is None else rows
        picked: np.ndarray = factor[chosen // (n_rows // len(factor))][:, None]
        return picked


def find(stored: Stored) -> Iterator[PairsTensor]:
    """Tensors of bytes with scales of blocks."""
    for name, packed in stored.ending("_packed"):
        scale, whole = stored.get(f"{name}_scale"), stored.get(f"{name}_global_scale")
        if packed.dtype == "U8" and scale is not None:
            yield _tensor(name, packed, scale, whole, divides=True)
    for name, packed in stored.tensors.items():
        scale, whole = stored.get(f"{name}_scale"), stored.get(f"{name}_scale_2")
        if packed.dtype == "U8" and scale is not None and whole is not None:
            yield _tensor(name, packed, scale, whole, divides=False)


def _tensor(
    name: str, packed: TensorInfo, scale: TensorInfo, whole: TensorInfo | None, *, divides: bool
) -> PairsTensor:
    block, dtype = (_MX_BLOCK, "U8") if whole is None else (_BLOCK, "F8_E4M3")
    require(len(packed.shape) >= 2 and 0 not in packed.shape, packed, "a matrix", packed.shape)
    width = packed.shape[-1] * 2
    shape = (*packed.shape[:-1], width)
    require(scale.dtype == dtype, scale, dtype, scale.dtype)
    require(width % block == 0, packed, f"blocks of {block}", f"{width} numbers a row")
    require(scale.shape == (*shape[:-1], width // block), scale, f"a scale for each block of {block}", scale.shape)
    names = [packed.name, scale.name]
    if whole is not None:
        count = math.prod(whole.shape)
        require(count in (1, shape[0] if len(shape) > 2 else 1), whole, "one scale, or one a slab", whole.shape)
        names.append(whole.name)
    return PairsTensor(
        info=packed_info(name, shape, "MXFP4" if whole is None else "NVFP4", [packed, scale]),
        parts=tuple(names),
        packed=packed.name,
        scale=scale.name,
        whole="" if whole is None else whole.name,
        divides=divides,
    )
