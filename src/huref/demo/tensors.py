"""Arrays as tensors and back, without copies: for what trains."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from huref.numerics.arrays import Array, float32


def as_tensor(array: Array) -> Tensor:
    """The same memory as a tensor of the same type."""
    if array.dtype == ml_dtypes.bfloat16:  # torch knows the type by another name
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def float_tensor(array: Array) -> Tensor:
    """The values as float32; the same memory where they are that already."""
    return torch.from_numpy(float32(array))


def as_array(tensor: Tensor) -> Array:
    """The same memory as an array of the same type."""
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    found: Array = tensor.numpy()
    return found
