"""Options: as one object or as keywords, with texts for paths, and under both of their names in a message."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huref.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

_FLAGS = {
    "hash_files": "--hash",
    "html": "--report",
    "is_exact": "--exact",
    "label": "--class",
    "n_neurons": "--neurons",
    "style": "--format",
    "tokens_file": "--tokens",
    "transform": "--evidence",
}
"""Parameters that the command line calls otherwise."""


def flag(name: str) -> str:
    """A parameter as the command line writes it: `--n-tokens` for `n_tokens`."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def option(*names: str) -> str:
    """Parameters as messages name them, for Python and for the command line: `n_tokens (--n-tokens)`."""
    return ", ".join(f"{name} ({flag(name)})" for name in names)


def given(**keywords: Any) -> dict[str, Any]:
    """The keywords that are not None."""
    return {name: value for name, value in keywords.items() if value is not None}


def chosen(kind: type[Options], options: Options | None, **keywords: Any) -> Options:
    """Options as an object, which was handed over as one or as keywords; of those None says nothing.

    Raises:
        UsageError: both, or an object of another kind.
    """
    named = given(**keywords)
    if options is None:
        return kind(**named)
    if not isinstance(options, kind):
        raise UsageError(
            "options of another kind",
            where="options",
            expected=f"a {kind.__name__}, or keywords: {', '.join(field.name for field in fields(kind))}",
            got=f"{type(options).__name__}: {str(options)[:60]}",
            next_step="name the keyword that it is for",
        )
    if named:
        raise UsageError(
            "options as an object and as keywords",
            where=", ".join(named),
            expected=f"a {kind.__name__}, or keywords",
            got="both",
            next_step=f"put {', '.join(named)} into the {kind.__name__}",
        )
    return options


def take_texts_for_paths(options: object, *names: str) -> None:
    """Make paths of the texts in a frozen dataclass that is being made."""
    for name in names:
        if isinstance(value := getattr(options, name), str):
            object.__setattr__(options, name, Path(value))
