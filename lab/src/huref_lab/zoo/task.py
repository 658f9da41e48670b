"""What a maker of a zoo model is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huref_lab.zoo.plan import Plan, Scale
from huref_lab.zoo.record import ZooModel


@dataclass(frozen=True)
class Task:
    """A plan with everything that its maker needs.

    Attributes:
        zoo: the zoo's folder.
        plan: what is to be made.
        scale: how large.
        parents: what it is made from, all of them made already.
    """

    zoo: Path
    plan: Plan
    scale: Scale
    parents: tuple[ZooModel, ...] = ()

    @property
    def target(self) -> Path:
        """Where the checkpoint goes."""
        return self.zoo / self.plan.path

    @property
    def sources(self) -> tuple[Path, ...]:
        """The parents' checkpoints."""
        return tuple(self.zoo / parent.path for parent in self.parents)

    def tokenizer(self) -> bytes:
        """The first parent's `tokenizer.json`."""
        return (self.sources[0] / "tokenizer.json").read_bytes()


@dataclass(frozen=True)
class Made:
    """What a maker did.

    Attributes:
        made: how, in a few words.
        losses: what was measured.
        changes: fields of `ZooModel` that are not the first parent's: a new vocabulary, other roots.
    """

    made: str
    losses: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
