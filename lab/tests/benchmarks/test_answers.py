"""Captures of huref's answers: nothing that differs goes unseen, and every command is among the steps."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from kit.references import COMMANDS

ANSWERS = Path(__file__).parents[2] / "benchmarks" / "answers"
STEP = "fingerprint.some"


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


SAID: dict[str, bytes] = {
    "stdout": b'{"score": 0.25, "seconds": 1.5}',
    "stderr": b"done at 2026-11-29 12:00 UTC\n",
    "step.json": b'{"arguments": [], "exit_code": 0, "written": [], "removed": [], "random_bytes": 64}',
    "files/a.safetensors": save({"vector": np.arange(4, dtype=np.float32)}, {"recipe": "canonical"}),
    "files/a.png": png(7),
    "files/sealed/commitment": b"\x00\x01\x02",
}


def capture(folder: Path, tree: str, said: dict[str, bytes], models: str = "0" * 64) -> Path:
    """A capture of one step, as capture.py writes it."""
    for name, content in said.items():
        path = folder / STEP / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    told = {"tree": tree, "models": models, "outside_the_tree": {}, "runs": [{"name": STEP}]}
    (folder / "capture.json").write_text(json.dumps(told))
    return folder


def differences(before: Path, after: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ANSWERS / "differences.py"), str(before), str(after)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_seconds_dates_and_the_place_of_the_tree_are_no_answer(tmp_path: Path) -> None:
    one = SAID | {"stderr": b"/old/src: done at 2026-11-29 12:00 UTC\n"}
    two = SAID | {"stderr": b"/new/src: done at 2027-01-02 03:04 UTC\n", "stdout": b'{"score": 0.25, "seconds": 9}'}
    found = differences(capture(tmp_path / "a", "/old", one), capture(tmp_path / "b", "/new", two))
    assert (found.returncode, found.stderr) == (0, "")
    assert "1 steps, 6 things compared, 0 differ." in found.stdout


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("stdout", b'{"score": 0.5, "seconds": 1.5}', "`.score`: 0.25 -> 0.5"),
        ("stderr", b"failed at 2026-11-29 12:00 UTC\n", "other words"),
        ("step.json", SAID["step.json"].replace(b"0,", b"3,"), "exit_code: 0 -> 3"),
        ("step.json", SAID["step.json"].replace(b"64", b"32"), "random_bytes: 64 -> 32"),
        ("files/a.safetensors", save({"vector": np.arange(1, 5, dtype=np.float32)}), "`vector`: by at most 1"),
        ("files/a.png", png(9), "2 of 255"),
        ("files/sealed/commitment", b"\x00\x01\x03", "from byte 2 on"),
        ("files/more.txt", b"", "only after: more.txt"),
    ],
)
def test_what_differs_is_told(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    a, b = capture(tmp_path / "a", "/a", SAID), capture(tmp_path / "b", "/b", SAID | {name: content})
    found = differences(a, b)
    assert found.returncode == 1
    assert said in found.stdout
    assert "1 differ." in found.stdout


def test_captures_of_other_models_are_not_compared(tmp_path: Path) -> None:
    a, b = capture(tmp_path / "a", "/a", SAID), capture(tmp_path / "b", "/b", SAID, models="1" * 64)
    found = differences(a, b)
    assert found.returncode == 1
    assert "different models" in found.stderr


def test_every_command_is_among_the_steps() -> None:
    script = "import json, steps; print(json.dumps([step.arguments for step in steps.all_steps()]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ANSWERS, capture_output=True, text=True, check=True)
    asked = {" ".join(["huref", *step[:-1]]) for step in json.loads(done.stdout) if step[-1:] == ["--help"]}
    assert set(COMMANDS) <= asked
