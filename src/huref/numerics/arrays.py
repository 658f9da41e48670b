"""Arrays in the types that weights are stored in; ml_dtypes has those that numpy lacks."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of any stored type: float64, float32, float16, bfloat16, or integers."""

Floats = NDArray[np.float32]

quietly = np.errstate(all="ignore")
"""Decorates what refuses NaN and infinity in its result by name: numpy's own warnings would come before it."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "I64": np.dtype(np.int64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def array_dtype(name: str) -> np.dtype[Any] | None:
    """The type that stores `name` without loss, or None when it is block-quantised or unknown."""
    return _DTYPES.get(name)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name of a type in `array_dtype`'s spelling."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def float32(array: Array) -> Floats:
    """The values as float32; the array itself where it is that already."""
    return array.astype(np.float32, copy=False)


def common_dtype(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """The smallest floating type that holds both; float32 for float16 and bfloat16."""
    try:
        return np.promote_types(first, second)
    except TypeError:
        return np.dtype(np.float32)
