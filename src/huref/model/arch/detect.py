"""Which family a checkpoint belongs to: by what it says of itself, never by a guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from huref.errors import ArchitectureError
from huref.model.arch.facts import read_facts
from huref.model.arch.names import compare_names, shown
from huref.model.arch.schema import Family, NameSet
from huref.model.source.checkpoint import Checkpoint


def choose_family(checkpoint: Checkpoint, families: tuple[Family, ...]) -> Family:
    """The one family that claims this checkpoint.

    Raises:
        ArchitectureError: none or several do; names the nearest by tensor names, and the difference.
    """
    claiming = [(family, names) for family, names in _speaking(checkpoint, families) if _claims(family, checkpoint)]
    fitting = [family for family, names in claiming if read_facts(checkpoint, family, names).hold(family.when)]
    fitting = [family for family in fitting if family.when] or fitting  # conditions that hold are the better claim
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ArchitectureError(
            "several architecture files claim this checkpoint",
            where=checkpoint.reference,
            got=", ".join(family.name for family in fitting),
            next_step="pass the right one with --arch-file",
        )
    if claiming:
        raise ArchitectureError(
            "this variant of a known family is not described",
            where=checkpoint.reference,
            expected=" or ".join(f"{family.name}: {family.when}" for family, _ in claiming),
            next_step="describe it in a file and pass it with --arch-file (docs/how-to/add-an-architecture.md)",
        )
    raise _unknown(checkpoint, families)


def identity(checkpoint: Checkpoint) -> str:
    """What the checkpoint calls itself, for messages."""
    if checkpoint.format == "gguf":
        return f"general.architecture {checkpoint.metadata.get('general.architecture')!r}"
    config = checkpoint.config
    if not config:
        return "no config.json"
    return f"model_type {config.get('model_type')!r}, architectures {config.get('architectures')!r}"


def _speaking(checkpoint: Checkpoint, families: tuple[Family, ...]) -> Iterator[tuple[Family, NameSet]]:
    for family in families:
        names = family.name_set(checkpoint.format)
        if names is not None:
            yield family, names


def _claims(family: Family, checkpoint: Checkpoint) -> bool:
    if checkpoint.format == "gguf":
        return checkpoint.metadata.get("general.architecture") in family.gguf_names
    config = checkpoint.config
    section = config.get(family.section) if family.section else None
    types = {str(config.get("model_type"))}
    if isinstance(section, Mapping):
        types.add(str(section.get("model_type")))
    classes = config.get("architectures")
    named = set(map(str, classes)) if isinstance(classes, list) else set()
    return bool(types & set(family.model_types) or named & set(family.class_names))


def _unknown(checkpoint: Checkpoint, families: tuple[Family, ...]) -> ArchitectureError:
    compared = [
        (*compare_names(names, checkpoint.tensors), family.name) for family, names in _speaking(checkpoint, families)
    ]
    if not compared:
        return ArchitectureError("no architecture file is for this format", where=checkpoint.reference)
    alike, only_here, only_there, _ = max(compared, key=lambda entry: entry[0])
    nearest = ", ".join(name for score, _, _, name in compared if score == alike)
    return ArchitectureError(
        "unknown model family",
        where=f"{checkpoint.reference}: {identity(checkpoint)}",
        expected=f"nearest known family: {nearest} ({alike:.0%} of the tensor names agree)",
        got=f"only in this checkpoint: {shown(only_here)}; only in {nearest}: {shown(only_there)}",
        next_step="describe the family in a YAML file and pass it with --arch-file "
        "(docs/how-to/add-an-architecture.md)",
    )
