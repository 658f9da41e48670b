"""Named sets of models: those whose tables the HuRef paper shows, by their names on the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

SETS = ("llama_family_models", "offspring_models", "independent_models")


@dataclass(frozen=True)
class ModelSet:
    """Models that are compared with each other.

    Attributes:
        paper: the number of the paper's table.
        groups: references; where there are several groups, the first of each is the base of the others.
    """

    paper: str
    groups: tuple[tuple[str, ...], ...]


def model_set(name: str) -> ModelSet:
    """One of `SETS`."""
    text = (resources.files("huref.fingerprints") / "data" / "sets.json").read_text("utf-8")
    found = json.loads(text)["sets"][name]
    return ModelSet(found["paper"], tuple(map(tuple, found["groups"])))
