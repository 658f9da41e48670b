"""One run of one command, and the names that the steps share."""

from __future__ import annotations

from dataclasses import dataclass, field

ATTACKED = ("llama", "gpt2", "gemma", "mixtral", "gpt-neox")
"""Models of which there is a copy that went through every attack, `NAME-attacked`."""


@dataclass(frozen=True)
class Step:
    """One run of one command.

    Attributes:
        name: a folder's name; the part before the first `.` is the group.
        arguments: of huref; paths are relative to the work folder, where `models` leads to the models.
        environment: more variables.
        spoil: files to copy with a byte changed before the step: {new: (old, place)}.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    spoil: dict[str, tuple[str, int]] = field(default_factory=dict)


def m(*names: str) -> tuple[str, ...]:
    """Models by name, as arguments."""
    return tuple(f"models/{name}" for name in names)


def saved(name: str, kind: str = "canonical-sketch") -> str:
    """The fingerprint file that the step `fingerprint.KIND` writes of a tiny model."""
    return f"fingerprints/{kind}/{name}.huref.safetensors"
