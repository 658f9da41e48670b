"""Families from YAML files: a stream of documents a file, each put together from traits and other families.

`extends: [decoder, gguf]` takes what those say, one after the other, then the document's own words: mappings are
merged key by key, anything else is replaced, and null takes a key away. Traits stand in `data/traits/`; a family can
be extended too, of which the names by which checkpoints are recognised are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from huref.errors import ArchitectureError
from huref.model.arch.schema import Family

DATA = Path(__file__).parent / "data"
TRAITS = DATA / "traits"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_FAMILIES = 64
"""In one file."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where built in, is ten times faster
_OWN = ("name", "model_types", "class_names", "gguf_names", "when", "extends")
"""Keys that say which checkpoints a family is for; whoever extends it says them anew."""

Document = Mapping[str, Any]


def load_families(path: Path) -> tuple[Family, ...]:
    """Read and check one architecture file.

    Raises:
        ArchitectureError: unreadable, too large, no valid YAML, or outside the schema; names the key.
    """
    return tuple(_family(document, path) for document in _documents(path))


@cache
def known_families() -> tuple[Family, ...]:
    """Every family in the data folder; adding a document is all the registration there is."""
    families = (family_named(name) for name in _known())
    return tuple(sorted(families, key=lambda family: family.name))


@cache
def family_named(name: str) -> Family:
    """A family of the data folder, checked when it is first asked for.

    Raises:
        KeyError: there is none of this name.
    """
    path, document = _known()[name]
    return _family(document, path)


def families_named(model_type: str, classes: frozenset[str], gguf: str) -> tuple[Family, ...]:
    """The families of the data folder that name one of these; all others stay unread."""
    wanted = (("model_types", {model_type} - {""}), ("class_names", classes), ("gguf_names", {gguf} - {""}))
    found = [
        name
        for name, (_, document) in _known().items()
        if any(set(map(str, document.get(key) or ())) & names for key, names in wanted)
    ]
    return tuple(family_named(name) for name in sorted(found))


@cache
def _known() -> Mapping[str, tuple[Path, Document]]:
    """Documents of the data folder by name."""
    found: dict[str, tuple[Path, Document]] = {}
    for path in sorted(DATA.glob("*.yaml")):
        for document in _documents(path):
            name = str(document.get("name"))
            if name in found:
                raise ArchitectureError("two families of one name", where=f"{path} and {found[name][0]}", got=name)
            found[name] = path, document
    return found


def _family(document: Document, path: Path) -> Family:
    whole = _without_nothing(_put_together(document, path, ()))
    gguf = whole.get("gguf")
    if "gguf" not in document and isinstance(gguf, dict) and "embedding" not in gguf.get("tensors", {}):
        del whole["gguf"]  # traits alone, of a family that has no names there
    try:
        return Family.model_validate(whole)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ArchitectureError(
            "the architecture file does not follow the schema",
            where=f"{path}, key {'.'.join(str(part) for part in fault['loc']) or 'top level'}",
            expected=str(fault["msg"]),
            got=repr(fault["input"])[:200],
            next_step="see docs/how-to/add-an-architecture.md",
        ) from None


def _put_together(document: Document, path: Path, within: tuple[str, ...]) -> dict[str, Any]:
    """A document with what it extends in front of its own words."""
    names = document.get("extends", [])
    whole: dict[str, Any] = {}
    for name in names if isinstance(names, list) else [names]:
        if name in within:
            raise ArchitectureError("families extend each other in a circle", where=str(path), got=str(name))
        of, origin = _extended(name, path)
        whole = _merged(whole, _put_together(origin, of, (*within, name)))
    return _merged({key: value for key, value in whole.items() if key not in _OWN}, document, but="extends")


def _without_nothing(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Without tensors and sizes that were taken away before anything gave them; a copy, for traits are shared."""
    kept = dict(whole)
    for section in ("huggingface", "gguf"):
        if isinstance(kept.get(section), dict):
            kept[section] = _given(kept[section])
    return _given(kept)


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(section)
    for key in ("tensors", "sizes"):
        if isinstance(given.get(key), dict):
            given[key] = {name: rule for name, rule in given[key].items() if rule is not None}
    return given


def _extended(name: object, path: Path) -> tuple[Path, Document]:
    """Where a trait or a family is described, and how."""
    traits = _traits()
    if isinstance(name, str) and name in traits:
        return TRAITS, traits[name]
    if isinstance(name, str) and name in _known():
        return _known()[name]
    raise ArchitectureError(
        "there is no such trait or family",
        where=f"{path}, key extends",
        expected=f"one of the traits {', '.join(traits)}, or the name of a family",
        got=repr(name)[:100],
        next_step="see docs/how-to/add-an-architecture.md",
    )


@cache
def _traits() -> Mapping[str, Document]:
    return {path.stem: _documents(path)[0] for path in sorted(TRAITS.glob("*.yaml"))}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any], but: str = "") -> dict[str, Any]:
    whole = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(whole.get(key), Mapping) and _is_section(whole[key], value):
            whole[key] = _merged(whole[key], value)
        elif value is None and key in whole:
            del whole[key]
        elif key != but:
            whole[key] = value
    return whole


def _is_section(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether two mappings are sections, whose keys add up; rules of a tensor or a size replace one another."""
    return not {"from", "key", "size", "value", "rows", "length"} & (set(below) | set(above))


def _documents(path: Path) -> tuple[Document, ...]:
    """The documents of a file; size, depth and number are capped and aliases are refused before anything is built.

    A few lines of nested aliases can stand for gigabytes, and the parser's time grows with the square of the depth.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ArchitectureError(
                "the architecture file is too large", where=str(path), expected=f"at most {MAX_BYTES} bytes"
            )
        text = data.decode("utf-8")
        _check_events(text, path)
        documents = list(yaml.load_all(text, Loader=_LOADER))
    except (OSError, UnicodeDecodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise ArchitectureError(
            "the architecture file cannot be read", where=str(path), got=str(error)[:500]
        ) from None
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ArchitectureError(
            "the architecture file does not follow the schema",
            where=f"{path}, key top level",
            expected="a mapping of keys to values in each document",
            got=repr(documents)[:200],
            next_step="see docs/how-to/add-an-architecture.md",
        )
    return tuple(documents)


def _check_events(text: str, path: Path) -> None:
    depth = count = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        count += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise ArchitectureError("the architecture file is nested too deeply", where=f"{path}{event.start_mark}")
        if count > MAX_FAMILIES:
            raise ArchitectureError(
                "the architecture file describes too many families",
                where=f"{path}{event.start_mark}",
                expected=f"at most {MAX_FAMILIES} documents",
            )
        if isinstance(event, yaml.AliasEvent):
            raise ArchitectureError("YAML aliases are not allowed", where=f"{path}{event.start_mark}")
