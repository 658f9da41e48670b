"""Processes that work on points: the same points, in order, from any number; a plain script can start them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from huref.errors import CorruptFileError, HurefError
from huref.proof.arithmetic import parallel, workers
from huref.proof.arithmetic.curve import ShortCommitter, blinding_generator, encode_points, scalar
from huref.proof.arithmetic.workers import CHECK, COMMIT, check_chunk, commit_chunk, commit_task, fault_of, run_tasks


def tasks() -> list[bytes]:
    rows = np.random.default_rng(3).integers(-500, 500, (7, 4, 6)).astype(np.int16)
    return [commit_task(block, [1, 2, 3, 2**250 + i]) for i, block in enumerate(rows)]


def test_processes_make_what_one_process_makes() -> None:
    committer = ShortCommitter(6, 512)
    expected = [commit_chunk(task, committer) for task in tasks()]
    assert list(run_tasks(COMMIT, (6, 512), iter(tasks()), 2)) == expected


def test_many_points_are_decoded_and_checked_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH", 1)
    monkeypatch.setattr(parallel, "_CHUNK", 3)
    monkeypatch.setattr(parallel, "available_cores", lambda: 2)
    points = [blinding_generator() * scalar(i + 1) for i in range(8)]
    data = encode_points(points)
    assert parallel.decode_many_points(data, "x") == points
    for bad in (b"\xc0" + bytes(47), b"\xff" * 48, bytes(48)):
        with pytest.raises(CorruptFileError, match="from 3 on"):
            parallel.decode_many_points(data[: 4 * 48] + bad + data[5 * 48 :], "x")


def test_a_fault_is_told_from_coordinates() -> None:
    good = check_chunk(encode_points([blinding_generator()]))
    assert len(good) == 96 and fault_of(good) is None and fault_of(b"!" + good[1:]) is None
    assert fault_of(check_chunk(bytes(48))) == "no point of the group"


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(HurefError, match="ended"):
        list(run_tasks("commit", (6, 512), iter([b"\0"]), 1))


def test_a_script_without_a_main_guard_can_verify(tmp_path: Path) -> None:
    """It would start itself again in every process, were these made by multiprocessing."""
    script = tmp_path / "script.py"
    script.write_text(
        "from huref.proof.arithmetic.workers import CHECK, run_tasks\n"
        "from huref.proof.arithmetic.curve import blinding_generator, encode_points\n"
        "print(len(list(run_tasks(CHECK, (), iter([encode_points([blinding_generator()])] * 3), 2))))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "3\n"


def test_stopping_early_ends_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    original = subprocess.Popen

    def remember(*arguments: object, **options: object) -> object:
        started.append(original(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(workers.subprocess, "Popen", remember)
    results = run_tasks(CHECK, (), iter([encode_points([blinding_generator()])] * 40), 2)
    next(results)
    results.close()
    assert len(started) == 2 and all(child.poll() is not None for child in started)
