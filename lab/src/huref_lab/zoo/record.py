"""The zoo as data: which models there are, what each descends from, and what is true of every pair.

`ZOO/zoo.json` lists the models; the checkpoints are beside it. A zoo that is still being made is a zoo too: the list
is written again after every model, and a model stands in it only after everything that it descends from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from huref.errors import CorruptFileError, MissingFileError, UsageError
from huref.files.atomic import write_atomically

SCHEMA_VERSION = "huref.zoo/1.0"
MANIFEST = "zoo.json"
_MOST_BYTES = 1 << 24

Truth = Literal["kin", "independent", "same-init"]


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo.

    Attributes:
        name: unique in the zoo.
        path: of its checkpoint, relative to the zoo: a folder or a .gguf file.
        kind: how it was made, in a word; "base" for a base.
        parents: names of the models that it was made from.
        roots: names of the bases whose trained weights it descends from; its own name for a base and for a student.
        init: which random numbers its roots started from; equal texts mean equal first weights.
        architecture: the family's label in the zoo.
        text: what its first root was trained on.
        tokenizer: which vocabulary it has; equal texts mean equal vocabularies.
        strength: how far it went, where a kind has degrees.
        made: how, in a few words.
        losses: what was measured, in nats a token on text held out.
    """

    name: str
    path: str
    kind: str
    parents: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    init: str = ""
    architecture: str = ""
    text: str = ""
    tokenizer: str = ""
    strength: str = ""
    made: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Zoo:
    """Models in the order in which they were planned; `folder` is what their paths are relative to."""

    folder: Path
    models: tuple[ZooModel, ...]

    @cached_property
    def by_name(self) -> dict[str, ZooModel]:
        """The models by name."""
        return {model.name: model for model in self.models}

    @property
    def bases(self) -> tuple[ZooModel, ...]:
        """Models that descend from no other."""
        return tuple(model for model in self.models if model.roots == (model.name,))

    def __getitem__(self, name: str) -> ZooModel:
        """The model of a name.

        Raises:
            UsageError: there is none.
        """
        if name not in self.by_name:
            raise UsageError("no such model in the zoo", where=str(self.folder), got=name, next_step="see zoo.json")
        return self.by_name[name]

    def path(self, name: str) -> Path:
        """Where the checkpoint of a model is."""
        return self.folder / self[name].path

    def truth(self, a: str, b: str) -> Truth:
        """What is true of two models by how they were made.

        "kin": the weights of one trained base are in both. "same-init": no trained base in common, but two bases that
        started from the same random weights; that counts neither for nor against a method. Else "independent".
        """
        roots_a, roots_b = self[a].roots, self[b].roots
        if set(roots_a) & set(roots_b):
            return "kin"
        if {self[name].init for name in roots_a} & {self[name].init for name in roots_b}:
            return "same-init"
        return "independent"

    def to_dict(self) -> dict[str, Any]:
        """The list, as `zoo.json` and `--json` give it."""
        return {"schema_version": SCHEMA_VERSION, "models": [asdict(model) for model in self.models]}

    def to_text(self) -> str:
        """A line a model, and how many there are."""
        width = max(len(model.name) for model in self.models)
        lines = [f"{model.name:<{width}}  {model.made}{_losses(model)}" for model in self.models]
        return "\n".join([*lines, f"{len(self.models)} models, {len(self.bases)} of them with weights of their own"])

    def pairs(self) -> Iterator[tuple[ZooModel, ZooModel, Truth]]:
        """Every pair of different models, once, with what is true of it."""
        for i, a in enumerate(self.models):
            for b in self.models[i + 1 :]:
                yield a, b, self.truth(a.name, b.name)


def save_zoo(zoo: Zoo) -> None:
    """Write `zoo.json`, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_atomically(zoo.folder / MANIFEST, (json.dumps(zoo.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())


def load_zoo(folder: Path) -> Zoo:
    """Read a zoo's list; what it says about itself is checked before it is believed. No checkpoint is opened.

    Raises:
        MissingFileError: there is no `zoo.json`.
        CorruptFileError: it cannot be read, contradicts itself, or names a place outside its folder.
    """
    path = folder / MANIFEST
    models = tuple(_model(path, entry) for entry in _entries(path))
    known = [model.name for model in models]
    if not models or len(set(known)) != len(known):
        raise _corrupt(path, "models with names of their own", f"{len(known)} models, {len(set(known))} names")
    inits = {model.name: model.init for model in models if model.roots == (model.name,)}
    for model in models:
        lost = sorted({*model.parents} - {*known}) + sorted({*model.roots} - inits.keys())
        if lost or not model.roots:
            raise _corrupt(
                path, "parents among the models, and bases as roots", f"{model.name}: {lost or 'no roots'}"
            )
    return Zoo(folder, models)


def _losses(model: ZooModel) -> str:
    return "".join(f", {name} {value:.2f}" for name, value in model.losses.items())


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _corrupt(path, f"at most {_MOST_BYTES} bytes", str(path.stat().st_size))
        content = path.read_bytes()
    except OSError as error:
        raise MissingFileError(
            "a zoo's list cannot be read",
            where=str(path),
            expected="a folder that huref lab zoo made",
            got=error.strerror or str(error),
            next_step="huref lab zoo --out DIR",
        ) from None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "a JSON document", str(error)[:80]) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version != SCHEMA_VERSION:
        raise _corrupt(path, f"a JSON object with schema_version {SCHEMA_VERSION}", str(version)[:40])
    if not isinstance(document.get("models"), list):
        raise _corrupt(path, "a list `models`", type(document.get("models")).__name__)
    return list(document["models"])


def _model(path: Path, entry: Any) -> ZooModel:
    names = [item.name for item in fields(ZooModel)]
    if not isinstance(entry, dict) or not {"name", "path", "kind", "roots"} <= entry.keys() <= set(names):
        raise _corrupt(path, f"models with {', '.join(names)}", str(entry)[:80])
    for key, value in entry.items():
        if not _is_sound(key, value):
            raise _corrupt(path, "names, lists of names, and losses as numbers", f"{key}: {str(value)[:40]}")
    place = PurePosixPath(entry["path"])
    if place.is_absolute() or ".." in place.parts or not place.parts or "\\" in entry["path"]:
        raise _corrupt(path, "a path inside the zoo's folder", entry["path"][:80])
    fields_read: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return ZooModel(**fields_read)


def _is_sound(key: str, value: Any) -> bool:
    if key in ("parents", "roots"):
        return isinstance(value, list) and all(isinstance(name, str) for name in value)
    if key == "losses":
        numbers: list[Any] = list(value.values()) if isinstance(value, dict) else [None]
        return all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    return isinstance(value, str) and "\x00" not in value


def _corrupt(path: Path, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "a zoo's list contradicts its format",
        where=str(path),
        expected=expected,
        got=got,
        next_step="make it again: huref lab zoo --out DIR",
    )
