"""Eight-bit numbers under their plain name, with scales beside them: FP8 and int8, per tensor, row, group or block.

`X.weight` of float8 or int8, and `X.weight_scale` or `X.weight_scale_inv`, which multiplies in spite of its name, of
one number, a row, or blocks of both axes (DeepSeek-V3: 128 by 128). `X.weight_zero_point` is taken off first. Written
by compressed-tensors (float-quantized, int-quantized, naive-quantized), AutoFP8, ModelOpt, FBGEMM and DeepSeek; fused
experts have the scale of `X` beside `X`. Source: README of DeepSeek-V3 weights (README_WEIGHTS.md), documentation of
compressed-tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.grouped import floats
from huref.model.source.packed.packed_tensor import Blocks, PackedTensor, RowNumbers, packed_info, require
from huref.model.source.packed.scaled import Scaled, scale_rounding
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import SCALED_KINDS, float_gaps, powers_of_two
from huref.numerics.arrays import Array, Floats, float32

NAME = "FP8"
METHODS = ("fp8", "fbgemm-fp8", "modelopt", "compressed-tensors", "w8a8-fp8", "w8a8-int8")

_TYPES = ("F8_E4M3", "F8_E5M2", "I8")
_SCALES = ("_scale_inv", "_scale")
_BLOCK = 128


@dataclass(frozen=True)
class EightBitTensor(PackedTensor):
    """A tensor of eight-bit numbers.

    Attributes:
        scale: stored scales, of as many axes as the tensor after `scale_shape`.
        scale_shape: with axes of 1 where the scale is one along the axis.
        block: numbers along each axis that share a scale.
    """

    info: TensorInfo
    parts: tuple[str, ...]
    scale: TensorInfo
    scale_shape: tuple[int, ...]
    block: tuple[int, ...]
    zero_point: str = ""

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        shape = self.info.shape
        n_rows = math.prod(shape[:-1])
        numbers = checkpoint.read_table(self.info.name, rows)
        scales = _scale_values(checkpoint, self.scale).reshape(self.scale_shape)
        zeros = floats(checkpoint.read(self.zero_point)).reshape(self.scale_shape) if self.zero_point else None
        chosen = np.arange(n_rows) if rows is None else rows
        dtype = checkpoint.tensors[self.info.name].dtype
        gaps = 0.5 if dtype == "I8" else float_gaps(dtype)
        rounding = scale_rounding(self.scale.dtype)

        def block(here: slice) -> Scaled:
            levels = numbers[here].astype(np.float32)
            if zeros is not None:
                levels -= self._spread(zeros, chosen[here])
            return Scaled(levels, self._spread(scales, chosen[here]), gaps, rounding=rounding)

        return block

    def _spread(self, table: Floats, rows: Array) -> Floats:
        """(n, 1 or in): what belongs to each number of some rows."""
        places: list[Array] = []
        left = rows
        for size, step, count in reversed(
            list(zip(self.info.shape[:-1], self.block[:-1], self.scale_shape[:-1], strict=True))
        ):
            place = left % size // step
            places.insert(0, np.minimum(place, count - 1))
            left = left // size
        chosen: Floats = table[tuple(places)] if places else table[None]
        if self.scale_shape[-1] == 1:
            return chosen
        spread: Floats = np.repeat(chosen, self.block[-1], axis=1)[:, : self.info.shape[-1]]
        return spread


def find(stored: Stored) -> Iterator[EightBitTensor]:
    """Eight-bit tensors with a scale of their own name."""
    for name, info in stored.tensors.items():
        if info.dtype in _TYPES and len(info.shape) >= 2 and 0 not in info.shape:
            scale = next((found for ending in _SCALES if (found := _scale(stored, name, ending))), None)
            if scale is not None:
                yield _tensor(stored, info, scale)


def _scale(stored: Stored, name: str, ending: str) -> TensorInfo | None:
    """A scale beside a tensor: under its name, or for `X.weight` under `X.scale` too."""
    found = stored.get(f"{name}{ending}")
    if found is None and name.endswith(".weight") and ending == "_scale":
        found = stored.get(f"{name.removesuffix('weight')}scale")
    return found


def _tensor(stored: Stored, info: TensorInfo, scale: TensorInfo) -> EightBitTensor:
    shape, block = _scale_layout(info, scale, _declared_block(stored))
    zero = stored.get(f"{info.name}_zero_point")
    if zero is not None:
        require(math.prod(zero.shape) == math.prod(shape), zero, f"{math.prod(shape)} zero points", zero.shape)
    shapes = stored.aside(f"{info.name}_shape", f"{info.name}_zero_point", f"{info.name}_scale_ub")
    return EightBitTensor(
        info=packed_info(info.name, info.shape, SCALED_KINDS.get(info.dtype, info.dtype), [info, scale]),
        parts=(info.name, scale.name, *shapes),
        scale=scale,
        scale_shape=shape,
        block=block,
        zero_point="" if zero is None else zero.name,
    )


def _scale_layout(
    info: TensorInfo, scale: TensorInfo, declared: tuple[int, int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The scales' shape with an axis for each of the tensor's, and how many numbers share one along each.

    Raises:
        CorruptFileError: a shape that covers the tensor in no way.
    """
    sizes, given = info.shape, scale.shape
    count = math.prod(given)
    require(count > 0, scale, "at least one scale", given)
    if count == 1:
        return (1,) * len(sizes), sizes
    if len(given) < len(sizes):  # a row's, or a slab's, without the axes of 1
        given = (*given, *(1,) * (len(sizes) - len(given)))
    require(len(given) == len(sizes), scale, f"at most {len(sizes)} axes", given)
    blocks = []
    for axis, (size, parts) in enumerate(zip(sizes, given, strict=True)):
        said = declared[axis - len(sizes)] if declared and axis >= len(sizes) - 2 else None
        even = size // parts if parts and size % parts == 0 else None
        step = next((step for step in (size, 1, said, even, _BLOCK) if step and -(-size // step) == parts), 0)
        require(step > 0, scale, f"scales that cover {list(sizes)}", given)
        blocks.append(step)
    return given, tuple(blocks)


def _declared_block(stored: Stored) -> tuple[int, int] | None:
    said: Any = stored.declared.get("weight_block_size")
    is_pair = isinstance(said, list) and len(said) == 2 and all(type(n) is int and 0 < n < 1 << 30 for n in said)
    return (said[0], said[1]) if is_pair else None


def _scale_values(checkpoint: Checkpoint, scale: TensorInfo) -> Floats:
    values = checkpoint.read(scale.name)
    if scale.dtype == "U8":
        return powers_of_two(values)
    require(values.dtype.kind not in "biu", scale, "floating-point scales", scale.dtype)
    return float32(values)
