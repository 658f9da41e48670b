"""Matrix products at the speed of the machine, with the error that costs.

Where the processor multiplies bfloat16 faster (AVX512-BF16, AMX, CUDA) and torch is installed, large products take
bfloat16 operands and accumulate in float32 inside the kernel. Rounding both operands and the result gives a relative
error near 2^-8 / sqrt(3) per entry, independent between entries; sums over millions of entries average it away.
Networks that train stay on the processor and ask `network_dtype`.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

from huref.numerics.arrays import Array, Floats, float32

if TYPE_CHECKING:
    import torch

LARGE_PRODUCT = 1 << 32
"""Multiplications from which on bfloat16 is worth its error: below, float32 takes milliseconds."""


@functools.cache
def has_fast_bfloat16(*, on_cpu: bool = False) -> bool:
    """Whether bfloat16 products are faster than float32 here: decided by the hardware's features alone.

    Args:
        on_cpu: of products that stay on the processor where there is a GPU.
    """
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    if torch.cuda.is_available() and not on_cpu:
        return True
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def network_dtype() -> torch.dtype:
    """In which networks train, on the processor: bfloat16 where it is faster.

    Elsewhere bfloat16 is slow: with AVX2 alone a step of the generator took 20 s in it, and 1.3 s in float32.
    """
    import torch

    return torch.bfloat16 if has_fast_bfloat16(on_cpu=True) else torch.float32


@functools.cache
def device() -> torch.device:
    """Where large products run: CUDA when present."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def product(left: Array, right: Array) -> Floats:
    """`left @ right` in 2-d, float32 on the CPU; bfloat16 operands where the product is large and that is faster."""
    is_large = left.shape[0] * left.shape[1] * right.shape[1] >= LARGE_PRODUCT
    if is_large and has_fast_bfloat16():
        return _by_torch(left, right)
    result: Floats = float32(left) @ float32(right)
    return result


def _by_torch(left: Array, right: Array) -> Floats:
    import torch

    from huref.numerics.tensors import as_tensor

    where, kind = device(), torch.bfloat16
    found: Floats = (as_tensor(left).to(where, kind) @ as_tensor(right).to(where, kind)).float().cpu().numpy()
    return found
