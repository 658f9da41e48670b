"""AWQ: integers of four bits, packed along the outputs (gemm) or the inputs (gemv).

gemm: `qweight` (in, out / 8), `qzeros` (groups, out / 8), `scales` (groups, out); the eight numbers of a word, lowest
bits first, are outputs 0 2 4 6 1 3 5 7. gemv: `qweight` (out, in / 8) in natural order, `qzeros` and `scales` a row
each, padded. Source: README of the AutoAWQ project and its `packing_utils`; AutoAWQ issue 329.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import bits_of, unpack_bits
from huref.model.source.packed.grouped import floats, group_size, groups_of
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

NAME = "AWQ"
METHODS = ("awq",)

_BITS = 4
_PLACE = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Where in a word each of eight outputs is."""


@dataclass(frozen=True)
class AwqTensor(PackedTensor):
    """A linear layer of AWQ."""

    info: TensorInfo
    parts: tuple[str, ...]
    qweight: TensorInfo
    qzeros: str
    scales: TensorInfo
    size: int
    is_gemv: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        n_out, width = self.info.shape
        chosen = np.arange(n_out) if rows is None else rows
        scales, zeros = floats(checkpoint.read(self.scales.name)), checkpoint.read(self.qzeros)
        count = -(-width // self.size)
        groups = groups_of(None, count, self.size, width, self.scales)
        rounding = scale_rounding(self.scales.dtype)
        if self.is_gemv:
            words = checkpoint.read(self.qweight.name, rows)
            codes = unpack_bits(zeros, _BITS)[chosen, :count]
            scales = scales[chosen, :count]
        else:
            words = checkpoint.read(self.qweight.name)
            codes = unpack_bits(zeros, _BITS).reshape(count, -1, 8)[..., _PLACE].reshape(count, -1).T[chosen]
            scales = scales.T[chosen]
        table = codes.astype(np.float32)

        def block(here: slice) -> Scaled:
            if self.is_gemv:
                levels = groups.shaped(unpack_bits(words[here], _BITS))
            else:
                levels = groups.shaped(_columns(words, chosen[here]))
            levels -= groups.spread(table[here])
            return Scaled(levels, groups.spread(scales[here]), rounding=rounding)

        return block


def _columns(words: Array, outputs: Array) -> Array:
    """(n, in) codes of some outputs: of neighbours whole words are unpacked, of others one number of each word."""
    first, last = int(outputs[0]), int(outputs[-1])
    if len(outputs) < 8 or not np.array_equal(outputs, np.arange(first, last + 1)):
        return bits_of(words[:, outputs // 8], _BITS * _PLACE[outputs % 8], _BITS).T
    codes = unpack_bits(words[:, first // 8 : last // 8 + 1], _BITS)
    ordered = codes.reshape(len(codes), -1, 8)[..., _PLACE].reshape(len(codes), -1)
    start = first % 8
    return ordered[:, start : start + len(outputs)].T


def find(stored: Stored) -> Iterator[AwqTensor]:
    """Layers with `qweight` that are not packed as GPTQ packs them."""
    for base, qweight in stored.ending(".qweight"):
        scales = require_part(stored.get(f"{base}.scales"), qweight, f"{base}.scales")
        qzeros = require_part(stored.get(f"{base}.qzeros"), qweight, f"{base}.qzeros")
        version = stored.declared.text("version")
        if version not in ("", "gemm", "gemv"):
            raise unsupported(
                "an AWQ layout that huref does not read", stored.declared.where, "gemm or gemv", version
            )
        shapes = (qweight.shape, qzeros.shape, scales.shape)
        require(all(len(shape) == 2 and min(shape) > 0 for shape in shapes), qweight, "three matrices", shapes)
        require(qweight.dtype == "I32" and qzeros.dtype == "I32", qweight, "I32", f"{qweight.dtype}, {qzeros.dtype}")
        said = stored.declared.integer("bits") or stored.declared.integer("w_bit")
        require(said in (None, _BITS), qweight, f"{_BITS} bits, the only ones that AWQ has", f"{said} bits")
        yield _tensor(stored, base, (qweight, qzeros, scales), is_gemv=version == "gemv")


def _tensor(
    stored: Stored, base: str, parts: tuple[TensorInfo, TensorInfo, TensorInfo], *, is_gemv: bool
) -> AwqTensor:
    qweight, qzeros, scales = parts
    rows, words = qweight.shape
    declared = stored.declared.integer("group_size") or stored.declared.integer("q_group_size")
    if is_gemv:
        shape = rows, words * 8
        size = declared if declared and declared > 0 else shape[1]
        count = -(-shape[1] // size)
        require(qzeros.shape[0] == scales.shape[0] == rows, qzeros, f"{rows} rows", f"{qzeros.shape}, {scales.shape}")
        room = min(qzeros.shape[1] * 8, scales.shape[1])
        require(room >= count, scales, f"{count} groups or more", f"{room}")
    else:
        shape = words * 8, rows
        size = group_size(declared, scales.shape[0], rows, scales)
        require(scales.shape[1] == shape[0], scales, f"{shape[0]} outputs", scales.shape)
        require(qzeros.shape == (scales.shape[0], words), qzeros, f"{(scales.shape[0], words)}", qzeros.shape)
    return AwqTensor(
        info=packed_info(f"{base}.weight", shape, "AWQ_4BIT", parts),
        parts=tuple(part.name for part in parts),
        qweight=qweight,
        qzeros=qzeros.name,
        scales=scales,
        size=size,
        is_gemv=is_gemv,
    )
