"""Quanto: int8 and float8 with a scale a row, int4 and int2 in groups with a scale and a shift.

Eight bits: `weight._data` (out, in) times `weight._scale` (out, 1). Fewer: the weight as (groups, size), packed along
the groups, the first part of them in the lowest bits, in `weight._data._data`; a weight is code times scale less
shift, or code less shift times scale where the shift is whole. That file does not say its shape: config.json does.
Source: README of the optimum-quanto project; documentation of transformers, Quanto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.grouped import floats
from huref.model.source.packed.packed_tensor import (
    Blocks,
    PackedTensor,
    RowNumbers,
    packed_info,
    require,
    require_part,
    unsupported,
)
from huref.model.source.packed.scaled import Scaled, scale_rounding
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import SCALED_KINDS, float_gaps

NAME = "Quanto"
METHODS = ("quanto",)

_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_WRITERS = ("o_proj", "down_proj", "out_proj", "c_proj", "fc2", "w2", "wo", "dense", "dense_4h_to_h")
"""Modules that write into the residual stream: its width is their outputs, of others their inputs."""


@dataclass(frozen=True)
class RowTensor(PackedTensor):
    """Eight bits, a scale a row."""

    info: TensorInfo
    parts: tuple[str, ...]
    data: TensorInfo
    scale: TensorInfo

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        numbers = checkpoint.read(self.data.name, rows)
        scales = floats(checkpoint.read(self.scale.name)).reshape(-1)
        table = np.broadcast_to(scales, (self.info.shape[0],))
        chosen = table if rows is None else table[rows]
        gaps = 0.5 if self.data.dtype == "I8" else float_gaps(self.data.dtype)
        rounding = scale_rounding(self.scale.dtype)
        return lambda here: Scaled(numbers[here].astype(np.float32), chosen[here][:, None], gaps, rounding=rounding)


@dataclass(frozen=True)
class GroupTensor(PackedTensor):
    """Two or four bits in groups."""

    info: TensorInfo
    parts: tuple[str, ...]
    data: TensorInfo
    scale: TensorInfo
    shift: TensorInfo
    bits: int

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        n_rows, width = self.info.shape
        packed, size = checkpoint.read(self.data.name), self.data.shape[1]
        scales, shifts = (floats(checkpoint.read(part.name)).reshape(-1) for part in (self.scale, self.shift))
        is_whole = self.shift.dtype in ("I8", "U8")
        chosen = np.arange(n_rows) if rows is None else rows
        per_row, mask = width // size, np.uint8((1 << self.bits) - 1)
        rounding = scale_rounding(self.scale.dtype)

        def block(here: slice) -> Scaled:
            group = chosen[here][:, None] * per_row + np.arange(per_row)
            part, row = np.divmod(group, len(packed))
            codes = (packed[row] >> (part * self.bits).astype(np.uint8)[:, :, None]) & mask
            levels, times, shift = codes.astype(np.float32), scales[group][:, :, None], shifts[group][:, :, None]
            if is_whole:
                return Scaled(levels - shift, times, rounding=rounding)
            return Scaled(levels, times, offsets=-shift, rounding=rounding)

        return block


def find(stored: Stored) -> Iterator[PackedTensor]:
    """Tensors with `_data` and `_scale`."""
    for name, data in stored.ending("._data"):
        scale = stored.get(f"{name}._scale")
        if scale is not None and not name.endswith("._data"):
            require(data.dtype in ("I8", "F8_E4M3", "F8_E5M2"), data, "int8 or float8", data.dtype)
            require(len(data.shape) == 2 and 0 not in data.shape, data, "a matrix", data.shape)
            require(math.prod(scale.shape) in (1, data.shape[0]), scale, f"{data.shape[0]} scales", scale.shape)
            kind = SCALED_KINDS.get(data.dtype, data.dtype)
            yield RowTensor(packed_info(name, data.shape, kind, [data, scale]), (data.name, scale.name), data, scale)
    for name, data in stored.ending("._data._data"):
        yield _groups(stored, name, data)


def _groups(stored: Stored, name: str, data: TensorInfo) -> GroupTensor:
    scale, shift = (
        require_part(stored.get(f"{name}.{part}"), data, f"{name}.{part}") for part in ("_scale", "_shift")
    )
    require(
        data.dtype == "U8" and len(data.shape) == 2 and 0 not in data.shape, data, "a matrix of bytes", data.shape
    )
    n_groups, size = math.prod(scale.shape), data.shape[1]
    require(math.prod(shift.shape) == n_groups > 0, shift, f"{n_groups} shifts", shift.shape)
    bits = next((bits for bits in (4, 2) if -(-n_groups // (8 // bits)) == data.shape[0]), 0)
    require(bits > 0, data, f"groups of {size}, four or two bits, for {n_groups} scales", data.shape)
    shape = _shape(stored, name, n_groups * size)
    if shape is None or shape[1] % size:
        where = f"{data.file}, tensor {data.name}"
        raise unsupported(
            "the shape of packed weights is not told", where, "hidden_size in config.json", "no such size"
        )
    return GroupTensor(
        info=packed_info(name, shape, f"QUANTO_{bits}BIT", [data, scale, shift]),
        parts=(data.name, scale.name, shift.name),
        data=data,
        scale=scale,
        shift=shift,
        bits=bits,
    )


def _shape(stored: Stored, name: str, count: int) -> tuple[int, int] | None:
    """The shape by the width of the residual stream; the family's own sizes are held against it later."""
    config: Any = stored.checkpoint.config
    inner = config.get("text_config")
    for section in (config, inner if isinstance(inner, dict) else {}):
        for key in _WIDTHS:
            width = section.get(key)
            if type(width) is int and width > 0 and count % width == 0:
                module = name.removesuffix(".weight").rsplit(".", 1)[-1]
                return (width, count // width) if module in _WRITERS else (count // width, width)
    return None
