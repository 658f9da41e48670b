"""While a command works: what is told to a terminal, to a log, to a program; and what is never told twice."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huref.cli import estimates, waiting
from huref.cli.estimates import expected_seconds, weight_bytes
from huref.cli.waiting import PLANS, Waiting, duration
from huref.progress import Progress
from kit.command_line import Outcome

Cli = Callable[..., Outcome]

PLAN = (("reading", 1.0), ("reading", 1.0), ("scoring", 6.0), ("pairing", 2.0))


def steps() -> st.SearchStrategy[list[Progress]]:
    """Any stages in any order, also taking turns, also unknown ones."""
    names = st.sampled_from(["reading a", "reading b", "scoring", "pairing by tokens", "pairing by rows", "else"])
    return st.lists(st.builds(Progress, names, st.integers(0, 5), st.integers(0, 5), st.just("layer")))


@given(steps(), st.sampled_from([(), PLAN]))
def test_the_share_never_falls_and_ends_at_one(told: list[Progress], plan: waiting.Plan) -> None:
    shares: list[float | None] = []
    seen: list[Progress] = []

    def show(work: Waiting) -> None:
        seen.append(work.step)
        shares.append(work.share)

    work = Waiting(plan, show)
    for step in told:
        work(step)
    work.finish()
    last = {step.stage: step for step in seen if step.stage}
    assert all(step.done >= step.total for step in last.values()), "a stage that did not end"
    if plan:
        assert shares == sorted(shares) and shares[-1] == 1.0
        assert all(0 <= share <= 1 for share in shares)


def test_a_plan_weighs_the_stages_and_tells_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = Waiting(PLAN, lambda _: None)
    now[0] += 1
    for name in ("reading a", "reading b"):
        work(Progress(name, 0, 4, "layer"))
        work(Progress(name, 4, 4, "layer"))
    assert work.share == pytest.approx(0.2) and work.left == pytest.approx(4)
    work(Progress("scoring", 1, 2, "block"))
    assert work.share == pytest.approx(0.5) and work.left == pytest.approx(1)
    assert work.line() == "huref: 1.0 s: scoring 1 of 2, 50 %, about 1.0 s left"


def test_a_stage_at_its_last_step_is_done_when_another_begins() -> None:
    seen: list[Progress] = []
    work = Waiting((), lambda work: seen.append(work.step))
    work(Progress("a", 2, 3, "layer"))
    work(Progress("b", 0, 1, "layer"))
    assert seen == [Progress("a", 2, 3, "layer"), Progress("a", 3, 3, "layer"), Progress("b", 0, 1, "layer")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (119.4, "119 s"), (320, "5 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_line_at_every_interval_also_without_a_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    with waiting.waiting() as work:
        work(Progress("pairing \x1b neurons", 1, 4, "layer"))
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 8
    assert all(
        re.fullmatch(r"huref: 0\.\d s: pairing \\x1b neurons 1 of 4, 25 %, about .* left", x) for x in lines[:-1]
    )
    assert re.fullmatch(r"huref: took 0\.\d s", lines[-1])


def test_short_work_leaves_a_log_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting.waiting() as work:
        work(Progress("a", 0, 1))
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), waiting.waiting("json") as work:
        work(Progress("a", 1, 4))
        raise ValueError("no")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["done"] == 1


def test_programs_get_a_json_object_a_line(cli: Cli, models: dict[str, Path]) -> None:
    done = cli("compare", models["base"], models["child"], "--progress", "json", "--json")
    assert done.code == 0 and done.document["verdict"] == "derived"
    *lines, last = [json.loads(line) for line in done.err.splitlines()]
    keys = ["schema_version", "stage", "done", "total", "unit", "elapsed", "share", "left", "received"]
    assert all(list(line) == keys and line["schema_version"] == "huref.progress/1.0" for line in lines)
    shares = [line["share"] for line in lines]
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert all(line["done"] == line["total"] for line in {line["stage"]: line for line in lines}.values())
    assert last["stage"] == "done" and last["took"] >= lines[-1]["elapsed"]
    assert last["bytes_read"] >= 2 * 0.5 * (models["base"] / "model.safetensors").stat().st_size


def test_none_says_nothing(cli: Cli, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "weight_bytes", lambda _: 1 << 50)
    done = cli("compare", models["base"], models["child"], "--progress", "none")
    assert (done.code, done.err) == (0, "")


def test_long_work_is_announced_with_an_estimate(
    cli: Cli, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "weight_bytes", lambda _: 13_500_000_000)
    pair = (models["base"], models["child"])
    assert cli("compare", *pair).err == "huref: this will take about 2 min, by the sizes of the files\n"
    first = json.loads(cli("compare", *pair, "--progress", "json").err.splitlines()[0])
    assert first == {"schema_version": "huref.progress/1.0", "stage": "estimate", "estimate": 114}


def test_an_estimate_counts_weight_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(bytes(10))
    (tmp_path / "b.gguf").write_bytes(bytes(5))
    (tmp_path / "a.huref.safetensors").write_bytes(bytes(100))
    (tmp_path / "tokenizer.json").write_bytes(bytes(100))
    assert weight_bytes(tmp_path) == 15 and weight_bytes(tmp_path / "b.gguf") == 5
    assert weight_bytes(tmp_path / "a.huref.safetensors") == weight_bytes(tmp_path / "none") == 0
    assert expected_seconds("compare", [tmp_path / "none"]) == expected_seconds("verify", [tmp_path]) == 0


@pytest.mark.parametrize("command", ["compare", "explain", "fingerprint --codes", "attack", "commit"])
def test_every_stage_of_a_plan_is_met_by_its_command(
    command: str, cli: Cli, models: dict[str, Path], tmp_path: Path, dogs: None
) -> None:
    """Or the bar would stand still for that part of the time, and jump."""
    base, child = models["base"], models["child"]
    arguments = {
        "compare": [base, child],
        "explain": [base, child],
        "fingerprint --codes": [base, "--out", tmp_path],
        "attack": ["rotate_residual", base, tmp_path / "out"],
        "commit": [base, "--out", tmp_path / "sealed", "--jobs", 1],
    }[command]
    done = cli(*command.split(), *arguments, "--progress", "json")
    assert done.code == 0
    stages = list(dict.fromkeys(json.loads(line)["stage"] for line in done.err.splitlines()))
    plan = PLANS["commit fingerprint" if command == "commit" else command]
    work = Waiting(plan, lambda _: None)
    unmet = [entry for entry in plan if not any(stage.startswith(entry[0]) for stage in stages)]
    unplanned = [stage for stage in stages if not work._planned(stage)]
    assert (unmet, unplanned) == ([], ["done"])


def test_a_terminal_sees_one_bar_that_goes_away(models: dict[str, Path]) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "huref", "compare", models["base"], models["child"]]
    environment = {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "200",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    out, _ = child.communicate()
    os.close(theirs)
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert child.returncode == 0 and b"verdict: derived" in out
    assert "100%" in shown and "━" in shown
    assert shown.count("\n") <= 3, "more than one bar"
