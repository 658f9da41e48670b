"""Which pairs of a zoo a bench looks at, and what is true of each.

All of it follows from the zoo's list and a seed. Kin are an offspring and a base that it descends from. Strangers are
chosen to be hard first: twins (bases of one shape, text and vocabulary that differ by seed alone), an offspring and
its base's twin, offspring of two twins that were made in the same way, a distilled student and its teacher's base. An
attacked copy meets one twin only: its other twins would say the same again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from huref.errors import CorruptFileError, MissingFileError
from huref_lab.zoo.record import Truth, Zoo, ZooModel

ATTACK = "attack:"
"""How the kinds of attacked copies begin."""
ATTACKS = "attacks.json"
ATTACKS_VERSION = "huref.attacked/1.0"
GROUPS = ("kin", "same-init", "twins", "twin's offspring", "base's twin", "student", "bases", "other")
"""What a pair is in the bench, in the order of the reports."""


@dataclass(frozen=True)
class Pair:
    """Two models to compare.

    Attributes:
        a: the suspect's name.
        b: the candidate base's name; of two bases, or of two offspring, the other one.
        truth: what is true of them.
        group: one of `GROUPS`.
        kind: the suspect's kind and strength.
        clusters: the bases that the two descend from: pairs of one base are one observation together.
    """

    a: str
    b: str
    truth: Truth
    group: str
    kind: str
    clusters: tuple[str, ...]


def choose_pairs(zoo: Zoo, n_other: int | None = None, seed: int = 0) -> list[Pair]:
    """The bench's pairs, each once.

    Args:
        zoo: with attacked copies, if wanted: `with_attacks`.
        n_other: how many pairs of an offspring and a base that is neither its own, nor that one's twin, nor its
            teacher's; None for all.
        seed: of their choice.
    """
    pairs: dict[frozenset[str], Pair] = {}
    for pair in _hard(zoo):
        pairs.setdefault(frozenset((pair.a, pair.b)), pair)
    others = [p for p in _foreign(zoo) if frozenset((p.a, p.b)) not in pairs]
    others = sorted(others, key=lambda pair: _draw(pair, seed))[:n_other]
    return sorted([*pairs.values(), *others], key=lambda pair: (GROUPS.index(pair.group), pair.a, pair.b))


def bases_of(zoo: Zoo) -> list[ZooModel]:
    """The bases that a suspect may descend from; students, which descend from none, are no candidates."""
    return [model for model in zoo.models if model.kind == "base"]


def are_twins(a: ZooModel, b: ZooModel) -> bool:
    """Whether two bases differ by their random numbers alone."""
    alike = ("architecture", "text", "tokenizer")
    return a.init != b.init and all(getattr(a, name) == getattr(b, name) for name in alike)


def label(model: ZooModel) -> str:
    """A model's kind with its strength: `continued 3.0x`."""
    return f"{model.kind} {model.strength}".strip()


def with_attacks(zoo: Zoo, folder: Path) -> Zoo:
    """The zoo and the attacked copies of its models that `folder/attacks.json` lists, as offspring.

    The list is `{"schema_version": "huref.attacked/1.0", "models": [{"name", "path", "of", "attack", "made"}]}` with
    paths relative to the folder; copies of models that this zoo lacks are left out.

    Raises:
        MissingFileError: there is no such list.
        CorruptFileError: it contradicts its format.
    """
    copies = [_attacked(zoo, folder, entry) for entry in _read_attacks(folder / ATTACKS)]
    known = set(zoo.by_name)
    added = {copy.name: copy for copy in copies if copy is not None and copy.name not in known}
    return Zoo(zoo.folder, (*zoo.models, *added.values()))


def _draw(pair: Pair, seed: int) -> bytes:
    """A place in a random order that other pairs do not change: a smaller sample is part of a larger one."""
    return hashlib.sha256(f"{seed}/{pair.a}/{pair.b}".encode()).digest()


def _hard(zoo: Zoo) -> Iterator[Pair]:
    bases = bases_of(zoo)
    for a, b in combinations(bases, 2):
        yield _pair(zoo, a, b, "twins" if are_twins(a, b) else "bases")
    suspects = [model for model in zoo.models if model.kind != "base"]
    twins = {base.name: [other for other in bases if are_twins(base, other)] for base in bases}
    for model in suspects:
        lineage = set(model.roots) - {model.name}
        twins_of_roots = {twin.name for root in lineage for twin in twins.get(root, ())} - lineage
        near = [base for base in bases if base.name in twins_of_roots]
        if model.kind.startswith(ATTACK):
            near = near[:1]
        else:
            near += [base for base in bases if base not in near and _is_same_init(zoo, model, base)]
        yield from (_pair(zoo, model, base, "kin") for base in bases if base.name in lineage)
        yield from (_pair(zoo, model, base, "base's twin") for base in near)
        for teacher in _teachers(zoo, model):
            yield _pair(zoo, model, teacher, "student")
    yield from _twin_offspring(zoo, suspects, twins)


def _twin_offspring(zoo: Zoo, suspects: list[ZooModel], twins: dict[str, list[ZooModel]]) -> Iterator[Pair]:
    """Offspring of two twins, made in the same way."""
    for a, b in combinations([m for m in suspects if len(m.roots) == 1 and m.roots[0] in twins], 2):
        is_same_way = label(a) == label(b)
        if is_same_way and any(twin.name == b.roots[0] for twin in twins[a.roots[0]]):
            yield _pair(zoo, a, b, "twin's offspring")


def _foreign(zoo: Zoo) -> Iterator[Pair]:
    for model in zoo.models:
        if model.kind == "base":
            continue
        for base in bases_of(zoo):
            if zoo.truth(model.name, base.name) == "independent":
                yield _pair(zoo, model, base, "other")


def _is_same_init(zoo: Zoo, a: ZooModel, b: ZooModel) -> bool:
    return zoo.truth(a.name, b.name) == "same-init"


def _teachers(zoo: Zoo, model: ZooModel) -> list[ZooModel]:
    """The bases that a student, whose weights descend from nobody, learned from."""
    if model.roots != (model.name,):
        return []
    roots = {root for parent in model.parents for root in zoo[parent].roots}
    return [base for base in bases_of(zoo) if base.name in roots]


def _pair(zoo: Zoo, a: ZooModel, b: ZooModel, group: str) -> Pair:
    truth = zoo.truth(a.name, b.name)
    if truth != "independent":
        group = truth
    clusters = (b.name,) if truth == "kin" else tuple(sorted({*a.roots, *b.roots}))
    return Pair(a.name, b.name, truth, group, label(a), clusters)


def _read_attacks(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise MissingFileError(
            "no list of attacked copies",
            where=str(path),
            got=error.strerror or str(error),
            next_step="make them: lab/benchmarks/attacked_zoo.py",
        ) from None
    except (ValueError, RecursionError):
        document = None
    is_sound = isinstance(document, dict) and document.get("schema_version") == ATTACKS_VERSION
    entries = document.get("models") if isinstance(document, dict) and is_sound else None
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise CorruptFileError(
            "a list of attacked copies contradicts its format",
            where=str(path),
            expected=f"schema_version {ATTACKS_VERSION}; models with name, path inside the folder, of, attack",
            got=str(document)[:80],
            next_step="make it again: lab/benchmarks/attacked_zoo.py",
        )
    return entries


def _is_entry(entry: Any) -> bool:
    keys = ("name", "path", "of", "attack")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) and entry[key] for key in keys):
        return False
    place = PurePosixPath(entry["path"])
    return not place.is_absolute() and ".." not in place.parts and "\x00" not in entry["path"]


def _attacked(zoo: Zoo, folder: Path, entry: dict[str, Any]) -> ZooModel | None:
    original = zoo.by_name.get(entry["of"])
    if original is None:
        return None
    place = str((folder / entry["path"]).absolute())  # joined to the zoo's folder, an absolute path stays itself
    kind, made = f"{ATTACK}{entry['attack']}", str(entry.get("made", ""))
    return replace(
        original,
        name=entry["name"],
        path=place,
        kind=kind,
        strength="",
        made=made,
        parents=(original.name,),
        losses={},
    )
