"""Matrix products at the speed of the machine, with the error that costs.

Where the processor multiplies bfloat16 faster (AVX512-BF16, AMX, CUDA), large products take bfloat16 operands
and accumulate in float32 inside the kernel. Rounding both operands and the result gives a relative error near
2^-8 / sqrt(3) per entry, independent between entries; sums over millions of entries average it away. Networks that
train stay on the processor and ask `network_dtype`.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_CHUNK_ROWS = 1024
_CHUNK_COLUMNS = 128
LARGE_PRODUCT = 1 << 32
"""Multiplications from which on bfloat16 is worth its error: below, float32 takes milliseconds."""


@functools.cache
def has_fast_bfloat16(*, on_cpu: bool = False) -> bool:
    """Whether bfloat16 products are faster than float32 here: decided by the hardware's features alone.

    Args:
        on_cpu: of products that stay on the processor where there is a GPU.
    """
    if torch.cuda.is_available() and not on_cpu:
        return True
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def network_dtype() -> torch.dtype:
    """In which networks train, on the processor: bfloat16 where it is faster.

    Elsewhere bfloat16 is slow: with AVX2 alone a step of the generator took 20 s in it, and 1.3 s in float32.
    """
    return torch.bfloat16 if has_fast_bfloat16(on_cpu=True) else torch.float32


@functools.cache
def device() -> torch.device:
    """Where large products run: CUDA when present."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` in 2-d, float32 on the CPU; bfloat16 operands where the product is large and that is faster."""
    if not has_fast_bfloat16() or left.shape[0] * left.shape[1] * right.shape[1] < LARGE_PRODUCT:
        return left.float() @ right.float()
    where, kind = device(), torch.bfloat16
    return (left.to(where, kind) @ right.to(where, kind)).float().cpu()


def project_rows(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T` in float32 for few rows and a large weight of any floating type.

    The weight is converted a block at a time into one buffer, so that memory stays small.

    Args:
        rows: (m, d) float32.
        weight: (r, d), any strides.

    Returns:
        (m, r) float32.
    """
    if weight.stride(0) == 1 and weight.shape[1] > 1:  # a transposed view: go along the stored rows, and add up
        return _project_columns(rows, weight.T)
    n_out = weight.shape[0]
    out = rows.new_empty(rows.shape[0], n_out)
    for start in range(0, n_out, _CHUNK_ROWS):
        block = weight[start : start + _CHUNK_ROWS]
        torch.mm(rows, block.float().T, out=out[:, start : start + _CHUNK_ROWS])
    return out


def _project_columns(rows: Tensor, stored: Tensor) -> Tensor:
    """`rows @ stored` for `stored` (d, r) with contiguous rows, one block of them at a time."""
    out = rows.new_zeros(rows.shape[0], stored.shape[1])
    for start in range(0, stored.shape[0], _CHUNK_COLUMNS):
        block = stored[start : start + _CHUNK_COLUMNS].float()
        out.addmm_(rows[:, start : start + _CHUNK_COLUMNS], block)
    return out
