"""Checkpoints: bytes on disk in, named lazy tensors out. Knows file formats and not model families.

`open_checkpoint` is the way in. A format is one module here, named `*_format`; see docs/how-to/add-a-format.md.
"""

from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.model.source.opening import open_checkpoint

__all__ = [
    "Checkpoint",
    "Rows",
    "TensorInfo",
    "open_checkpoint",
]
