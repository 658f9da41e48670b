"""A checkpoint that lives in memory, for tests that need names and shapes and no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from huref.demo.tensors import as_array
from huref.errors import MissingTensorError
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.numerics.arrays import Array, dtype_name


class MemoryCheckpoint(Checkpoint):
    """Wraps a dictionary of arrays or tensors; counts the bytes that reads would have cost."""

    def __init__(
        self,
        tensors: Mapping[str, Array | Tensor],
        config: Mapping[str, Any] | None = None,
        file_format: str = "safetensors",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.reference = "memory"
        self.folder = Path("memory")
        self.format = file_format
        self.config = config or {}
        self.metadata = metadata or {}
        self.data = {name: as_array(t) if isinstance(t, Tensor) else t for name, t in tensors.items()}
        self.tensors = {
            name: TensorInfo(name, t.shape, dtype_name(t.dtype), t.nbytes, "memory") for name, t in self.data.items()
        }
        self.files = {"memory": sum(t.nbytes for t in self.data.values())}
        self.bytes_read = 0

    def read(self, name: str, rows: Rows = None) -> np.ndarray:
        if name not in self.data:
            raise MissingTensorError(f"no tensor {name}")
        array = self.data[name] if rows is None else self.data[name][rows]
        self.bytes_read += array.nbytes
        return array.copy()
