"""GGUF: one scale a tensor, or an expert, `X.scale` beside `X.weight`, as NVFP4 conversions have it.

Source: docs/gguf.md of the ggml project; llama.cpp's converter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.grouped import floats
from huref.model.source.packed.packed_tensor import Blocks, PackedTensor, RowNumbers, packed_info, require
from huref.model.source.packed.scaled import Scaled
from huref.model.source.packed.stored import Stored
from huref.numerics.arrays import Floats
from huref.numerics.rounding import rounding_bound

NAME = "GGUF scales"
METHODS: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScaledTensor(PackedTensor):
    """A tensor of any type of GGUF, times a scale."""

    info: TensorInfo
    parts: tuple[str, ...]

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        weight, scale = self.parts[:2]
        numbers = checkpoint.read_table(weight, rows)
        n_rows = math.prod(self.info.shape[:-1])
        factors = floats(checkpoint.read(scale)).reshape(-1)
        chosen = np.arange(n_rows) if rows is None else rows
        of_row = factors[chosen // (n_rows // len(factors))][:, None]

        def half_gaps(levels: Floats) -> Floats:
            return rounding_bound(levels, self.info.dtype).reshape(levels.shape)

        return lambda here: Scaled(numbers[here].astype(np.float32), of_row[here], half_gaps)


def find(stored: Stored) -> Iterator[ScaledTensor]:
    """Matrices of a GGUF file with a scale beside them."""
    if stored.checkpoint.format != "gguf":
        return
    for base, scale in stored.ending(".scale"):
        weight = stored.get(f"{base}.weight")
        if weight is not None and len(weight.shape) >= 2 and scale.dtype == "F32":
            count = math.prod(scale.shape)
            slabs = weight.shape[0] if len(weight.shape) > 2 else 1
            require(count in (1, slabs) and 0 not in weight.shape, scale, f"1 or {slabs} scales", scale.shape)
            aside = stored.aside(f"{base}.input_scale")
            info = packed_info(weight.name, weight.shape, weight.dtype, [weight, scale])
            yield ScaledTensor(info, (weight.name, scale.name, *aside))
