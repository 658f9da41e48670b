"""Safetensors files of weights in any type that they are stored in, written a tensor at a time.

The format's own library takes all tensors at once, in the type to be written: a second copy of a model. It also
writes metadata in random order; here equal contents are equal bytes.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from huref.numerics.arrays import Array, dtype_name

MODEL = {"format": "pt"}
"""Metadata of a model: transformers reads no file that does not say so."""


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: DTypeLike | None = None) -> None:
    """Write a model's file.

    Args:
        dtype: what each tensor is converted to as it is written; None keeps the type of each.
    """
    with path.open("wb") as file:
        _write(file, tensors, dtype, MODEL)


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A small file's bytes."""
    file = io.BytesIO()
    _write(file, tensors, None, metadata)
    return file.getvalue()


def _write(
    file: BinaryIO, tensors: Mapping[str, Array], dtype: DTypeLike | None, metadata: Mapping[str, str]
) -> None:
    """The widest types come first, so that all data are aligned."""
    types = {name: tensor.dtype if dtype is None else np.dtype(dtype) for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (-types[name].itemsize, name))
    file.write(_header({name: (types[name], tensors[name].shape) for name in order}, metadata))
    for name in order:
        data = np.ascontiguousarray(tensors[name], dtype=types[name])
        file.write(data.reshape(-1).view(np.uint8).data)


def _header(tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON, padded so that the data start at a multiple of 8 bytes."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape) in tensors.items():
        end = at + dtype.itemsize * math.prod(shape)
        entries[name] = {"dtype": dtype_name(dtype), "shape": shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
