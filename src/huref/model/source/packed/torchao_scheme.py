"""torchao: tensor subclasses laid out in parts, `_weight_qdata`, `_weight_scale`, `_weight_zero_point`.

Int8Tensor and IntxUnpackedToInt8Tensor have int8 numbers and scales of rows or groups; Float8Tensor float8 numbers;
Int4Tensor signed halves of bytes, the first in the low half, with scales and additive zero points (groups, out). The
class is in the header's metadata. Layouts of one kind of GPU are refused. Source: documentation of torchao
(serialization, quantization workflows).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import unpack_bits
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
from huref.numerics.arrays import Floats

NAME = "torchao"
METHODS = ("torchao",)

_READ = ("Int8Tensor", "IntxUnpackedToInt8Tensor", "AffineQuantizedTensor", "Float8Tensor", "Int4Tensor", "")
_PARTS = ("qdata", "scale", "zero_point", "act_quant_scale", "act_quant_zero_point", "act_pre_scale")
_METADATA_LIMIT = 1 << 16


@dataclass(frozen=True)
class AoTensor(PackedTensor):
    """A tensor in torchao's parts; `is_int4` tells two numbers a byte."""

    info: TensorInfo
    parts: tuple[str, ...]
    qdata: TensorInfo
    scale: TensorInfo
    zero_point: TensorInfo | None
    is_int4: bool

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        n_rows = self.info.shape[0]
        numbers = checkpoint.read(self.qdata.name, rows)
        zero = self.zero_point
        scales = self._table(checkpoint, self.scale, n_rows, rows)
        zeros = None if zero is None else self._table(checkpoint, zero, n_rows, rows)
        rounding = scale_rounding(self.scale.dtype)
        gaps = 0.5 if self.qdata.dtype in ("I8", "U8") else float_gaps(self.qdata.dtype)

        def block(here: slice) -> Scaled:
            if self.is_int4:
                codes = unpack_bits(numbers[here], 4).astype(np.float32)
                codes -= 16 * (codes > 7)
            else:
                codes = numbers[here].astype(np.float32)
            levels = codes.reshape(len(codes), scales.shape[1], -1)
            at = None if zeros is None else zeros[here][:, :, None]
            if at is not None and not self.is_int4:
                levels -= at
                at = None
            return Scaled(levels, scales[here][:, :, None], gaps, offsets=at, rounding=rounding)

        return block

    def _table(self, checkpoint: Checkpoint, part: TensorInfo, n_rows: int, rows: RowNumbers) -> Floats:
        """(n, groups) of the wanted rows."""
        values = floats(checkpoint.read(part.name))
        values = values.reshape(-1, n_rows).T if self.is_int4 else values.reshape(values.shape[0], -1)
        table = np.broadcast_to(values, (n_rows, values.shape[1]))
        return np.ascontiguousarray(table if rows is None else table[rows])


def find(stored: Stored) -> Iterator[AoTensor]:
    """Tensors with `qdata`."""
    for _, info in stored.ending("_packed_weight"):
        where = f"{info.file}, tensor {info.name}"
        raise unsupported("a torchao layout of one kind of GPU", where, ", ".join(_READ[:-1]), "packed_weight")
    for start, qdata in stored.ending("_qdata"):
        module, dot, weight = start.rpartition("._")
        if dot:
            yield _tensor(stored, start, f"{module}.{weight}", qdata)


def _tensor(stored: Stored, start: str, name: str, qdata: TensorInfo) -> AoTensor:
    kind = _kind(stored, name)
    if kind not in _READ:
        where = f"{qdata.file}, tensor {qdata.name}"
        raise unsupported("a torchao layout that huref does not read", where, ", ".join(_READ[:-1]), kind)
    scale = require_part(stored.get(f"{start}_scale"), qdata, f"{start}_scale")
    zero = stored.get(f"{start}_zero_point")
    require(qdata.dtype in ("I8", "U8", "F8_E4M3", "F8_E5M2"), qdata, "int8 or float8", qdata.dtype)
    require(len(qdata.shape) == 2 and 0 not in qdata.shape, qdata, "a matrix", qdata.shape)
    require(len(scale.shape) in (1, 2) and 0 not in scale.shape, scale, "scales of rows or groups", scale.shape)
    rows, columns = qdata.shape
    is_int4 = kind == "Int4Tensor" or (not kind and qdata.dtype == "I8" and _is_turned(scale, rows))
    width = columns * 2 if is_int4 else columns
    groups = scale.shape[0] if is_int4 else math.prod(scale.shape[1:])
    fits = scale.shape == (groups, rows) if is_int4 else scale.shape[0] in (1, rows)
    require(fits and width % groups == 0, scale, f"scales of {rows} rows of {width}", scale.shape)
    if zero is not None:
        require(zero.shape == scale.shape, zero, f"the shape {scale.shape}", zero.shape)
    bits = SCALED_KINDS.get(qdata.dtype, "INT4" if is_int4 else "I8")
    return AoTensor(
        info=packed_info(name, (rows, width), bits, [qdata, scale]),
        parts=stored.aside(*(f"{start}_{part}" for part in _PARTS)),
        qdata=qdata,
        scale=scale,
        zero_point=zero,
        is_int4=is_int4,
    )


def _is_turned(scale: TensorInfo, rows: int) -> bool:
    return len(scale.shape) == 2 and scale.shape[1] == rows != scale.shape[0]


def _kind(stored: Stored, name: str) -> str:
    """The subclass that the header names, or nothing: only the first file's header is asked."""
    said = stored.checkpoint.metadata.get(name)
    if not isinstance(said, str) or len(said) > _METADATA_LIMIT:
        return ""
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return ""
    kind = found.get("_type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else ""
