"""Commands of the laboratory, a distribution of its own: huref-lab names them as entry points of `huref.commands`.

An entry point's name is where its command goes: `lab` beside the others, `encoder.evaluate` into a group. Only this
one distribution is asked: looking through all that is installed would double the time of `huref --help`, and no
other package should add commands unseen. Without it, each name says in one line how to install it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from types import FunctionType
from typing import Any

import typer

from huref.errors import UsageError
from huref.version import __version__

PANEL = "Research"
"""Under which its commands stand in `huref --help`."""

DISTRIBUTION = "huref-lab"
GROUP = "huref.commands"

COMMANDS = {
    "lab": "Models of known kinship, bench, studies.",
    "train": "Train the networks that huref ships.",
    "encoder.calibrate": "Measure the batch statistics of an encoder afresh.",
    "encoder.evaluate": "Measure an encoder.",
    "generator.evaluate": "Measure a generator against photographs.",
}

_TAKES_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def add_commands(app: typer.Typer, groups: Mapping[str, typer.Typer]) -> None:
    """Add the laboratory's commands, or in their place what says how to get them.

    Args:
        groups: the product's own groups by name, for commands such as `encoder.evaluate`.
    """
    installed = entry_points()
    for place, summary in COMMANDS.items():
        group, _, name = place.rpartition(".")
        home = groups[group] if group else app
        command = _load(installed.get(place), f"huref {place.replace('.', ' ')}")
        if isinstance(command, typer.Typer):
            home.add_typer(command, name=name, rich_help_panel=PANEL)
        elif command.__name__ == _STAND_IN:
            need = f"{summary.removesuffix('.')} (needs {DISTRIBUTION})."
            panel = None if group else PANEL
            home.command(name, help=need, context_settings=_TAKES_ANYTHING, rich_help_panel=panel)(command)
        else:
            home.command(name)(command)


def entry_points() -> dict[str, EntryPoint]:
    """The laboratory's entry points by name; none where it is not installed."""
    try:
        return {point.name: point for point in distribution(DISTRIBUTION).entry_points if point.group == GROUP}
    except PackageNotFoundError:
        return {}
    except Exception as error:  # whatever is wrong with that installation, the product goes on without it
        return {place: EntryPoint(place, str(error) or type(error).__name__, "broken") for place in COMMANDS}


def _load(point: EntryPoint | None, command: str) -> typer.Typer | Callable[..., Any]:
    if point is None:
        return _stand_in(command, "it is not installed", "pip install ./lab")
    again = "pip install --force-reinstall --no-deps . ./lab"
    if point.group != GROUP:
        return _stand_in(command, f"its installation cannot be read: {point.value}", again)
    if point.dist is not None and point.dist.version != __version__:
        return _stand_in(command, f"version {point.dist.version} is installed, and huref is {__version__}", again)
    try:
        found = point.load()
    except Exception as error:  # the same: a laboratory that does not load takes nothing down
        return _stand_in(command, f"it is installed and does not load: {type(error).__name__}: {error}", again)
    if isinstance(found, typer.Typer | FunctionType):
        return found
    return _stand_in(command, f"it is installed, and {point.value} is no command", again)


def _stand_in(command: str, got: str, cure: str) -> Callable[..., Any]:
    def missing_laboratory() -> None:
        raise UsageError(
            f"this command is in the laboratory, {DISTRIBUTION}; in a checkout of huref: {cure}",
            where=command,
            got=got,
            next_step="or make install, for an environment of its own",
        )

    return missing_laboratory


_STAND_IN = "missing_laboratory"
