"""A checkpoint that lives in memory, for tests that need names and shapes and no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huref.errors import MissingTensorError
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.numerics.tensors import as_array

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


class MemoryCheckpoint(Checkpoint):
    """Wraps a dictionary of tensors; counts the bytes that reads would have cost."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any] | None = None,
        file_format: str = "safetensors",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.reference = "memory"
        self.folder = Path("memory")
        self.format = file_format
        self.config = config or {}
        self.metadata = metadata or {}
        self.data = dict(tensors)
        self.tensors = {
            name: TensorInfo(name, tuple(t.shape), _NAMES[t.dtype], t.nbytes, "memory")
            for name, t in self.data.items()
        }
        self.files = {"memory": sum(t.nbytes for t in self.data.values())}
        self.bytes_read = 0

    def read(self, name: str, rows: Rows = None) -> np.ndarray:
        if name not in self.data:
            raise MissingTensorError(f"no tensor {name}")
        tensor = self.data[name]
        if isinstance(rows, np.ndarray):
            tensor = tensor[torch.from_numpy(rows.astype(np.int64))]
        elif rows is not None:
            tensor = tensor[rows]
        self.bytes_read += tensor.nbytes
        return as_array(tensor.clone())
