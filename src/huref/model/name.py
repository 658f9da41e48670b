"""What a model is called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from huref.choices import option
from huref.errors import UsageError
from huref.model.source.hub_cache import CACHED
from huref.model.source.ollama import name_of
from huref.model.source.place import split_reference
from huref.model.source.remote.naming import remote_name

_LONGEST = 160


def model_name(reference: str | Path) -> str:
    """What a model is called in every artefact: the folder's or the file's own name, as written, never a path.

    Links are not followed: who links `my-model` to a cache means `my-model`. A snapshot in the hub's cache is called
    by its repository, not by its hash. Bytes that are no UTF-8 (surrogates, to Python) fit in no file's metadata and
    become question marks.
    """
    return _clean(_parts(reference)[-1])


def distinct_names(references: Sequence[str | Path], ending: str = "") -> tuple[str, ...]:
    """A name for each reference, with as many of its folders in front as tell it from the others.

    `runA/final` and `runB/final` are called that, and not `final` twice; one path twice has one name.

    Args:
        ending: of a file's name, which is left out.
    """
    paths = [_parts(reference) for reference in references]
    for parts in paths:
        parts[-1] = parts[-1].removesuffix(ending)
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(parts[-length:]) for parts, length in zip(paths, lengths, strict=True)]
        groups = Counter(zip(names, map(tuple, paths), strict=True))
        holders = Counter(name for name, _ in groups)
        longer = [
            length + 1 if holders[name] > 1 and length < len(parts) else length
            for name, parts, length in zip(names, paths, lengths, strict=True)
        ]
        if longer == lengths:
            return tuple(map(_clean, names))
        lengths = longer


def require_names(names: Sequence[str], count: int, *, are_files: bool = False) -> None:
    """Refuse names that a user gave to models: too few, two alike, or what steers a terminal or a path.

    Args:
        count: of the models.
        are_files: files will be called so.

    Raises:
        UsageError: they are refused.
    """
    where, twice = option("name"), sorted({name for name in names if names.count(name) > 1})
    if len(names) != count or twice:
        raise UsageError(
            "two models of one name" if twice and len(names) == count else "names for other models than there are",
            where=where,
            expected=f"{count} names, one a model in their order, no two alike",
            got=twice[0] if twice and len(names) == count else str(len(names)),
            next_step="repeat the option for every model",
        )
    for name in names:
        is_line = name.isprintable() and 0 < len(name.encode("utf-8", "replace")) <= _LONGEST
        if not is_line or name.strip() != name or (are_files and (name[:1] == "." or "/" in name or "\\" in name)):
            raise UsageError(
                "a name that is none",
                where=where,
                expected="a line of letters" + (" without slashes, as files will have it" if are_files else ""),
                got=ascii(name)[:80],
            )


def _parts(reference: str | Path) -> list[str]:
    """Folders and name, the last part what a model is called."""
    first = split_reference(reference)[0]
    if (elsewhere := remote_name(first)) is not None:
        return list(elsewhere.parts)
    if (named := name_of(first)) is not None:
        return [named]
    path = Path(os.path.abspath(first))  # noqa: PTH100 (resolve() would follow links)
    cached = path.parent.parent
    if path.parent.name == "snapshots" and cached.name.startswith(CACHED):
        path = cached
    if path.name.startswith(CACHED):
        return [*path.parts[1:-1], *path.name.removeprefix(CACHED).split("--")]
    return [*path.parts[1:-1], path.stem if path.is_file() else path.name] if path.name else ["model"]


def _clean(name: str) -> str:
    return name.encode("utf-8", "replace").decode() or "model"
