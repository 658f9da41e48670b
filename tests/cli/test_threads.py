"""A command leaves busy processors alone, and does what it is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from huref.cli import threads
from huref.cli.threads import choose_threads, idle_processors


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        ("0.0 0.0 0.0 1/126 7", 4),
        ("9.0 9.0 9.0 1/126 7", 4),  # past load is no matter
        ("0.0 0.0 0.0 3/126 7", 2),
        ("0.0 0.0 0.0 9/126 7", 1),
        ("nonsense", 4),
        (None, 4),
    ],
)
def test_threads_are_as_many_as_idle_processors(
    load: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "_LOAD", tmp_path / "loadavg")
    if load is not None:
        (tmp_path / "loadavg").write_text(load)
    assert idle_processors() == expected


@pytest.mark.parametrize("name", threads._ASKED)
def test_a_user_decides_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in threads._ASKED:
        monkeypatch.delenv(asked, raising=False)
    monkeypatch.setattr(threads, "idle_processors", lambda: 3)
    monkeypatch.setenv(name, "7")
    choose_threads()
    assert {asked: os.environ.get(asked) for asked in threads._ASKED if asked in os.environ} == {name: "7"}
    monkeypatch.delenv(name)
    choose_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    for command, expected in (("fingerprint", "1"), ("compare", "3")):
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
        choose_threads(command)
        assert os.environ["OPENBLAS_NUM_THREADS"] == expected
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
