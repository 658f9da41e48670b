"""Laws of every command there is: no traceback whatever is closed, full or nonsense; help that helps.

A new command fails here until it is in `every_command`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from PIL import Image

from huref.cli import options
from huref.cli.app import app
from huref.fingerprints.recipe import ENCODERS, RECIPES
from huref.kinship.all_pairs import SCORES
from huref.kinship.record import ICS_OF, METHODS, VERDICTS
from huref.portraits.drawing import FORMATS, LAYOUTS
from huref.portraits.generator.conversion import DTYPES
from huref.proof.inference.precision import PRECISIONS
from huref.report.tables import STYLES
from huref_lab.commands import generator as generator_commands
from huref_lab.commands import lab as lab_commands
from huref_lab.commands import train as train_commands
from kit.command_line import Outcome
from kit.references import COMMANDS, reference
from kit.tiny_encoders import save_small
from kit.tiny_generator import generator_file

Cli = Callable[..., Outcome]


def every_command(place: Path, models: dict[str, Path]) -> dict[str, list[Any]]:
    """A command line of each command that does real work where that is quick; `place` is its own.

    What would take minutes is told to write below a file, which it refuses first.
    """
    a, b, made = models["base"], models["child"], models["made"]
    out, below_a_file = place / "out", made / "corpus.txt" / "out"
    return {
        "huref fingerprint": [a, "--out", out],
        "huref compare": [a, b, "--report", place / "report.html"],
        "huref matrix": [a, b, "--heat-map", place / "map.png"],
        "huref diff": [a, b, "--picture", place / "diff.svg"],
        "huref cache": [],
        "huref parents": [b, a],
        "huref explain": [a, b, "--out", place / "x.evidence.safetensors", "--write-undone", place / "undone"],
        "huref render": [made / "base.huref.safetensors", "--out", place / "x.png"],
        "huref demo": ["--out", below_a_file],
        "huref attack": ["permute_neurons", a, out],
        "huref doctor": [a, "--check"],
        "huref commit": [a, "--out", out, "--layers", "2", "--n-tokens", 256, "--jobs", 1],
        "huref publish": [place / "shown", "--model", a],
        "huref verify": [made / "x.proof", "--commitment", made / "sealed"],
        "huref prove fingerprint": ["--commitment", made / "sealed", "--out", place / "x.proof"],
        "huref prove compare": [
            *("--commitment", made / "sealed"),
            *("--peer", made / "sealed"),
            "--out",
            place / "y",
        ],
        "huref prove inference": [a, "--commitment", made / "sealed", "--out", place / "x.proof", "--ids", "1,2"],
        "huref prove rows": ["--commitment", made / "sealed", "--out", place / "x.rows", "--nonce", "c0ffee" * 6],
        "huref tokens rank": [a, "--corpus", made / "corpus.txt", "--out", place / "ranking.txt"],
        "huref encoder convert": [made / "encoder.safetensors", place / "encoder.safetensors"],
        "huref encoder calibrate": [
            *(made / "encoder.safetensors", place / "encoder.safetensors"),
            *("--side", 16, "--samples", 2),
        ],
        "huref encoder evaluate": [made / "encoder.safetensors", "--side", 16, "--triplets", 1],
        "huref generator convert": [made / "generator.safetensors", place / "generator.safetensors"],
        "huref generator evaluate": [
            *(made / "generator.safetensors", "--data", made / "pictures", "--held-out", made / "pictures"),
            *("--out", below_a_file),
        ],
        "huref lab study": ["--out", place / "study.html", "--questions", 1],
        "huref lab zoo": ["--out", below_a_file, "--size", "small", "--jobs", 1],
        "huref lab study-score": [made / "corpus.txt"],
        "huref lab bench": ["--zoo", made, "--out", place / "bench.txt"],
        "huref lab calibrate": ["--zoo", made, "--out", place / "calibration.json"],
        "huref train encoder": [
            *("--out", below_a_file, "--side", 256, "--width", 256, "--batch", 2, "--steps", 1),
            *("--minutes", 0.0001),
        ],
        "huref train generator": [
            *("--data", made / "pictures", "--out", out, "--critic", "pixel", "--resolution", 16),
            *("--batch", 4, "--images", 4, "--minutes", 0.0001),
        ],
    }


WRITERS = {
    "huref fingerprint",
    "huref compare",
    "huref matrix",
    "huref explain",
    "huref render",
    "huref attack",
    "huref commit",
    "huref prove fingerprint",
    "huref prove rows",
    "huref tokens rank",
    "huref encoder calibrate",
    "huref generator convert",
    "huref lab study",
}
"""What gets as far as writing a file here; the others are given something that they refuse before."""

_RUN = """
import json, os, resource, sys
commands, fault = json.loads(sys.argv[1]), sys.argv[2]

import numpy, scipy.linalg, PIL.Image
import huref.cli.app
from huref.cli.entry import main

def close(number, name):
    os.close(number)
    setattr(sys, name, None)

def run(arguments, out, err):
    os.dup2(out, 1)
    os.dup2(err, 2)
    if fault == "full stdout":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if fault == "closed":
        close(0, "stdin"), close(1, "stdout")
    if fault == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.argv = ["huref", *arguments]
    main()

found = {}
for name, arguments in commands.items():
    ends = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(arguments, ends[0][1], ends[1][1])
        finally:
            for reader, _ in ends:
                os.close(reader)
    else:
        for _, writer in ends:
            os.close(writer)
        texts = [os.fdopen(reader).read() for reader, _ in ends]
        found[name] = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *texts]
        continue
    break
else:
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def inputs(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models, and a folder of all else that commands read."""
    made = tmp_path_factory.mktemp("made")
    (made / "corpus.txt").write_text("bal ber bit\n")
    save_small(made / "encoder.safetensors")
    generator_file(made / "generator.safetensors")
    (made / "pictures").mkdir()
    for k in range(16):
        Image.new("RGB", (16, 16), (15 * k, 90, 200)).save(made / "pictures" / f"{k}.png")
    setup = {
        "a": ["fingerprint", models["base"], "--out", made],
        "b": ["commit", models["base"], "--out", made / "sealed", "--layers", "2", "--n-tokens", 256, "--jobs", 1],
        "c": ["prove", "fingerprint", "--commitment", made / "sealed", "--out", made / "x.proof"],
    }
    for name, (code, _, err) in _runs(setup, "none").items():
        assert code == 0, (name, err)
    return {**models, "made": made}


def _runs(commands: dict[str, list[Any]], fault: str) -> dict[str, tuple[int, str, str]]:
    """Exit codes, stdout and stderr of commands, each in a process of its own with this fault."""
    told = json.dumps({name: [str(part) for part in parts] for name, parts in commands.items()})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, told, fault], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: (code, out, err) for name, (code, out, err) in json.loads(done.stdout).items()}


def _words(name: str, arguments: list[Any]) -> list[Any]:
    return [*name.split()[1:], *arguments]


@pytest.mark.training
@pytest.mark.parametrize("fault", ["closed", "full stdout", "full disk"])
def test_no_command_ends_in_a_traceback(fault: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    commands = every_command(tmp_path, inputs)
    assert commands.keys() == COMMANDS.keys()
    places = {name: tmp_path / str(k) for k, name in enumerate(commands)}
    for place in places.values():
        place.mkdir()
    lines = {name: _words(name, every_command(place, inputs)[name]) for name, place in places.items()}
    for name, (code, out, err) in _runs(lines, fault).items():
        assert "Traceback" not in err and "Exception ignored" not in err, f"{name}: {err}"
        assert code in range(7), f"{name}: {code} {err}"
        assert code in (0, 3) or err.startswith("huref: "), f"{name}: {code} {err}"
        if fault == "full disk":
            left = [path for path in places[name].rglob("*") if path.is_file() and path.stat().st_size]
            assert left == [], name
            assert name not in WRITERS or (code == 2 and "large" in err), f"{name}: {code} {err}"
        if fault == "full disk" and name in ("huref compare", "huref matrix", "huref explain"):
            assert out, f"{name}: the result was lost with the file"


@pytest.mark.parametrize(
    ("closing", "command", "code"),
    [
        (">&-", "compare BASE CHILD", 0),
        ("<&-", "commit BASE --out sealed --encrypt", 2),
        (">&- 2>&-", "compare BASE CHILD", 0),
        ("2>&-", "compare BASE nowhere", 4),
        (">/dev/full", "compare BASE CHILD", 2),
        (">/dev/full", "compare BASE CHILD --json", 2),
        (">/dev/full", "--help", 2),
        (">/dev/full", "--version", 2),
        ("2>/dev/full", "compare BASE nowhere", 4),
        (">/dev/full 2>/dev/full", "compare BASE nowhere --json", 4),
    ],
)
def test_streams_that_a_shell_closes_or_fills(
    closing: str, command: str, code: int, models: dict[str, Path], tmp_path: Path
) -> None:
    line = f"{sys.executable} -m huref {command} {closing}"
    line = line.replace("BASE", str(models["base"])).replace("CHILD", str(models["child"]))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert code == 0 or done.stderr.startswith("huref: ") or "2>" in closing


# Numbers, choices, wrong options


def _numbers() -> Iterator[tuple[str, str, str]]:
    for name, callback in COMMANDS.items():
        for kind, written, _, _ in reference.parameters(callback):
            flag, _, value = written.partition(" ")
            if kind == "option" and value.split(" ")[0] in ("INTEGER", "NUMBER"):
                yield name, flag, value.split(" ")[0]


@pytest.mark.parametrize(("name", "flag", "kind"), list(_numbers()))
def test_nonsense_numbers_are_refused_by_name(name: str, flag: str, kind: str, cli: Cli, tmp_path: Path) -> None:
    values = ["-9", "many", "1e400", *(["nan", "inf", "-inf"] if kind == "NUMBER" else ["1.5"])]
    for value in values:
        done = cli(*name.split()[1:], flag, value)
        assert (done.code, done.out) == (2, ""), (value, done)
        assert flag in done.err.splitlines()[0], (value, done.err)


CHOICES = {
    options.RecipeName: RECIPES,
    options.EncoderName: ENCODERS,
    options.Method: METHODS,
    options.IcsRecipe: tuple(ICS_OF),
    options.Score: SCORES,
    options.Verdict: VERDICTS,
    options.TableStyle: STYLES,
    options.Layout: LAYOUTS,
    options.PictureFormat: FORMATS,
    options.GeneratorType: DTYPES,
    options.Precision: tuple(PRECISIONS),
}


def test_choices_are_those_of_the_rooms() -> None:
    from huref.attacks.execution import TOLERANCES
    from huref_lab.encoder.training import NEGATIVES
    from huref_lab.generator.training import CRITICS
    from huref_lab.pictures.embedding import EXTRACTORS

    in_the_laboratory = {
        options.StoredType: TOLERANCES,
        train_commands.Negatives: NEGATIVES,
        train_commands.Critic: CRITICS,
        generator_commands.Extractor: EXTRACTORS,
        lab_commands.Size: ("full", "small"),
    }
    for literal, known in {**CHOICES, **in_the_laboratory}.items():
        assert sorted(get_args(literal)) == sorted(known)


def test_a_choice_and_an_attack_are_completed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from huref.cli.attack import _completed

    assert "rotate_residual+permute_neurons" in _completed("rotate_residual+perm") and "all" in _completed("")
    command = _command("huref compare")
    (method,) = [item for item in command.params if item.name == "method"]
    found = method.shell_complete(command.make_context("compare", [], resilient_parsing=True), "a")
    assert {"all", "aligned", "agreement"} <= {item.value for item in found}


def test_wrong_options_are_found_before_anything_heavy_is_loaded() -> None:
    lines = [_words(name, ["--no-such-option"]) for name in COMMANDS]
    lines += [
        ["fingerprint", "nope"],
        ["render", "--psi", "9", "x"],
        ["train", "encoder", "--side", "100", "--out", "x"],
        ["compare", "a", "b", "--method", "best"],
        ["compare", "a", "b", "--report", "/nonexist/x.html"],
        ["explain", "a", "b", "--csv", "--json"],
        ["matrix", "a", "b", "--heat-map", "x.jpg"],
    ]
    run = "\n".join(
        [
            "import sys",
            "from huref.cli.app import main",
            f"for line in {lines!r}:",
            "    sys.argv = ['huref', *line]",
            "    try:",
            "        main()",
            "    except SystemExit as ended:",
            "        assert ended.code in (2, 4), line",
            "print(*{'torch', 'numpy', 'scipy', 'PIL', 'rich'} & set(sys.modules))",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""


# Interrupts


_INTERRUPTED = """
import sys
from huref.cli import entry
sys.argv = ["huref", *sys.argv[1:]]
print("begun", flush=True)
entry.main()
"""


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3])
def test_an_interrupt_in_the_first_moments_is_one_line(seconds: float, models: dict[str, Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _INTERRUPTED, "attack", "all", str(models["base"]), "out"]
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment, cwd=models["base"].parent)
    assert child.stdout is not None and child.stdout.readline() == b"begun\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate()
    assert (child.returncode, err) == (130, b"huref: interrupted\n")
    assert not (models["base"].parent / "out").exists()


# Help


def _command(name: str) -> Any:
    found: Any = typer.main.get_command(app)
    for word in name.split()[1:]:
        found = found.commands[word]
    return found


GROUPS = ("huref", "huref prove", "huref tokens", "huref encoder", "huref generator", "huref lab", "huref train")


@pytest.mark.parametrize("name", [*GROUPS, *COMMANDS])
def test_every_help_has_an_example_that_parses(name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli(*name.split()[1:], "--help").out
    (example,) = [line.strip().removeprefix("Example: ") for line in shown.splitlines() if "Example: " in line]
    words = shlex.split(example)
    known = max((known for known in COMMANDS if example.startswith(f"{known} ")), key=len)
    assert known.startswith(name)
    context = _command(known).make_context(known, words[len(known.split()) :])
    assert context.params


@pytest.mark.parametrize("name", GROUPS)
def test_first_lines_of_help_fit(name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli(*name.split()[1:], "--help").out.splitlines()
    listed = [line for line in shown if line.split(" ")[2:3] and line.split()[0] in _command(name).commands]
    assert len(listed) >= len(_command(name).commands)
    assert all(line.endswith(".") and "..." not in line and len(line) <= 80 for line in listed)


def test_commands_are_listed_by_job(cli: Cli) -> None:
    shown = cli("--help").out
    places = [shown.index(f"\n{job}:\n") for job in ("Compare", "Publish and prove", "Portraits", "Research")]
    assert places == sorted(places)
    assert places[0] < shown.index("\n  matrix ") < places[1] < shown.index("\n  verify ") < places[2]
    assert places[2] < shown.index("\n  render ") < places[3] < shown.index("\n  lab ")
