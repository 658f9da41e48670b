"""Long work tells where it stands: one step, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One step of long work, handed to a callback: `done` of `total` units of `stage`."""

    stage: str
    done: int
    total: int
    unit: str = field(default="")


Report = Callable[[Progress], None]
"""Called with a `Progress` at each step."""
