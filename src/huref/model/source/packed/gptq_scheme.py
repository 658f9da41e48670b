"""GPTQ: integers of a group of inputs with one scale and zero point, packed along the inputs.

`qweight` (in x bits / 32, out), `qzeros` (groups, out x bits / 32), both int32 with the lowest bits first, `scales`
(groups, out), `g_idx` (in,) the group of each input, out of order after act-order. The first version of the format
stores zero points less one, `checkpoint_format` gptq_v2 as they are. Source: the GPTQModel project, docs and
`checkpoint_format` notes of its README; the AutoGPTQ README.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import unpack_bits
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

NAME = "GPTQ"
METHODS = ("gptq", "auto-round", "intel/auto-round")

_BITS = (2, 3, 4, 8)
_FORMATS = ("", "gptq", "gptq_v2", "auto_round:gptq", "auto_round:auto_gptq", "auto_round")


@dataclass(frozen=True)
class _Parts:
    qweight: TensorInfo
    qzeros: TensorInfo
    scales: TensorInfo
    g_idx: TensorInfo | None


@dataclass(frozen=True)
class GptqTensor(PackedTensor):
    """A linear layer of GPTQ."""

    info: TensorInfo
    parts: tuple[str, ...]
    stored: _Parts
    bits: int
    size: int
    adds_one: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        words = checkpoint.read(self.stored.qweight.name)
        scales = floats(checkpoint.read(self.stored.scales.name)).T
        zeros = unpack_bits(checkpoint.read(self.stored.qzeros.name), self.bits).T
        if self.adds_one:  # a zero point of 0 was stored as the highest number
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << self.bits) - 1)
        part = self.stored.g_idx
        index = None if part is None else checkpoint.read(part.name)
        groups = groups_of(index, scales.shape[1], self.size, self.info.shape[1], part or self.stored.scales)
        if rows is not None:
            words, scales, zeros = words[:, rows], scales[rows], zeros[rows]
        rounding = scale_rounding(self.stored.scales.dtype)

        def block(here: slice) -> Scaled:
            levels = groups.shaped(unpack_bits(np.ascontiguousarray(words[:, here].T), self.bits))
            levels -= groups.spread(zeros[here].astype(np.float32))
            return Scaled(levels, groups.spread(scales[here]), rounding=rounding)

        return block


def find(stored: Stored) -> Iterator[GptqTensor]:
    """Layers with `qweight` packed along the inputs."""
    for base, qweight in stored.ending(".qweight"):
        scales = require_part(stored.get(f"{base}.scales"), qweight, f"{base}.scales")
        is_ours = len(scales.shape) == len(qweight.shape) == 2 and scales.shape[1] == qweight.shape[1]
        if is_ours and stored.declared.method != "awq":
            yield _tensor(stored, base, qweight, scales)


def _tensor(stored: Stored, base: str, qweight: TensorInfo, scales: TensorInfo) -> GptqTensor:
    qzeros = require_part(stored.get(f"{base}.qzeros"), qweight, f"{base}.qzeros")
    g_idx = stored.get(f"{base}.g_idx")
    n_out = qweight.shape[1]
    require(qweight.dtype == "I32" and qzeros.dtype == "I32", qweight, "I32", f"{qweight.dtype}, {qzeros.dtype}")
    require(len(qzeros.shape) == 2 and qzeros.shape[0] == scales.shape[0] > 0, qzeros, "a row a group", qzeros.shape)
    require(n_out > 0 and qzeros.shape[1] * 32 % n_out == 0, qzeros, f"{n_out} zero points a group", qzeros.shape)
    bits = qzeros.shape[1] * 32 // n_out
    if bits not in _BITS:
        where = f"{qzeros.file}, tensor {qzeros.name}"
        raise unsupported("a GPTQ layout that huref does not read", where, "2, 3, 4 or 8 bits", f"{bits} bits")
    said = stored.declared.integer("bits")
    require(said in (None, bits), qzeros, f"{said} bits, as declared", f"{bits} bits")
    require(qweight.shape[0] * 32 % bits == 0, qweight, f"rows of {bits}-bit numbers", qweight.shape)
    width = qweight.shape[0] * 32 // bits
    if g_idx is not None and g_idx.shape != (0,):
        require(g_idx.shape == (width,), g_idx, f"a group for each of {width} inputs", g_idx.shape)
        size = max(1, stored.declared.integer("group_size") or width)
    else:
        size = group_size(stored.declared.integer("group_size"), scales.shape[0], width, scales)
    names = stored.aside(f"{base}.g_idx")
    return GptqTensor(
        info=packed_info(f"{base}.weight", (n_out, width), f"GPTQ_{bits}BIT", [qweight, qzeros, scales]),
        parts=(qweight.name, qzeros.name, scales.name, *names),
        stored=_Parts(qweight, qzeros, scales, g_idx if g_idx is not None and g_idx.shape != (0,) else None),
        bits=bits,
        size=size,
        adds_one=_adds_one(stored),
    )


def _adds_one(stored: Stored) -> bool:
    declared = stored.declared
    said = declared.text("checkpoint_format") or declared.text("packing_format")
    if said not in _FORMATS or declared.get("is_marlin_format") is True:
        raise unsupported(
            "a GPTQ layout that huref does not read", declared.where, "gptq or gptq_v2", said or "marlin"
        )
    return said != "gptq_v2"
