"""bitsandbytes: nf4 and fp4 in blocks of the flattened tensor, int8 with a scale a row.

Four bits: `weight` (n / 2, 1) bytes, the first of two numbers in the high half; `weight.quant_map` (16,);
`weight.absmax` a scale a block, or with double quantisation bytes that are looked up in `nested_quant_map`, times
`nested_absmax`, plus an offset; `weight.quant_state.bitsandbytes__nf4` is JSON with shape and sizes. Eight bits:
`weight` int8 times `SCB` (out,) over 127. Source: documentation of bitsandbytes (functional
reference); QLoRA, appendix E.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.json_file import parse_object
from huref.model.source.packed.bits import look_up
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
from huref.model.source.packed.scaled import Scaled
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import table_gaps
from huref.numerics.arrays import Floats, float32

NAME = "bitsandbytes"
METHODS = ("bitsandbytes",)

_STATE_LIMIT = 1 << 16
_NESTED_ROUNDING = 0.02
"""Relative error of a block's scale in eight bits of bitsandbytes' dynamic type."""

_ROW_MAJOR = 0


@dataclass(frozen=True)
class _Blocks:
    """Sizes in the JSON of a state."""

    size: int
    nested_size: int
    nested_offset: float


@dataclass(frozen=True)
class FourBitTensor(PackedTensor):
    """A tensor of nf4 or fp4."""

    info: TensorInfo
    parts: tuple[str, ...]
    name: str
    blocks: _Blocks
    is_nested: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        n_rows, width = math.prod(self.info.shape[:-1]), self.info.shape[-1]
        chosen = np.arange(n_rows) if rows is None else rows
        table = floats(checkpoint.read(f"{self.name}.quant_map"))
        absmax = self._absmax(checkpoint)
        octets, first = self._octets(checkpoint, rows, width)
        gaps = table_gaps(table)
        rounding = _NESTED_ROUNDING if self.is_nested else 0.0

        def block(here: slice) -> Scaled:
            at = chosen[here]
            is_whole = width % self.blocks.size == 0
            element = at[:, None] * width + np.arange(width if width % 2 or not is_whole else 0)
            if width % 2 == 0:
                pairs = octets[_runs(at * (width // 2) - first, width // 2)]
                numbers = partial(look_up, octets=pairs, is_high_first=True)
            else:
                pairs = octets[element // 2 - first]
                numbers = partial(np.take, indices=np.where(element % 2, pairs & 15, pairs >> 4))
            if is_whole:
                per_row = width // self.blocks.size
                shape: tuple[int, ...] = len(at), per_row, self.blocks.size
                scales = absmax[at[:, None] * per_row + np.arange(per_row)][:, :, None]
            else:
                shape = len(at), width
                scales = absmax[element // self.blocks.size]
            levels = numbers(table).reshape(shape)
            return Scaled(levels, scales, lambda _: numbers(gaps).reshape(shape), rounding=rounding)

        return block

    def _octets(self, checkpoint: Checkpoint, rows: RowNumbers, width: int) -> tuple[Floats, int]:
        """The bytes from the first wanted row to the last, and where they begin."""
        if rows is None or not len(rows) or checkpoint.tensors[self.name].dtype != "U8":
            return checkpoint.read(self.name).reshape(-1).view(np.uint8), 0  # any type may hold the bytes
        first, end = int(rows.min()) * width // 2, -(-(int(rows.max()) + 1) * width // 2)
        return checkpoint.read_table(self.name, slice(first, end)).reshape(-1), first

    def _absmax(self, checkpoint: Checkpoint) -> Floats:
        """A scale for each block."""
        stored = checkpoint.read(f"{self.name}.absmax").reshape(-1)
        if not self.is_nested:
            return float32(stored)
        table = floats(checkpoint.read(f"{self.name}.nested_quant_map"))
        scales = floats(checkpoint.read(f"{self.name}.nested_absmax"))
        of_block = np.arange(len(stored)) // self.blocks.nested_size
        return float32(table[stored] * scales[of_block] + np.float32(self.blocks.nested_offset))


@dataclass(frozen=True)
class EightBitTensor(PackedTensor):
    """A tensor of LLM.int8()."""

    info: TensorInfo
    parts: tuple[str, ...]
    name: str
    scales: str

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        numbers = checkpoint.read(self.name, rows)
        scales = float32(checkpoint.read(self.scales).reshape(-1)) / np.float32(127)
        chosen = scales if rows is None else scales[rows]
        return lambda here: Scaled(numbers[here].astype(np.float32), chosen[here][:, None], rounding=2.0**-11)


def find(stored: Stored) -> Iterator[PackedTensor]:
    """Tensors beside a state of four bits, or beside `SCB`."""
    for kind in ("nf4", "fp4"):
        for name, state in stored.ending(f".quant_state.bitsandbytes__{kind}"):
            yield _four_bits(stored, name, state, kind)
    for base, scales in stored.ending(".SCB"):
        yield _eight_bits(stored, base, scales)


def _runs(starts: np.ndarray, length: int) -> slice | np.ndarray:
    """Places of runs of equal length: one slice where they follow one another."""
    if bool((np.diff(starts) == length).all()):
        return slice(int(starts[0]), int(starts[-1]) + length)
    places: np.ndarray = starts[:, None] + np.arange(length)
    return places


def _four_bits(stored: Stored, name: str, state: TensorInfo, kind: str) -> FourBitTensor:
    weight = require_part(stored.get(name), state, name)
    require(
        state.dtype == "U8" and state.nbytes <= _STATE_LIMIT, state, f"at most {_STATE_LIMIT} bytes", state.nbytes
    )
    text = stored.checkpoint.read(state.name).tobytes()
    said = parse_object(text, f"{state.file}, tensor {state.name}")
    shape: Any = said.get("shape")
    size: Any = said.get("blocksize")
    require(
        _is_shape(shape) and type(size) is int and size > 0, state, "a shape and a size of blocks", f"{shape}, {size}"
    )
    count = math.prod(shape)
    require(weight.nbytes == -(-count // 2), weight, f"{-(-count // 2)} bytes", weight.nbytes)
    absmax = require_part(stored.get(f"{name}.absmax"), weight, f"{name}.absmax")
    n_blocks = -(-count // size)
    require(math.prod(absmax.shape) == n_blocks, absmax, f"{n_blocks} scales", absmax.shape)
    table = require_part(stored.get(f"{name}.quant_map"), weight, f"{name}.quant_map")
    require(table.shape == (16,), table, "16 numbers", table.shape)
    nested = stored.get(f"{name}.nested_absmax")
    names = [state.name, weight.name, absmax.name, table.name]
    nested_size, offset = said.get("nested_blocksize", 0), said.get("nested_offset", 0.0)
    if nested is not None:
        inner = require_part(stored.get(f"{name}.nested_quant_map"), weight, f"{name}.nested_quant_map")
        require(absmax.dtype == "U8" and inner.shape == (256,), inner, "256 numbers for bytes", inner.shape)
        is_sound = type(nested_size) is int and nested_size > 0 and isinstance(offset, int | float)
        require(
            is_sound and math.isfinite(offset), state, "nested_blocksize and nested_offset", (nested_size, offset)
        )
        require(nested.shape == (-(-n_blocks // nested_size),), nested, f"blocks of {nested_size}", nested.shape)
        names += [nested.name, inner.name]
    return FourBitTensor(
        info=packed_info(name, shape, kind.upper(), [weight, absmax]),
        parts=tuple(names),
        name=name,
        blocks=_Blocks(size, nested_size, float(offset)),
        is_nested=nested is not None,
    )


def _is_shape(found: object) -> TypeGuard[list[int]]:
    return isinstance(found, list) and 0 < len(found) < 5 and all(type(n) is int and 0 < n < 1 << 40 for n in found)


def _eight_bits(stored: Stored, base: str, scales: TensorInfo) -> EightBitTensor:
    name = f"{base}.weight"
    weight = require_part(stored.get(name), scales, name)
    require(
        weight.dtype == "I8" and len(weight.shape) == 2, weight, "an int8 matrix", f"{weight.dtype} {weight.shape}"
    )
    require(math.prod(scales.shape) == weight.shape[0], scales, f"{weight.shape[0]} scales", scales.shape)
    order = stored.get(f"{base}.weight_format")
    if order is not None:
        require(math.prod(order.shape) == 1, order, "one number", order.shape)
        found = int(stored.checkpoint.read(order.name).reshape(-1)[0])
        if found != _ROW_MAJOR:
            where = f"{order.file}, tensor {order.name}"
            raise unsupported("int8 weights in a layout of one kind of GPU", where, "0, rows", str(found))
    names = stored.aside(f"{base}.weight_format", f"{base}.CB")
    return EightBitTensor(
        info=packed_info(name, weight.shape, "I8", [weight, scales]),
        parts=(name, scales.name, *names),
        name=name,
        scales=scales.name,
    )
