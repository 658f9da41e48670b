"""Checkpoints: bytes on disk in, named lazy tensors out. Knows file formats and not model families.

`open_checkpoint` is the way in. A format is one module here, named `*_format`; see docs/how-to/add-a-format.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
    from huref.model.source.opening import open_checkpoint
    from huref.model.source.place import require_there

__all__ = [
    "Checkpoint",
    "Rows",
    "TensorInfo",
    "open_checkpoint",
    "require_there",
]

_HOMES = {
    "Checkpoint": "huref.model.source.checkpoint",
    "Rows": "huref.model.source.checkpoint",
    "TensorInfo": "huref.model.source.checkpoint",
    "open_checkpoint": "huref.model.source.opening",
    "require_there": "huref.model.source.place",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
