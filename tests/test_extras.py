"""What is missing is said in the first line, with the command that installs it."""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from pathlib import Path

import pytest

from huref import extras
from huref.errors import UsageError
from huref.extras import require
from kit.hostile_files import assert_complete


def test_what_is_there_is_no_trouble() -> None:
    there = [library for library in extras._EXTRAS if importlib.util.find_spec(library)]
    assert set(extras._EXTRAS) - set(there) <= {"pandas"}, "the tests install every extra but this one"
    for library in there:
        require(library, "huref test")


@pytest.mark.parametrize("library", extras._EXTRAS)
def test_what_is_missing_is_named_with_the_command(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        require(library, "huref test")
    extra = extras._EXTRAS[library]
    first = f"huref test needs {library}, which is not installed: pip install 'huref[{extra}]'"
    assert str(caught.value).splitlines()[0] == first and caught.value.exit_code == 2
    assert_complete(caught.value)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    library = library.replace("_", "-")
    assert any(need.startswith(library) for need in project["optional-dependencies"][extra])
    assert not any(need.startswith(library) for need in project["dependencies"])


def test_what_is_broken_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("libcudart.so.13: cannot open\nmore")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UsageError, match="cannot be imported") as caught:
        require("torch", "huref demo")
    assert caught.value.got == "OSError: libcudart.so.13: cannot open"
    assert_complete(caught.value)


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert "a folder of that name" in extras.trouble("hollow")
