"""compressed-tensors, pack-quantized: integers of a few bits in words, with scales of rows or groups.

`weight_packed` (out, in x bits / 32) int32, the lowest bits first, numbers less their smallest; `weight_scale` (out,
groups), `weight_zero_point` as int8 or packed along the outputs, `weight_g_idx` the group of each input,
`weight_shape` the plain shape. Its other formats have eight-bit numbers (`fp8_scheme`) or four-bit floats
(`nvfp4_scheme`). Source: documentation of compressed-tensors, README and the compressors' reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import unpack_bits
from huref.model.source.packed.grouped import floats, groups_of
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
from huref.numerics.arrays import Array, Floats, float32

NAME = "compressed-tensors"
METHODS = ("compressed-tensors",)

_NOT_READ = ("marlin-24", "sparse-24-bitmask", "sparse-bitmask")


@dataclass(frozen=True)
class PackedIntegers(PackedTensor):
    """A tensor of integers in words."""

    info: TensorInfo
    parts: tuple[str, ...]
    packed: str
    scale: TensorInfo
    zero_point: TensorInfo | None
    index: TensorInfo | None
    bits: int
    is_dense: bool
    size: int

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        n_rows, width = self.info.shape
        words = checkpoint.read(self.packed, rows)
        scales = self._table(float32(checkpoint.read(self.scale.name)), rows)
        index = None if self.index is None else checkpoint.read(self.index.name)
        groups = groups_of(index, scales.shape[1], self.size, width, self.index or self.scale)
        middle = np.float32(1 << (self.bits - 1))
        zeros = None if self.zero_point is None else self._table(self._zeros(checkpoint, n_rows), rows)
        rounding = scale_rounding(self.scale.dtype)

        def block(here: slice) -> Scaled:
            levels = groups.shaped(_codes(words[here], self.bits, self.is_dense)[:, :width])
            levels -= middle if zeros is None else groups.spread(zeros[here] + middle)
            return Scaled(levels, groups.spread(scales[here]), rounding=rounding)

        return block

    def _table(self, values: Floats, rows: RowNumbers) -> Floats:
        """(n, groups): a row's numbers, or the same for all rows."""
        table = values.reshape(-1, 1) if values.ndim < 2 else values
        n = self.info.shape[0] if rows is None else len(rows)
        if len(table) == 1:
            return np.repeat(table, n, axis=0)
        return table if rows is None else np.ascontiguousarray(table[rows])

    def _zeros(self, checkpoint: Checkpoint, n_rows: int) -> Floats:
        """Zero points, less the smallest number as the levels are."""
        assert self.zero_point is not None
        stored = checkpoint.read(self.zero_point.name)
        if self.zero_point.dtype != "I32":
            return floats(stored)
        codes = _codes(np.ascontiguousarray(stored.T), self.bits, self.is_dense).T[:n_rows]
        return floats(codes) - np.float32(1 << (self.bits - 1))


def _codes(words: Array, bits: int, is_dense: bool) -> Array:
    """Numbers of words: one stream of bits, or in old files 32 / bits a word, what is left over of it empty."""
    if is_dense:
        return unpack_bits(words, bits)
    shifts = np.arange(0, 32 - bits + 1, bits, dtype=np.uint32)
    wide = np.ascontiguousarray(words).view(np.uint32)[..., None] >> shifts
    codes: Array = (wide & np.uint32((1 << bits) - 1)).astype(np.uint8)
    return codes.reshape(*words.shape[:-1], -1)


def find(stored: Stored) -> Iterator[PackedIntegers]:
    """Tensors with packed words."""
    declared = stored.declared
    said = declared.text("format")
    sparse = declared.get("sparsity_config")
    inner = str(sparse.get("format", "")) if isinstance(sparse, dict) else ""
    if declared.method in METHODS and (said in _NOT_READ or inner in _NOT_READ):
        what = "a compressed-tensors layout that huref does not read"
        raise unsupported(what, declared.where, "pack-, int-, float- or nvfp4-pack-quantized", said + " " + inner)
    for name, packed in stored.ending("_packed"):
        if packed.dtype == "I32" and stored.get(f"{name}_scale") is not None:
            yield _tensor(stored, name, packed)


def _tensor(stored: Stored, name: str, packed: TensorInfo) -> PackedIntegers:
    stated = require_part(stored.get(f"{name}_shape"), packed, f"{name}_shape")
    require(math.prod(stated.shape) == 2 and stated.dtype in ("I32", "I64"), stated, "two sizes", stated.shape)
    shape = tuple(int(n) for n in stored.checkpoint.read(stated.name).reshape(-1))
    require(len(packed.shape) == 2 and packed.shape[0] == shape[0] > 0, packed, f"{shape[0]} rows", packed.shape)
    bits, is_dense = _bits(stored, packed, shape[1])
    scale = require_part(stored.get(f"{name}_scale"), packed, f"{name}_scale")
    index, zero = stored.get(f"{name}_g_idx"), stored.get(f"{name}_zero_point")
    count = scale.shape[1] if len(scale.shape) == 2 else 1
    covers = math.prod(scale.shape) in (count, shape[0] * count) and len(scale.shape) <= 2
    require(count > 0 and covers, scale, f"scales of {shape[0]} rows", scale.shape)
    size = -(-shape[1] // count)
    if index is not None:
        require(index.shape == (shape[1],), index, f"a group for each of {shape[1]} inputs", index.shape)
    if zero is not None:
        rows = _n_words(shape[0], bits, is_dense) if zero.dtype == "I32" else shape[0]
        fits = zero.shape in ((rows, count), scale.shape)
        require(fits, zero, f"zero points of {count} groups", zero.shape)
    names = stored.aside(f"{name}_g_idx", f"{name}_zero_point", f"{name}_shape")
    return PackedIntegers(
        info=packed_info(name, shape, f"INT{bits}", [packed, scale]),
        parts=(packed.name, scale.name, *names),
        packed=packed.name,
        scale=scale,
        zero_point=zero,
        index=index,
        bits=bits,
        is_dense=is_dense,
        size=size,
    )


def _bits(stored: Stored, packed: TensorInfo, width: int) -> tuple[int, bool]:
    """Bits of a number, and whether they are one stream: what fits the words of a row, and what is declared."""
    require(0 < width <= packed.shape[1] * 32, packed, f"words for {width} numbers a row", packed.shape)
    ways = [(bits, is_dense) for is_dense in (True, False) for bits in range(1, 9)]
    fitting = [way for way in ways if _n_words(width, *way) == packed.shape[1]]
    require(bool(fitting), packed, f"words for {width} numbers a row", packed.shape)
    declared = _declared_bits(stored.declared.get("config_groups"))
    return next((way for way in fitting if way[0] in declared), fitting[0])


def _n_words(count: int, bits: int, is_dense: bool) -> int:
    return -(-count * bits // 32) if is_dense else -(-count // (32 // bits))


def _declared_bits(groups: object) -> set[int]:
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        if type(bits) is int:
            found.add(bits)
    return found
