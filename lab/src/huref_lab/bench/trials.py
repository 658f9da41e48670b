"""Running methods over pairs: each model prepared once, each pair timed, and no fault ends the run."""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huref.errors import HurefError
from huref.progress import Progress, Report
from huref_lab.bench.methods import Method, open_method
from huref_lab.training.workers import workers

_CHUNK = 24


@dataclass(frozen=True)
class Answer:
    """What one method said of one pair.

    Attributes:
        scores: by column; None where there is none.
        verdict: in the method's own words, or empty.
        fault: why there is no answer, or empty.
        seconds: of the comparison alone.
    """

    scores: dict[str, float | None]
    verdict: str = ""
    fault: str = ""
    seconds: float = 0.0


@dataclass
class MethodRun:
    """One method over all pairs.

    Attributes:
        name, source, columns, digest: the method's.
        unavailable: why it did not run at all, or empty.
        answers: one for each pair, in the pairs' order.
        prepared: seconds of each preparation of a model.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    digest: str = ""
    unavailable: str = ""
    answers: list[Answer] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)


PathPair = tuple[Path, Path]
KnownAnswers = tuple[Mapping[int, Answer], Sequence[float]]
"""One method's answers of an earlier run by pair, and its seconds of preparation."""
Known = Mapping[str, KnownAnswers]
"""By a method's digest."""


def run_methods(
    keys: Sequence[str],
    pairs: Sequence[PathPair],
    jobs: int = 1,
    report: Report | None = None,
    known: Known | None = None,
) -> list[MethodRun]:
    """Every method over every pair.

    Args:
        keys: for `open_method`.
        pairs: paths of suspect and candidate.
        jobs: processes at once; 1 runs here.
        report: told after every chunk of pairs.
        known: what an earlier run found, which is not looked for again.

    Raises:
        UsageError: a peer's file that is none.
    """
    methods = [open_method(key) for key in keys]
    runs = [MethodRun(m.name, m.source, m.columns, m.digest) for m in methods]
    answers: list[dict[int, Answer]] = []
    tasks: list[Task] = []
    for i, (run, method) in enumerate(zip(runs, methods, strict=True)):
        earlier, seconds = (known or {}).get(run.digest, ({}, ()))
        missing = [n for n in range(len(pairs)) if n not in earlier]
        run.unavailable = (method.unavailable() or "") if missing else ""
        run.prepared += seconds
        answers.append(dict(earlier))
        if not run.unavailable:
            tasks += [(i, chunk) for chunk in _chunks(missing, method.is_stateless)]
    done, total = 0, sum(len(chunk) for _, chunk in tasks)
    for (i, chunk), (found, prepared) in _finished(keys, tasks, pairs, jobs):
        answers[i].update(zip(chunk, found, strict=True))
        runs[i].prepared += prepared
        done += len(chunk)
        if report:
            report(Progress("comparing", done, total, "pair"))
    for run, by_pair in zip(runs, answers, strict=True):
        run.answers = [] if run.unavailable else [by_pair[n] for n in range(len(pairs))]
    return runs


Task = tuple[int, list[int]]
Done = tuple[list[Answer], list[float]]


def _chunks(pairs: list[int], is_stateless: bool) -> Iterator[list[int]]:
    """A method that keeps models does all pairs in one go."""
    step = _CHUNK if is_stateless else max(1, len(pairs))
    for start in range(0, len(pairs), step):
        yield pairs[start : start + step]


def _finished(
    keys: Sequence[str], tasks: Sequence[Task], pairs: Sequence[PathPair], jobs: int
) -> Iterator[tuple[Task, Done]]:
    if jobs == 1:
        for task in tasks:
            yield task, run_chunk(keys[task[0]], [pairs[n] for n in task[1]])
        return
    with workers(jobs, _start_worker, "huref lab bench") as submit:
        longest_first = sorted(tasks, key=lambda task: -len(task[1]))
        futures = {submit(run_chunk, keys[i], [pairs[n] for n in chunk]): (i, chunk) for i, chunk in longest_first}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run_chunk(key: str, pairs: Sequence[PathPair]) -> Done:
    """One method over some pairs, suspect by suspect; a state is dropped after its last use: memory stays small."""
    method, states = open_method(key), _States()
    uses = Counter(path for pair in pairs for path in set(pair))
    answers: dict[int, Answer] = {}
    for n in sorted(range(len(pairs)), key=lambda n: pairs[n]):
        answers[n] = _answer(method, states, pairs[n])
        for path in set(pairs[n]):
            uses[path] -= 1
            if not uses[path]:
                states.kept.pop(path, None)
    return [answers[n] for n in range(len(pairs))], states.seconds


def _answer(method: Method, states: _States, pair: PathPair) -> Answer:
    """One answer; whatever a method raises is its failure on this pair, and written down."""
    nothing = dict.fromkeys(method.columns)
    try:
        a, b = (states.get(method, path) for path in pair)
        start = time.perf_counter()
        found = method.compare(a, b)
        seconds = time.perf_counter() - start
    except Exception as error:  # a peer may raise anything
        return Answer(nothing, fault=_said(error))
    scores = {name: _finite(found.scores.get(name)) for name in method.columns}
    has_any = any(value is not None for value in scores.values())
    return Answer(scores, found.verdict, "" if has_any else "no score", seconds)


@dataclass
class _States:
    """Prepared models by path, and their faults; `seconds` of each success."""

    kept: dict[Path, Any] = field(default_factory=dict)
    faults: dict[Path, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def get(self, method: Method, path: Path) -> Any:
        if path in self.faults:
            raise _PreparationError(self.faults[path])
        if path not in self.kept:
            start = time.perf_counter()
            try:
                self.kept[path] = method.prepare(path)
            except Exception as error:
                self.faults[path] = _said(error)
                raise _PreparationError(self.faults[path]) from error
            self.seconds.append(time.perf_counter() - start)
        return self.kept[path]


class _PreparationError(Exception):
    """A model that a method cannot read; its text is the whole message."""


def _said(error: Exception) -> str:
    if isinstance(error, HurefError):
        return error.what
    lines = str(error).strip().splitlines()
    text = lines[0][:160] if lines else ""
    return text if isinstance(error, _PreparationError) else f"{type(error).__name__}: {text}"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _start_worker() -> None:
    """One thread a process; an interrupt ends it at once, and the parent says so."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
