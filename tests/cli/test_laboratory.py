"""The laboratory's commands: joined by entry points where it is installed, a line on how to install it where not."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import huref
from huref.cli import laboratory
from huref.errors import UsageError


def program(monkeypatch: pytest.MonkeyPatch, points: dict[str, EntryPoint]) -> tuple[typer.Typer, Any]:
    """A command line with these entry points, and a way to run it."""
    app = typer.Typer(rich_markup_mode=None)
    groups = {name: typer.Typer() for name in ("encoder", "generator")}
    app.command("compare")(lambda: None)
    monkeypatch.setattr(laboratory, "entry_points", lambda: points)
    laboratory.add_commands(app, groups)
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app, lambda *words: CliRunner().invoke(app, list(words), catch_exceptions=True)


def test_the_distribution_names_every_command_and_no_other() -> None:
    assert laboratory.entry_points().keys() == laboratory.COMMANDS.keys()
    for point in laboratory.entry_points().values():
        assert point.value.startswith("huref_lab.commands.")
        assert callable(point.load())


def test_both_distributions_are_of_one_version() -> None:
    """The laboratory reaches into the product's rooms, so it takes that very version."""
    assert importlib.metadata.version("huref") == importlib.metadata.version("huref-lab") == huref.__version__
    assert f"huref=={huref.__version__}" in (importlib.metadata.requires("huref-lab") or [])


def test_without_the_distribution_there_are_no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(laboratory, "distribution", missing)
    assert laboratory.entry_points() == {}


@pytest.mark.parametrize(
    "words",
    [
        ("lab",),
        ("lab", "--help"),
        ("lab", "bench", "--zoo", "zoo", "--json"),
        ("train", "generator", "--data", "x"),
        ("encoder", "evaluate", "weights.safetensors"),
        ("generator", "evaluate", "w", "--data", "d"),
    ],
)
def test_a_command_that_is_not_there_says_how_to_get_it(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = program(monkeypatch, {})
    fault = run(*words).exception
    assert isinstance(fault, UsageError) and fault.exit_code == 2
    assert fault.what.endswith("pip install huref-lab") and "\n" not in fault.what
    assert fault.where in (f"huref {words[0]}", f"huref {' '.join(words[:2])}") and fault.got == "it is not installed"


def test_the_help_says_which_commands_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = program(monkeypatch, {})
    lines = [line for line in run("--help").output.splitlines() if "huref-lab" in line]
    assert [line.split()[0] for line in lines] == ["lab", "train"]


def test_a_laboratory_that_does_not_load_takes_nothing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("lab", "huref_lab.no_such_module:app", laboratory.GROUP)
    _, run = program(monkeypatch, {"lab": broken})
    assert run("compare").exit_code == 0
    fault = run("lab", "zoo").exception
    assert isinstance(fault, UsageError) and "does not load" in fault.got and "no_such_module" in fault.got
