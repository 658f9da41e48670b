"""MLX: integers of 2 to 8 bits in words, with a scale and a bias for each group of inputs.

`weight` (out, in x bits / 32) uint32, a row one stream of bits, the lowest first; `scales` and `biases` (out,
groups): a weight is code times scale plus bias. Bits and group sizes are in config.json, `quantization`, for single
layers too. The modes mxfp4, nvfp4 and mxfp8 have byte scales and no biases. Source: documentation of MLX
(mlx.core.quantize, mlx.nn.quantize).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import unpack_bits
from huref.model.source.packed.packed_tensor import (
    Blocks,
    PackedTensor,
    RowNumbers,
    packed_info,
    require,
    unsupported,
)
from huref.model.source.packed.scaled import Scaled, scale_rounding
from huref.model.source.packed.stored import Stored
from huref.model.source.packed.tables import E2M1, MXFP4_GAPS, NVFP4_GAPS, float_gaps, looked_up, powers_of_two
from huref.numerics.arrays import Floats, float32

NAME = "MLX"
METHODS = ("mlx",)

_BITS = (2, 3, 4, 5, 6, 8)
_MODES = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}


@dataclass(frozen=True)
class AffineTensor(PackedTensor):
    """A matrix of integers."""

    info: TensorInfo
    parts: tuple[str, ...]
    bits: int
    size: int
    rounding: float

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        words = checkpoint.read_table(self.parts[0], rows)
        scales, biases = (float32(checkpoint.read_table(name, rows)) for name in self.parts[1:])

        def block(here: slice) -> Scaled:
            levels = unpack_bits(words[here], self.bits).astype(np.float32)
            levels = levels.reshape(len(levels), -1, self.size)
            at = scales[here][:, :, None]
            return Scaled(levels, at, self._half_gaps, biases[here][:, :, None], rounding=self.rounding)

        return block

    def _half_gaps(self, levels: Floats) -> Floats:
        """MLX fits the scale to the end that the bias is at: at the other one, up to a whole step is cut off."""
        return np.where(levels == (1 << self.bits) - 1, np.float32(1), np.float32(0.5))


@dataclass(frozen=True)
class FloatTensor(PackedTensor):
    """A matrix of four- or eight-bit floats."""

    info: TensorInfo
    parts: tuple[str, ...]
    mode: str

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        _, size = _MODES[self.mode]
        words = checkpoint.read_table(self.parts[0], rows)
        stored = checkpoint.read_table(self.parts[1], rows)
        scales = float32(stored.view(ml_dtypes.float8_e4m3fn)) if self.mode == "nvfp4" else powers_of_two(stored)
        table = {"mxfp4": MXFP4_GAPS, "nvfp4": NVFP4_GAPS}.get(self.mode)

        def block(here: slice) -> Scaled:
            octets = words[here].view(np.uint8)
            shape = (len(octets), stored.shape[1], size)
            if table is None:
                levels = float32(octets.view(ml_dtypes.float8_e4m3fn)).reshape(shape)
                return Scaled(levels, scales[here][:, :, None], float_gaps("F8_E4M3"))
            levels, gaps = looked_up(E2M1, table, octets, shape)
            return Scaled(levels, scales[here][:, :, None], gaps)

        return block


def find(stored: Stored) -> Iterator[PackedTensor]:
    """Matrices of words with scales beside them."""
    for base, words in stored.ending(".weight"):
        scales, biases = stored.get(f"{base}.scales"), stored.get(f"{base}.biases")
        if words.dtype == "U32" and scales is not None and len(words.shape) >= 2:
            same = scales.shape[:-1] == words.shape[:-1] and 0 not in words.shape and 0 not in scales.shape
            require(same, scales, f"scales of {list(words.shape[:-1])} rows", scales.shape)
            if biases is None:
                yield _floats(stored, base, words, scales)
            else:
                require(biases.shape == scales.shape, biases, str(scales.shape), biases.shape)
                yield _affine(stored, base, words, scales, biases)


def _affine(stored: Stored, base: str, words: TensorInfo, scales: TensorInfo, biases: TensorInfo) -> AffineTensor:
    settings = _settings(stored, base)
    bits, size = settings.get("bits"), settings.get("group_size")
    if bits not in _BITS or type(size) is not int or size <= 0:
        where = stored.declared.where
        raise unsupported("the bits of an MLX model are not told", where, "bits and group_size", f"{bits}, {size}")
    width = scales.shape[-1] * size
    require(words.shape[-1] * 32 == width * bits, words, f"{width} numbers of {bits} bits a row", words.shape)
    return AffineTensor(
        info=packed_info(words.name, (*words.shape[:-1], width), f"MLX_{bits}BIT", [words, scales, biases]),
        parts=(words.name, scales.name, biases.name),
        bits=bits,
        size=size,
        rounding=scale_rounding(scales.dtype),
    )


def _floats(stored: Stored, base: str, words: TensorInfo, scales: TensorInfo) -> FloatTensor:
    mode = str(_settings(stored, base).get("mode"))
    if mode not in _MODES:
        raise unsupported("an MLX layout that huref does not read", stored.declared.where, ", ".join(_MODES), mode)
    bits, size = _MODES[mode]
    width = scales.shape[-1] * size
    require(scales.dtype == "U8", scales, "bytes", scales.dtype)
    require(words.shape[-1] * 32 == width * bits, words, f"{width} numbers of {bits} bits a row", words.shape)
    kind = {"mxfp8": "FP8_E4M3"}.get(mode, mode.upper())
    info = packed_info(words.name, (*words.shape[:-1], width), kind, [words, scales])
    return FloatTensor(info, (words.name, scales.name), mode)


def _settings(stored: Stored, base: str) -> Mapping[str, Any]:
    """Those of all layers, and what is said of this one over them."""
    own = stored.declared.get(base)
    return {**stored.declared.settings, **own} if isinstance(own, Mapping) else stored.declared.settings
