"""Measuring in separate processes: the machine's name, children that report themselves, medians and verdicts.

Standard library only, and so is every benchmark's parent process: a child inherits its parent's peak memory in
`getrusage`, so the parent must stay small.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = float(1 << 30)
MIB = float(1 << 20)
_MARK = "benchmark-result "


@dataclass(frozen=True)
class Sample:
    """One run of one way: seconds counted, the whole process's seconds, peak resident bytes, what it says."""

    seconds: float
    wall: float
    peak: int
    notes: dict[str, Any]


class Clock:
    """In a child: counts the seconds since it was made, that is, since the imports were done."""

    def __init__(self) -> None:
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def finish(self, **notes: Any) -> None:
        """Report to the parent."""
        seconds, cpu = time.perf_counter() - self.start, time.process_time() - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(_MARK + json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "notes": notes}), flush=True)


def run_child(script: str, *arguments: str) -> Sample:
    """Run `script` again as a child process and read what its `Clock` reported."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - start
    report = next(line for line in done.stdout.splitlines() if line.startswith(_MARK))
    found = json.loads(report.removeprefix(_MARK))
    return Sample(found["seconds"], wall, found["peak"], found["notes"])


def run_command(*command: str) -> Sample:
    """Run any command; the seconds are the whole process's."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Sample(wall, wall, usage.ru_maxrss * 1024, {})


def alternate(ways: dict[str, Callable[[], Sample]], repeats: dict[str, int]) -> dict[str, list[Sample]]:
    """Run the ways in turn, round after round, so that a drift of the machine's speed meets all of them."""
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for turn in range(max(repeats.values())):
        for name, run in ways.items():
            if turn < repeats[name]:
                samples[name].append(run())
                print(f"  {name}, run {turn + 1}: {samples[name][-1].seconds:.3f} s", file=sys.stderr, flush=True)
    return samples


def spread(values: Sequence[float]) -> str:
    """`median (min-max)`."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def table(samples: dict[str, list[Sample]]) -> None:
    """Print one line a way: seconds after imports, seconds of the whole process, peak memory."""
    print(f"{'':34} {'seconds':>24} {'whole process':>24} {'peak MiB':>24}")
    for name, runs in samples.items():
        peaks = [run.peak / MIB for run in runs]
        columns = spread([r.seconds for r in runs]), spread([r.wall for r in runs])
        memory = f"{median(peaks):.0f} ({min(peaks):.0f}-{max(peaks):.0f})"
        print(f"{name:34} {columns[0]:>24} {columns[1]:>24} {memory:>24}  n={len(runs)}")


def verdict(goal: str, is_met: bool, found: str) -> bool:
    """Print whether a goal was reached; True when it was."""
    print(f"[{'met' if is_met else 'MISSED'}] {goal}: {found}")
    return is_met


def machine() -> str:
    """One line: processor, cores this process may use, threads, memory, Python, torch."""
    model = platform.processor() or platform.machine()
    memory = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        model = f"{fields.get('model name', model)} (family {fields.get('cpu family')})"
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB"
    from importlib.metadata import version

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    return (
        f"{model}, {cores} cores, OMP_NUM_THREADS {threads}{memory}; "
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}"
    )


@contextmanager
def workplace(given: Path | None, prefix: str) -> Iterator[Path]:
    """The folder for large files: the given one, which is kept, or a temporary one, which is not."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)
