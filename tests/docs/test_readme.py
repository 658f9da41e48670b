"""The README's commands and its program run, word for word, in a folder that has what they name."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from huref import api
from huref.proof.sketch.committer import CommitOptions
from kit.gguf_export import write_gguf
from kit.hub_server import Hub
from kit.hubs import hub

__all__ = ["hub"]

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def workplace(tmp_path: Path, models: dict[str, Path], hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./my-model, ./other-model, ./a, ./b, ./c, ./merge, ./theirs, models on a hub, a corpus of most tokens."""
    hub.add("org/suspect", models["child"])
    hub.add("meta-llama/Llama-2-7b-hf", models["base"])
    config = json.loads((models["base"] / "config.json").read_text())
    write_gguf(tmp_path / "my-model-Q4_K_M.gguf", load_file(models["base"] / "model.safetensors"), config)
    names = {"my-model": "base", "other-model": "child", "a": "base", "b": "copy", "c": "stranger", "merge": "child"}
    for name, model in names.items():
        (tmp_path / name).symlink_to(models[model])
    words = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in "lmnrst"]
    letters = [chr(code) for code in (*range(33, 127), *range(0xC0, 0x180), *range(0x400, 0x460))]
    (tmp_path / "wiki.txt").write_text("\n".join([" ".join(words), *letters, *words]), encoding="utf-8")
    api.commit(models["stranger"], tmp_path / "elsewhere", options=CommitOptions(jobs=1))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "elsewhere" / "commitment").rename(tmp_path / "theirs" / "commitment")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[list[str]]:
    """The lines under "Use" that begin with huref, without their comments."""
    section = README.read_text(encoding="utf-8").split("## Use\n")[1].split("\n## ")[0]
    return [shlex.split(line, comments=True) for line in re.findall(r"^    (huref .*)$", section, re.M)]


def test_the_commands_run(workplace: Path, cli: Callable[..., Any], dogs: None) -> None:
    ran = 0
    for words in commands():
        if words[1] == "train":  # minutes of work: lab/tests/generator/test_training.py trains a small one
            continue
        globbed = [sorted(Path().glob(word)) if "*" in word else [word] for word in words[1:]]
        outcome = cli(*itertools.chain.from_iterable(globbed))
        assert outcome.code in (0, 3), (words, outcome.err)
        ran += 1
    assert ran >= 6
    assert all((workplace / name).is_file() for name in ("my-model.huref.safetensors", "my-model.png", "sheet.png"))


def test_the_program_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    exec(compile(program, "README.md", "exec"), {})
    verdict, agreement, p_value, ics = capsys.readouterr().out.split()
    assert verdict == "derived" and min(float(agreement), float(ics)) > 0.9 and float(p_value) <= 0.01


def test_the_demo_output_is_one_that_huref_prints() -> None:
    """The table in the README has the demo's columns and models; its figures are from one real run."""
    from huref.demo.result import LEGEND

    (block,) = re.findall(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    for word in ("rearranged", "fine-tuned", "stranger", "paper", "portrait", "verdict", *LEGEND[:2]):
        assert word in block
