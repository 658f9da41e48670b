"""What schemes look through: stored tensors that nothing has claimed, and what is declared of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.declaration import Declaration


@dataclass(frozen=True)
class Stored:
    """A checkpoint before unpacking.

    Attributes:
        checkpoint: whose small tensors may be read already, such as stored shapes.
        declared: what it says of itself.
        tensors: stored tensors that no scheme has claimed yet, by name.
    """

    checkpoint: Checkpoint
    declared: Declaration
    tensors: Mapping[str, TensorInfo]

    def ending(self, suffix: str) -> Iterator[tuple[str, TensorInfo]]:
        """What stands before an ending, and the tensor, for every name that has it."""
        for name, info in self.tensors.items():
            if name.endswith(suffix):
                yield name.removesuffix(suffix), info

    def get(self, name: str) -> TensorInfo | None:
        """A stored tensor, or None."""
        return self.tensors.get(name)

    def aside(self, *names: str) -> tuple[str, ...]:
        """Those of these names that are there."""
        return tuple(name for name in names if name in self.tensors)
