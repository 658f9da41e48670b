"""The whole product as it is installed without extras: neither torch nor what tokenises. All else is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from huref.extras import _EXTRAS
from kit.checkpoints import save_llama
from kit.tiny_encoders import save_small
from kit.tiny_generator import generator_file

_RUN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout

ABSENT = set(json.loads(sys.argv[2]))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

if ABSENT:
    import importlib.util
    sys.meta_path.insert(0, Absent())
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name in ABSENT else find(name, package)

from huref.cli.app import main

found = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["huref", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            found.append([int(ended.code or 0), out.getvalue(), err.getvalue()])
print(json.dumps({"found": found, "loaded": sorted(ABSENT & sys.modules.keys())}))
"""


_LIGHT = {library for library, extra in _EXTRAS.items() if extra != "proof"}


def huref(commands: list[list[object]], absent: set[str]) -> list[tuple[int, str, str]]:
    """Exit codes, stdout and stderr of commands in one fresh process, where these libraries are not installed."""
    told = json.dumps([[str(part) for part in command] for command in commands])
    child = subprocess.run(
        [sys.executable, "-c", _RUN, told, json.dumps(sorted(absent))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    result = json.loads(child.stdout.splitlines()[-1])
    assert result["loaded"] == []
    return [(code, out, err) for code, out, err in result["found"]]


def every_command(place: Path, inputs: dict[str, Path]) -> list[list[object]]:
    """What a user would do, each with its own output; `place` takes them."""
    a, b = inputs["base"], inputs["child"]
    encoder = ["--encoder", "cnn", "--encoder-weights", inputs["encoder"], "--n-tokens", 256]
    prints = [place / "base.huref.safetensors", place / "child.huref.safetensors"]
    return [
        ["fingerprint", a, b, "--out", place, "--json"],
        ["fingerprint", inputs["rounded"], "--recipe", "paper", "--out", place, "--json"],
        ["fingerprint", a, "--encoder", "mean", "--recipe", "paper", "--out", place / "mean", "--json"],
        ["fingerprint", inputs["wide"], *encoder, "--out", place / "cnn", "--json"],
        ["render", *prints, "--out", place / "sheet.png", "--json"],
        ["render", prints[0], "--generator", inputs["generator"], "--out", place / "other.png", "--json"],
        ["generator", "convert", inputs["generator"], place / "generator.safetensors", "--json"],
        ["compare", *prints, "--json"],
        ["compare", a, b, "--json"],
        ["compare", a, inputs["stranger"], "--report", place / "report.html", "--json"],
        ["matrix", a, b, inputs["stranger"], "--json"],
        ["parents", b, a, inputs["stranger"], "--json"],
        ["attack", "all", a, place / "attacked", "--json"],
        ["explain", a, place / "attacked", "--out", place / "x.evidence.safetensors", "--json"],
        ["explain", a, place / "attacked", "--check", place / "x.evidence.safetensors", "--json"],
        ["commit", a, "-o", place / "sealed", "--layers", "2", "--n-tokens", 256, "--jobs", 1, "--json"],
        ["prove", "fingerprint", "--commitment", place / "sealed", "-o", place / "x.proof", "--json"],
        ["verify", place / "x.proof", "--commitment", place / "sealed", "--json"],
    ]


@pytest.fixture(scope="module")
def inputs(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("inputs")
    made = {
        "encoder": save_small(place / "encoder.safetensors"),
        "generator": generator_file(place / "generator.safetensors"),
        "wide": save_llama(place / "wide", seed=1),
    }
    return {**models, **made}


def test_every_command_works_without_extras_and_says_the_same(inputs: dict[str, Path], tmp_path: Path) -> None:
    places = [tmp_path / "with", tmp_path / "without"]
    for place in places:
        place.mkdir()
    whole, light = (
        huref(every_command(place, inputs), absent) for place, absent in zip(places, (set(), _LIGHT), strict=True)
    )
    for command, one, other in zip(every_command(tmp_path, inputs), whole, light, strict=True):
        assert one[0] in (0, 3), (command, one)
        assert one[0] == other[0], (command, other)
        pairs = ((one, places[0]), (other, places[1]))
        documents = [json.loads(run[1].replace(str(place), "")) for run, place in pairs]
        assert _rounded(documents[0]) == _rounded(documents[1]), command
    for name in ("base.png", "sheet.png", "other.png", "base.huref.safetensors", "generator.safetensors"):
        assert (places[0] / name).read_bytes() == (places[1] / name).read_bytes(), name


def _rounded(value: Any) -> Any:
    """A document without what differs from run to run: times, random proofs, the last digits of scores."""
    if isinstance(value, dict):
        random = ("seconds", "sha256", "root", "commitment", "proof", "digest")
        return {key: _rounded(item) for key, item in value.items() if not any(part in key for part in random)}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("command", "library"),
    [
        (["tokens", "rank", "MODEL", "--corpus", "CORPUS", "--out", "OUT"], "tokenizers"),
        (["demo", "--out", "OUT"], "torch"),
        (["verify", "MODEL"], "py_arkworks_bls12381"),
    ],
)
def test_what_needs_an_extra_says_so_in_one_line_before_any_work(
    command: list[str], library: str, models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text("some text\n")
    places = {"MODEL": models["base"], "CORPUS": tmp_path / "corpus.txt", "OUT": tmp_path / "out"}
    arguments = [places.get(part, part) for part in command]
    [(code, out, err)] = huref([arguments], {library})
    extra = _EXTRAS[library]
    assert code == 2 and out == ""
    assert f"needs {library}, which is not installed: pip install 'huref[{extra}]'" in err.splitlines()[0]
    assert not (tmp_path / "out").exists()
