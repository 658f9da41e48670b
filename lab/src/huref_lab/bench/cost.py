"""What a comparison costs: seconds and peak memory of every method on one real pair, each in a process of its own.

`python -m huref_lab.bench.cost METHOD A B` is that process; it prints one JSON document. The pair is SmolLM2-135M and
a copy of it, both as bfloat16 safetensors, which every method reads.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huref_lab.bench.methods import HUREF, SINGLES, open_method

_MARK = "bench-cost "


def reference_pair(folder: Path) -> tuple[Path, Path]:
    """Write SmolLM2 twice.

    Raises:
        MissingFileError: it is not installed.
        OutputError: the folder cannot be written.
    """
    import ml_dtypes
    import numpy as np

    from huref.demo.bundled import bundled_model
    from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
    from huref.forward.decoder import load_decoder
    from huref.model.model import open_model

    model = open_model(bundled_model())
    with model.weights.checkpoint as checkpoint:
        llama, tokenizer = load_decoder(model.weights, np.float32), tokenizer_files(checkpoint)
    first, second = (
        write_checkpoint(llama, folder / name, tokenizer, ml_dtypes.bfloat16) for name in ("smollm2", "smollm2-copy")
    )
    return first, second


def measure_costs(keys: Sequence[str], pair: tuple[Path, Path]) -> list[dict[str, Any]]:
    """One row a method: seconds (of the work, of the processor, of the process), peak MiB, scores, or the fault.

    Args:
        keys: for `open_method`; huref is measured once for everything and once for each of its methods.
        pair: the two models.
    """
    every = [part for key in keys for part in ([key, *SINGLES] if key == HUREF else [key])]
    return [_in_a_process(key, pair) for key in every]


def machine() -> str:
    """One line: processor, cores, threads, memory, versions."""
    from importlib.metadata import version

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    return (
        f"{model}, {cores} cores, OMP_NUM_THREADS {threads}, {memory:.0f} GiB; "
        f"Python {platform.python_version()}, torch {version('torch')}, huref {version('huref')}"
    )


def _in_a_process(key: str, pair: tuple[Path, Path]) -> dict[str, Any]:
    command = (sys.executable, "-m", "huref_lab.bench.cost", key, *map(str, pair))
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()
        return {"method": open_method(key).name, "fault": last[-1] if last else f"exit code {done.returncode}"}
    return {**json.loads(lines[-1].removeprefix(_MARK)), "seconds_of_the_process": round(wall, 3)}


def _measure(key: str, a: Path, b: Path) -> dict[str, Any]:
    method = open_method(key)
    if reason := method.unavailable():
        return {"method": method.name, "fault": reason}
    start, before = time.perf_counter(), os.times()
    found = method.compare(method.prepare(a), method.prepare(b))
    seconds, after = time.perf_counter() - start, os.times()
    # A machine that does other work too stretches the seconds, and not those of the processor.
    cpu = sum(after[:4]) - sum(before[:4])
    # A program that the method started counts too, though not at the same time.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _MAXRSS_UNIT
    peak = max(_own_peak(), children)
    scores = {name: value for name, value in found.scores.items() if value is not None}
    return {
        "method": method.name,
        "fault": "",
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "peak_mib": round(peak / 2**20, 1),
        "scores": scores,
        "verdict": found.verdict,
    }


def _own_peak() -> int:
    """Peak resident bytes of this process. `ru_maxrss` would begin with those of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        kib = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if kib:
            return int(kib[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT


_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


if __name__ == "__main__":
    print(_MARK + json.dumps(_measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
