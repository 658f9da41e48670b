"""The page on Python: its programs run, in its order and word for word, on tiny models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"


def test_the_programs_run(
    tmp_path: Path,
    models: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dogs: None,
) -> None:
    for name, model in {"my-model": "base", "other": "child", "stranger": "stranger"}.items():
        (tmp_path / name).symlink_to(models[model])
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    names: dict[str, object] = {}
    for number, program in enumerate(programs):
        exec(compile(program, f"program {number} of {PAGE.name}", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert len(programs) >= 9 and printed[0].startswith("derived ") and printed[-1] == "n_tokens (--n-tokens)"
    assert repr(names["quick"]) == repr(names["same"])
    for file in (
        "a.huref.safetensors",
        "table.csv",
        "both.png",
        "badge.svg",
        "hidden",
        "report.html",
        "my-model.proof",
    ):
        assert (tmp_path / file).exists(), file
