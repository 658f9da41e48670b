"""Write `docs/reference/python.md` from the packages themselves: `python docs/generate_python_reference.py`.

The page lists what is public: the names of `huref` and of each room. A test compares the page with what this makes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reference" / "python.md"

ROOMS = (
    "huref",
    "huref.fingerprints",
    "huref.kinship",
    "huref.explanation",
    "huref.parentage",
    "huref.portraits",
    "huref.report",
    "huref.private",
    "huref.attacks",
    "huref.demo",
    "huref.model",
    "huref_lab.zoo",
)
"""Every room with a public face, the front door first."""

_HEAD = """# Python

Made from the packages by `python docs/generate_python_reference.py`; do not edit.

`huref` has the verbs of daily use. Each room has its own face: what is on this page is public, and what is not may
change. Importing a room loads neither torch nor numpy before one of its names asks for them. A model is a folder, a
weight file, or, where that says enough, a saved fingerprint; what can go wrong is a `huref.HurefError`
([errors](errors.md)).
"""


def page() -> str:
    """The whole reference."""
    return "\n".join([_HEAD, *(_room(name) for name in ROOMS)])


def _room(name: str) -> str:
    room = importlib.import_module(name)
    first = (inspect.getdoc(room) or "").partition("\n\n")[0].replace("\n", " ")
    entries = (_entry(item, getattr(room, item)) for item in _public(room))
    return "\n".join([f"## `{name}`", "", first, "", *entries])


def _public(room: Any) -> Iterator[str]:
    """The public names, without what has no documentation of its own: constants are shown with their values."""
    yield from (item for item in room.__all__ if not item.startswith("__"))


def _entry(name: str, thing: Any) -> str:
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return f"### `{name}`\n\n    {_constant(thing)}\n"
    text = inspect.getdoc(thing) or ""
    indented = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    return f"### `{name}{_signature(thing)}`\n\n{indented}\n"


def _signature(thing: Any) -> str:
    """Parameters with their defaults; annotations stay in the code, where they can be checked."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""
    if is_dataclass(thing):
        return f"({', '.join(field.name for field in fields(thing))})"
    shown = []
    for parameter in inspect.signature(thing).parameters.values():
        is_plain = parameter.default is inspect.Parameter.empty
        shown.append(parameter.name if is_plain else f"{parameter.name}={parameter.default!r}")
    return f"({', '.join(shown)})"


def _constant(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, dict | tuple) else repr(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
