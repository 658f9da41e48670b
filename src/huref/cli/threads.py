"""How many threads numpy's products take: one where files are made, else as many as there are idle processors.

OpenBLAS's threads wait for one another by spinning. With two threads on two cores, one of them busy with something
else, products took 2 to 12 times as long as with one thread (docs/decisions/2026-11-29-numpy-core.md).
"""

from __future__ import annotations

import os
from pathlib import Path

_ASKED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS")
_LOAD = Path("/proc/loadavg")

_ALONE = ("fingerprint", "render", "commit", "prove", "verify", "publish")
"""Commands with one thread: little to multiply, and files that are to be equal byte for byte from run to run."""


def choose_threads(command: str = "") -> None:
    """Set the number for this process, before numpy is imported, unless the user has."""
    if not any(name in os.environ for name in _ASKED):
        os.environ[_ASKED[0]] = str(1 if command in _ALONE else idle_processors())


def idle_processors() -> int:
    """Processors that this process may use less those that run something else now; at least one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        running = int(_LOAD.read_text(encoding="ascii").split()[3].partition("/")[0]) - 1  # but for this process
    except (OSError, ValueError, IndexError):  # another system than Linux
        running = 0
    return max(1, usable - running)
