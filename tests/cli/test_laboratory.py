"""The laboratory's commands: joined by entry points where it is installed, a line on how to install it where not."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
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
    needs = importlib.metadata.requires("huref-lab") or []
    assert f"huref[tokens,torch]=={huref.__version__}" in needs


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
    assert fault.what.endswith("huref-lab; in a checkout of huref: pip install ./lab") and "\n" not in fault.what
    assert fault.where in (f"huref {words[0]}", f"huref {' '.join(words[:2])}") and fault.got == "it is not installed"


def test_the_help_says_which_commands_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = program(monkeypatch, {})
    lines = [line for line in run("--help").output.splitlines() if "huref-lab" in line]
    assert [line.split()[0] for line in lines] == ["lab", "train"]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (None, "does not load: ModuleNotFoundError"),
        ("raise RuntimeError('boom')", "does not load: RuntimeError: boom"),
        ("this is no Python", "does not load: SyntaxError"),
        ("app = 5", "broken_laboratory:app is no command"),
        ("other = 5", "does not load: AttributeError"),
    ],
)
def test_a_laboratory_that_does_not_load_takes_nothing_down(
    content: str | None, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "broken_laboratory.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_laboratory", raising=False)
    _, run = program(monkeypatch, {"lab": EntryPoint("lab", "broken_laboratory:app", laboratory.GROUP)})
    assert run("compare").exit_code == 0
    fault = run("lab", "zoo").exception
    assert isinstance(fault, UsageError) and got in fault.got
    assert "pip install --force-reinstall --no-deps . ./lab" in fault.what


class _Distribution:
    """An installation as importlib.metadata shows it."""

    def __init__(self, version: str, points: object) -> None:
        self.version, self._points = version, points

    @property
    def entry_points(self) -> object:
        if isinstance(self._points, Exception):
            raise self._points
        return [point._for(self) for point in self._points]


def test_a_laboratory_of_another_version_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    other = _Distribution("9.9.9", [EntryPoint("lab", "huref_lab.commands.lab:app", laboratory.GROUP)])
    monkeypatch.setattr(laboratory, "distribution", lambda _: other)
    _, run = program(monkeypatch, laboratory.entry_points())
    fault = run("lab", "zoo").exception
    assert (
        isinstance(fault, UsageError) and fault.got == f"version 9.9.9 is installed, and huref is {huref.__version__}"
    )


def test_an_installation_that_cannot_be_read_takes_nothing_down(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _Distribution("0.1.0", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    monkeypatch.setattr(laboratory, "distribution", lambda _: broken)
    _, run = program(monkeypatch, laboratory.entry_points())
    assert run("compare").exit_code == 0
    fault = run("train").exception
    assert isinstance(fault, UsageError) and "cannot be read" in fault.got and "0xff" in fault.got
