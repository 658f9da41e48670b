"""The child and its candidates, opened and lined up: which tensors all of them have, and who cannot take part."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.errors import HurefError, UsageError
from huref.fingerprints.file import as_references, require_weights
from huref.fingerprints.record import Reference
from huref.model.arch import open_weights
from huref.model.arch.weights import CanonicalWeights
from huref.model.name import model_name
from huref.model.source import open_checkpoint
from huref.numerics.arrays import Floats, float32

_PROBED_ROWS = 64
_TIE = 1e-5


@dataclass(frozen=True)
class Member:
    """A model that takes part.

    Attributes:
        name: what the user called it, made unique among those that take part.
        weights: opened, unread.
        layers: which of its layers stands for each layer of the child; None where they are the same.
    """

    name: str
    weights: CanonicalWeights
    layers: tuple[int, ...] | None = None

    def own_name(self, name: str) -> str:
        """What a tensor of the child is called here."""
        if self.layers is None or not name.startswith("layers."):
            return name
        _, layer, role = name.split(".", 2)
        return f"layers.{self.layers[int(layer)]}.{role}"

    def read(self, name: str, rows: slice) -> Floats:
        """Rows of the tensor that stands for one of the child's, float32."""
        return float32(self.weights.read(self.own_name(name), rows))

    def stored_dtype(self, name: str) -> str:
        """The stored type of the tensor that stands for one of the child's."""
        return self.weights.stored_dtype(self.own_name(name))


@dataclass(frozen=True)
class Skipped:
    """A candidate that cannot be compared, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Family:
    """Everyone lined up.

    Attributes:
        child: the model in question.
        candidates: those that can be compared with it.
        base: index of the base among the candidates where the user named one, else None.
        names: the child's tensors that every candidate has in equal shape.
        skipped: candidates left out.
        notes: tensors left out, layers of another depth.
    """

    child: Member
    candidates: tuple[Member, ...]
    base: int | None
    names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def open_family(
    child: Reference,
    candidates: Sequence[Reference],
    base: Reference | None,
    arch_file: Path | None,
    opened: contextlib.ExitStack,
) -> Family:
    """Open everyone; files stay open until `opened` closes.

    Args:
        base: one of the candidates, or one more.

    Raises:
        UsageError: no candidate, or a saved fingerprint, which has no weights.
        InputError: a model that cannot be read.
    """
    child = require_weights(child, "fit")
    references = _distinct(as_references(candidates), base)
    subject = Member(model_name(child), _open(child, arch_file, opened))
    own_place, base_place = _place(child), None if base is None else _place(require_weights(base, "fit"))
    others: list[Member] = []
    skipped: list[Skipped] = []
    base_name = ""
    for name, (place, reference) in zip(_names(references), references.items(), strict=True):
        if place == own_place:
            skipped.append(Skipped(name, "it is the child itself"))
            continue
        others.append(Member(name, _open(reference, arch_file, opened)))
        base_name = name if place == base_place else base_name
    return lined_up(subject, others, base_name, skipped)


def lined_up(subject: Member, others: Sequence[Member], base: str, skipped: Sequence[Skipped] = ()) -> Family:
    """Everyone beside the child, those that cannot be compared skipped.

    Args:
        others: opened, layers in their own order.
        base: the name of one of them, or empty.
        skipped: those that were left out before.
    """
    members, left_out = list[Member](), list(skipped)
    for other in others:
        member = _with_layers(subject, other)
        reason = _obstacle(subject, member)
        if reason:
            left_out.append(Skipped(other.name, reason))
        else:
            members.append(member)
    names, notes = _common_names(subject, members)
    place = next((i for i, member in enumerate(members) if base and member.name == base), None)
    return Family(subject, tuple(members), place, names, tuple(left_out), (*_depth_notes(members), *notes))


def _distinct(candidates: Sequence[Reference], base: Reference | None) -> dict[Path, str | Path]:
    """Candidates and base in the order given, each place once; its first name counts."""
    found: dict[Path, str | Path] = {}
    for reference in (*candidates, *(() if base is None else (base,))):
        model = require_weights(reference, "fit")
        found.setdefault(_place(model), model)
    if not found:
        raise UsageError(
            "nobody to be the parent",
            where="candidates (CANDIDATE)",
            expected="one model or more",
            got="none",
            next_step="name some",
        )
    return found


def _open(reference: str | Path, arch_file: Path | None, opened: contextlib.ExitStack) -> CanonicalWeights:
    """Weights by their names; of many models a fault says which one it is in."""
    try:
        return open_weights(opened.enter_context(open_checkpoint(reference)), arch_file)
    except HurefError as error:
        if str(reference) in error.where:
            raise
        parts = {"expected": error.expected, "got": error.got, "next_step": error.next_step}
        raise type(error)(error.what, where=f"{reference}: {error.where}", **parts) from None


def _place(reference: str | Path) -> Path:
    return Path(reference).resolve()


def _names(references: Mapping[Path, str | Path]) -> list[str]:
    """What each is called: its own name; where two share one, with its folder's, and a number if need be."""
    plain = [model_name(reference) for reference in references.values()]
    found: list[str] = []
    for name, place in zip(plain, references, strict=True):
        longer = f"{model_name(place.parent)}/{name}" if plain.count(name) > 1 else name
        number, free = 1, longer
        while free in found:
            number += 1
            free = f"{longer} ({number})"
        found.append(free)
    return found


def _obstacle(child: Member, other: Member) -> str:
    """Why a candidate cannot be compared with the child; empty where it can."""
    for name in child.weights.names():
        if not name.startswith("layers."):
            continue
        own = other.own_name(name)
        if own not in other.weights:
            return f"another architecture: it has no {own}"
        if other.weights.shape(own) != child.weights.shape(name):
            return f"other shapes: {own} is {list(other.weights.shape(own))}, not {list(child.weights.shape(name))}"
    return ""


def _common_names(child: Member, members: Sequence[Member]) -> tuple[tuple[str, ...], list[str]]:
    """The child's tensors that all have; a note about those outside the layers that some lack."""
    shapes = {name: child.weights.shape(name) for name in child.weights.names()}
    left_out = [
        name
        for name, shape in shapes.items()
        if not all(m.own_name(name) in m.weights and m.weights.shape(m.own_name(name)) == shape for m in members)
    ]
    notes = [f"left out, not of equal shape in every model: {', '.join(left_out)}"] if left_out and members else []
    return tuple(name for name in shapes if name not in left_out), notes


def _with_layers(child: Member, other: Member) -> Member:
    """A candidate of another depth with its most alike layer for each of the child's, as stacked merges need it."""
    depths = [m.weights.geometry.n_layers for m in (child, other)]
    if depths[0] == depths[1] or 0 in depths or not _has_equal_probes(child, other):
        return other
    probes = [np.stack([_probe(m.weights, i) for i in range(n)]) for m, n in zip((child, other), depths, strict=True)]
    likeness = probes[0] @ probes[1].T
    best = (likeness >= likeness.max(axis=1, keepdims=True) - _TIE).argmax(axis=1)  # of equals the first
    return Member(other.name, other.weights, tuple(int(i) for i in best))


def _has_equal_probes(child: Member, other: Member) -> bool:
    name = "layers.0.up"
    return all(name in m.weights for m in (child, other)) and child.weights.shape(name) == other.weights.shape(name)


def _probe(weights: CanonicalWeights, layer: int) -> Floats:
    """Some rows of a layer's feed-forward input matrix as one vector of length 1."""
    name = f"layers.{layer}.up"
    n = weights.shape(name)[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, _PROBED_ROWS)).astype(np.int64))
    vector = float32(weights.read(name, rows)).ravel()
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _depth_notes(members: Sequence[Member]) -> list[str]:
    return [
        f"{member.name} has {member.weights.geometry.n_layers} layers: compared with the child's in the order "
        f"{', '.join(map(str, member.layers))}, the most alike each"
        for member in members
        if member.layers is not None
    ]
