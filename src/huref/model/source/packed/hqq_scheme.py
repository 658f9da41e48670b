"""HQQ: integers of 1 to 8 bits with a scale and a fractional zero point for each group.

The flattened weight is seen as (groups, size) for axis 1 and (size, groups) for axis 0; `W_q` packs its rows: the
first part of them in the highest bits, the next in the bits below; `3bit_32` has ten parts in a word. A weight is
code less zero, times scale. Sizes stand beside it: `shape`, `nbits`, `group_size`, `axis`, `packing` as text. Source:
README of the hqq project; documentation of transformers, HQQ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
from huref.numerics.arrays import Array

NAME = "HQQ"
METHODS = ("hqq",)

_PACKINGS = {"8bit_u8": (8, 1), "4bit_u8": (4, 2), "2bit_u8": (2, 4), "1bit_u8": (1, 8), "3bit_32": (3, 10)}
"""Bits of a code, and codes in a byte or a word."""

_META = (
    *("nbits", "group_size", "shape", "scale", "zero", "axis", "packing", "unpack_view_dtype", "view_as_float"),
    *("quant_scale", "quant_zero", "compute_dtype", "offload_meta", "encoded_state_dict", "stores_quant_config"),
    *("channel_wise", "optimize", "round_zero"),
)
_TEXT_LIMIT = 64


@dataclass(frozen=True)
class HqqTensor(PackedTensor):
    """A linear layer of HQQ."""

    info: TensorInfo
    parts: tuple[str, ...]
    base: str
    packing: str
    columns: int
    axis: int
    rounding: float

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        bits, parts = _PACKINGS[self.packing]
        n_rows, width = self.info.shape
        chosen = np.arange(n_rows) if rows is None else rows
        words = _packed(checkpoint.read(f"{self.base}.W_q"), self.packing)
        words = words.reshape(-1, self.columns)
        scales, zeros = (floats(checkpoint.read(f"{self.base}.{name}")).reshape(-1) for name in ("scale", "zero"))
        shifts = (bits * np.arange(parts - 1, -1, -1)).astype(words.dtype)
        mask = words.dtype.type((1 << bits) - 1)
        run = self._run()
        table = words.reshape(len(words), -1, run)
        per_row = width // run

        def block(here: slice) -> Scaled:
            at, column = np.divmod(chosen[here][:, None] * per_row + np.arange(per_row), self.columns // run)
            part, row = np.divmod(at, len(words))
            levels = ((table[row, column] >> shifts[part][:, :, None]) & mask).astype(np.float32)
            group = at[:, :, None] if self.axis else column[:, :, None] * run + np.arange(run)
            if len(scales) == 1:
                group = np.zeros((1, 1, 1), np.int64)
            levels -= zeros[group]
            return Scaled(levels, scales[group], rounding=self.rounding)

        return block

    def _run(self) -> int:
        """How many weights of a row stand together, whole times in both tables."""
        return math.gcd(self.info.shape[1], self.columns)


def find(stored: Stored) -> Iterator[HqqTensor]:
    """Layers with `W_q`."""
    for base, packed in stored.ending(".W_q"):
        meta = {name: stored.get(f"{base}.{name}") for name in _META}
        yield _tensor(stored, base, packed, {name: info for name, info in meta.items() if info is not None})


def _tensor(stored: Stored, base: str, packed: TensorInfo, meta: dict[str, TensorInfo]) -> HqqTensor:
    scale, zero, shape_part, size_part = (
        require_part(meta.get(name), packed, f"{base}.{name}") for name in ("scale", "zero", "shape", "group_size")
    )
    where = f"{packed.file}, tensor {packed.name}"
    if any(_number(stored, meta, name, 0) for name in ("quant_scale", "quant_zero")):
        raise unsupported(
            "HQQ scales that are quantised themselves", where, "plain scales", "quant_scale or quant_zero"
        )
    packing = _text(stored, require_part(meta.get("packing"), packed, f"{base}.packing"))
    if packing not in _PACKINGS:
        raise unsupported("an HQQ layout that huref does not read", where, ", ".join(_PACKINGS), packing or "no text")
    require(
        shape_part.shape == (2,) and shape_part.dtype in ("I32", "I64"), shape_part, "two sizes", shape_part.shape
    )
    shape = tuple(int(n) for n in stored.checkpoint.read(shape_part.name))
    size, axis = _number(stored, meta, "group_size", 0), _number(stored, meta, "axis", 1)
    require(min(shape) > 0 and max(shape) < 1 << 31, shape_part, "two sizes above 0", shape)
    require(size > 0 and axis in (0, 1), size_part, "a size of groups, and axis 0 or 1", (size, axis))
    count = math.prod(shape)
    require(count % size == 0, size_part, f"groups of equal size in {count} weights", size)
    columns = size if axis else count // size
    n_groups = count // size
    for part in (scale, zero):
        require(math.prod(part.shape) in (1, n_groups), part, f"{n_groups} groups", part.shape)
    require(math.prod(zero.shape) == math.prod(scale.shape), zero, f"the shape {scale.shape}", zero.shape)
    bits, per_word = _PACKINGS[packing]
    n_words = columns * -(-(count // columns) // per_word)
    require(packed.nbytes == n_words * (4 if bits == 3 else 1), packed, f"{n_words} words of {packing}", packed.shape)
    return HqqTensor(
        info=packed_info(f"{base}.weight", shape, f"HQQ_{bits}BIT", [packed, scale, zero]),
        parts=(packed.name, *(info.name for info in meta.values())),
        base=base,
        packing=packing,
        columns=columns,
        axis=axis,
        rounding=scale_rounding(scale.dtype),
    )


def _packed(stored: Array, packing: str) -> Array:
    """Bytes, or words for ten codes each; they may be stored as if they were floats."""
    return np.ascontiguousarray(stored).reshape(-1).view(np.uint32 if packing == "3bit_32" else np.uint8)


def _number(stored: Stored, meta: dict[str, TensorInfo], name: str, otherwise: int) -> int:
    part = meta.get(name)
    if part is None:
        return otherwise
    require(math.prod(part.shape) == 1 and part.dtype in ("U8", "I32", "I64", "BOOL"), part, "a number", part.shape)
    return int(stored.checkpoint.read(part.name).reshape(-1)[0])


def _text(stored: Stored, part: TensorInfo) -> str:
    require(part.dtype == "U8" and part.nbytes <= _TEXT_LIMIT, part, f"at most {_TEXT_LIMIT} letters", part.shape)
    return stored.checkpoint.read(part.name).tobytes().decode("ascii", "replace")
