"""Matrix products at the speed of the machine, with the error that costs: the one place where torch accelerates.

Where the hardware multiplies bfloat16 faster (AVX512-BF16, AMX, CUDA) and torch is installed, large products take
bfloat16 operands and accumulate in float32 inside the kernel. Rounding both operands and the result gives a relative
error near 2^-8 / sqrt(3) per entry, independent between entries; sums over millions of entries average it away.
Everywhere else numpy multiplies in float32. Whether torch is worth its import is seen without importing it.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import functools
import importlib.util
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from huref.extras import trouble
from huref.numerics.arrays import Array, Floats, float32

if TYPE_CHECKING:
    import torch

LARGE_PRODUCT = 1 << 36
"""Multiplications from which on bfloat16 is worth its error, and the second or two that importing torch takes."""

_FEATURES = ("amx_bf16", "avx512_bf16")
_CPU_INFO = Path("/proc/cpuinfo")
_CUDA_DRIVERS = ("cuda", "nvcuda")


@dataclass
class Arithmetic:
    """In what products were computed, and why not otherwise.

    Attributes:
        kinds: float32, and what large products took else.
        trouble: why torch could not be used where it would have been.
    """

    kinds: set[str] = field(default_factory=set)
    trouble: set[str] = field(default_factory=set)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result should know: nothing where all is float32 by choice."""
        is_plain = self.kinds <= {"float32"}
        return (*sorted(self.trouble), *(() if is_plain else (f"arithmetic: {self}",)))

    def __str__(self) -> str:
        """`float32`, or which large products were computed in what else."""
        others = sorted(self.kinds - {"float32"})
        return f"float32, large products {' and '.join(others)}" if others else "float32"


_noted: ContextVar[Arithmetic | None] = ContextVar("arithmetic", default=None)


@contextlib.contextmanager
def noted() -> Iterator[Arithmetic]:
    """Notes in what the products inside are computed, so that a result can say it."""
    arithmetic = Arithmetic()
    token = _noted.set(arithmetic)
    try:
        yield arithmetic
    finally:
        _noted.reset(token)


def note(arithmetic: Arithmetic) -> None:
    """Notes again in what something was computed that is used once more."""
    if (outer := _noted.get()) is not None:
        outer.kinds |= arithmetic.kinds
        outer.trouble |= arithmetic.trouble


def product(left: Array, right: Array) -> Floats:
    """`left @ right` in 2-d, float32 on the CPU; bfloat16 operands where the product is large and that is faster."""
    is_large = left.shape[0] * left.shape[1] * right.shape[1] >= LARGE_PRODUCT
    if is_large and has_fast_bfloat16():
        return _by_torch(left, right)
    _note("float32", torch_trouble() if is_large else "")
    result: Floats = float32(left) @ float32(right)
    return result


@functools.cache
def has_fast_bfloat16() -> bool:
    """Whether large products take bfloat16 here: decided by the hardware's features, and torch that can be used."""
    if not _hardware_may_have_it() or importlib.util.find_spec("torch") is None or torch_trouble():
        return False
    import torch

    return torch.cuda.is_available() or _processor_has_it()


@functools.cache
def torch_trouble() -> str:
    """Why an installed torch that would accelerate cannot be imported; empty where nothing is wrong, or none is."""
    if not _hardware_may_have_it() or importlib.util.find_spec("torch") is None:
        return ""
    reason = trouble("torch")
    return f"torch cannot be imported, numpy computes without it ({reason})" if reason else ""


def network_dtype() -> torch.dtype:
    """In which networks train, on the processor: bfloat16 where it is faster.

    Elsewhere bfloat16 is slow: with AVX2 alone a step of the generator took 20 s in it, and 1.3 s in float32.
    """
    import torch

    return torch.bfloat16 if _processor_has_it() else torch.float32


@functools.cache
def device() -> torch.device:
    """Where large products run: CUDA when present."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _hardware_may_have_it() -> bool:
    """Whether there is a processor that multiplies bfloat16, or a driver of CUDA: without importing torch."""
    try:
        features = _CPU_INFO.read_text(encoding="ascii", errors="replace").split()
    except OSError:  # another system than Linux
        features = []
    return not set(_FEATURES).isdisjoint(features) or any(map(ctypes.util.find_library, _CUDA_DRIVERS))


def _processor_has_it() -> bool:
    import torch

    features = torch.cpu.get_capabilities()
    return any(features.get(name) for name in _FEATURES)


def _by_torch(left: Array, right: Array) -> Floats:
    import torch

    where = device()
    _note(f"bfloat16 by torch on {'CUDA' if where.type == 'cuda' else 'the processor'}")
    a, b = (_tensor(x).to(where, torch.bfloat16) for x in (left, right))
    found: Floats = (a @ b).float().cpu().numpy()
    return found


def _tensor(array: Array) -> torch.Tensor:
    """The same memory as a tensor of the same type; a copy of what may not be written to."""
    import torch

    array = np.require(array, requirements="W")
    if array.dtype == ml_dtypes.bfloat16:  # torch knows the type by another name
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _note(kind: str, trouble: str = "") -> None:
    if (arithmetic := _noted.get()) is not None:
        arithmetic.kinds.add(kind)
        arithmetic.trouble.update([trouble] if trouble else [])
