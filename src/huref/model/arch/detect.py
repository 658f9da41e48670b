"""Which family a checkpoint belongs to: by what it says of itself, never by a guess."""

from __future__ import annotations

from collections.abc import Iterator

from huref.errors import ArchitectureError
from huref.model.arch.facts import read_facts, sections
from huref.model.arch.families import families_named, known_families
from huref.model.arch.likeness import nearest
from huref.model.arch.schema import Family, NameSet
from huref.model.source.checkpoint import Checkpoint

_LEAST_ALIKE = 0.2
_NO_BLOCKS = "its layers are recurrent: there is no attention to read"
_NOT_READ = {
    **dict.fromkeys(("mamba", "mamba2", "rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7"), _NO_BLOCKS),
    "clip": "it is what looks at pictures or listens, not the model of text",
    "wavtokenizer-dec": "it makes sound of codes, and has no layers of text",
    "openelm": "each layer has another number of heads",
    "step35": "layers with a window have another number of heads",
    "neo-bert": "its makers and llama.cpp disagree on the order of rows in attn_qkv",
    "gptj": "no converter writes it, so nothing says how",
}
"""GGUF architectures of llama.cpp that are known and not described, and why."""


def choose_family(checkpoint: Checkpoint, described: tuple[Family, ...] = ()) -> Family:
    """The one family that claims this checkpoint.

    Args:
        described: families of the user's own, which are asked instead of the known ones.

    Raises:
        ArchitectureError: none or several do; names the nearest by tensor names, and the difference.
    """
    claiming = _claiming(checkpoint, described)
    fitting = [family for family, names in claiming if read_facts(checkpoint, names).hold(family.when)]
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
    name = str(checkpoint.metadata.get("general.architecture")) if checkpoint.format == "gguf" else ""
    if name in _NOT_READ and not described:
        raise ArchitectureError(
            "llama.cpp's architecture is known and cannot be read",
            where=f"{checkpoint.reference}: {identity(checkpoint)}",
            got=_NOT_READ[name],
            next_step="name the model of text where this is a part of it; otherwise there is nothing to compare",
        )
    raise _unknown(checkpoint, described or known_families())


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


def _claiming(checkpoint: Checkpoint, described: tuple[Family, ...]) -> list[tuple[Family, NameSet]]:
    """Families that name what the checkpoint says it is: its innermost section first, classes last."""
    for types, classes, gguf in _names(checkpoint):
        named = (
            [f for f in described if {types} & {*f.model_types} or classes & {*f.class_names}] if described else ()
        )
        named = [f for f in described if gguf in f.gguf_names] if described and gguf else named
        found = list(_speaking(checkpoint, tuple(named) if described else families_named(types, classes, gguf)))
        if found:
            return found
    return []


def _names(checkpoint: Checkpoint) -> Iterator[tuple[str, frozenset[str], str]]:
    """What a checkpoint calls itself, each as a model type, class names and a name of llama.cpp's."""
    if checkpoint.format == "gguf":
        yield "", frozenset(), str(checkpoint.metadata.get("general.architecture", ""))
        return
    config = checkpoint.config
    for section in reversed([config, *sections(config)]):
        yield str(section.get("model_type", "")), frozenset(), ""
    classes = config.get("architectures")
    yield "", frozenset(map(str, classes)) if isinstance(classes, list) else frozenset(), ""


def _unknown(checkpoint: Checkpoint, families: tuple[Family, ...]) -> ArchitectureError:
    speaking = tuple(_speaking(checkpoint, families))
    if not speaking:
        return ArchitectureError("no architecture file is for this format", where=checkpoint.reference)
    alike, differing, named, names = nearest(checkpoint, speaking)
    start = "" if alike < _LEAST_ALIKE else f" (extends: {named.split(',')[0].split(' ')[0]})"
    if alike < _LEAST_ALIKE:
        expected = f"one of {len(speaking)} known families; no family's tensor names are alike"
    else:
        but = f"; but: {differing}" if differing else ""
        expected = f"nearest known family: {named} ({alike:.0%} of the tensor names agree){but}"
    return ArchitectureError(
        "unknown model family",
        where=f"{checkpoint.reference}: {identity(checkpoint)}",
        expected=expected,
        got=names if alike >= _LEAST_ALIKE else "",
        next_step=_what_to_do(checkpoint, alike, named, start),
    )


def _what_to_do(checkpoint: Checkpoint, alike: float, nearest: str, start: str) -> str:
    """The file that is missing, where one is; a family is described only where the checkpoint names one."""
    if checkpoint.format != "gguf" and not checkpoint.config:
        return f"put the model's config.json into {checkpoint.folder}: sizes and family stand there"
    if checkpoint.format != "gguf" and not checkpoint.config.get("model_type"):
        which = f"; the tensor names are those of {nearest}, which differ in more than names" if alike == 1 else ""
        return f"add model_type to config.json, or fetch the publisher's config.json{which}"
    return (
        f"describe the family in a YAML file{start}, pass it with --arch-file, and check it with huref doctor "
        "--check (docs/how-to/add-an-architecture.md)"
    )
