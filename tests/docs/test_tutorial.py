"""The tutorial's commands run, in its order and word for word, on a tiny Llama; what it shows of them is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-comparison.md"
STEP = re.compile(r"^    (huref [^\n]*)$(?:\n\n```text\n(.*?)^```)?", re.M | re.S)


def steps() -> list[tuple[list[str], list[str]]]:
    """Every command, and the lines that the page shows of its output, if it shows any."""
    text = PAGE.read_text(encoding="utf-8").replace("smollm2.gguf", "smollm2")
    return [(shlex.split(command)[1:], shown.splitlines()) for command, shown in STEP.findall(text)]


def shape(line: str) -> str:
    """A line without its figures, which belong to the model, and without what follows its first word or two."""
    return re.split(r"[\d:;(]|  \S", line.strip())[0].strip()


def test_the_commands_run_and_print_what_is_shown(
    tmp_path: Path, models: dict[str, Path], cli: Callable[..., Any], dogs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2").symlink_to(models["base"])
    monkeypatch.chdir(tmp_path)
    ran = set()
    for words, shown in steps():
        outcome = cli(*words)
        is_open = any("verdict: inconclusive" in line for line in shown)
        assert outcome.code == (3 if is_open else 0), (words, outcome.err)
        printed = {shape(line) for line in outcome.out.splitlines()}
        assert [line for line in shown if line.strip() != "..." and shape(line) not in printed] == [], words
        verdicts = [line.split("(")[0].strip() for line in shown if "verdict:" in line]
        assert all(verdict in outcome.out for verdict in verdicts)
        ran.add(words[0])
    assert ran >= {"fingerprint", "attack", "render", "compare", "explain"}
    assert (tmp_path / "side-by-side.png").is_file()
