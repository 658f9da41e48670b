"""Write `docs/reference/python.md` from the packages themselves: `python docs/generate_python_reference.py`.

The page lists what is public: the names of `huref` and of each room. A test compares the page with what this makes.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
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

INTERNAL = ("huref.cli", "huref.files", "huref.forward", "huref.numerics", "huref.proof")
"""Rooms that other rooms use: what is in them may change."""

_HEAD = """# Python

Made from the packages by `python docs/generate_python_reference.py`; do not edit.

`huref` has the verbs, their options and their results ([how to use them](../how-to/python.md)). Each room has its own
face: what is on this page is public, and what is not may change. Importing a room loads neither torch nor numpy
before one of its names asks for them. A model is a folder, a weight file, or, where that says enough, a fingerprint,
saved or in memory; what can go wrong is a `huref.HurefError` ([errors](errors.md)). What is for other rooms alone has
no face: {internal}.
"""


def page() -> str:
    """The whole reference."""
    head = _HEAD.format(internal=", ".join(f"`{room}`" for room in INTERNAL))
    return "\n".join([head, _front_door(), *(_room(name) for name in ROOMS[1:])])


def _front_door() -> str:
    """Each name in a line; the rooms that they live in say the rest, and here is what lives in none."""
    rooms = {name: room for room in reversed(ROOMS[1:]) for name in importlib.import_module(room).__all__}
    door = importlib.import_module(ROOMS[0])
    lines = [f"## `{ROOMS[0]}`", "", _first(door), "", "| name | in one line | more |", "|---|---|---|"]
    for name in door.__all__:
        home = f"[`{rooms[name]}`](#{rooms[name].replace('.', '')})" if name in rooms else ""
        text = "The version." if name == "__version__" else _first(getattr(door, name))
        lines.append(f"| `{name}` | {text} | {home or '[errors](errors.md)' * (name == 'HurefError')} |")
    alone = [name for name in door.__all__ if name not in (*rooms, "HurefError", "__version__")]
    return "\n".join([*lines, "", *(_entry(name, getattr(door, name)) for name in alone)])


def _room(name: str) -> str:
    room = importlib.import_module(name)
    entries = (_entry(item, getattr(room, item)) for item in room.__all__)
    return "\n".join([f"## `{name}`", "", _first(room), "", *entries])


def _first(thing: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


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
        return f"({', '.join(map(_field, fields(thing)))})"
    shown = []
    for parameter in inspect.signature(thing).parameters.values():
        is_plain = parameter.default is inspect.Parameter.empty
        shown.append(parameter.name if is_plain else f"{parameter.name}={parameter.default!r}")
    return f"({', '.join(shown)})"


def _field(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return field.name
    is_plain = isinstance(field.default, str | int | float | tuple | None)
    return f"{field.name}={field.default!r}" if is_plain else f"{field.name}=..."


def _constant(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, dict | tuple) else repr(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
