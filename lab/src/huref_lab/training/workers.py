"""Processes that share work, and what is said when one of them cannot start or is ended."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from huref.errors import InconclusiveError

Submit = Callable[..., Future[Any]]
"""From a function and its arguments to what it will return in another process."""

_FAULTS: list[str] = []
"""Of this process: why its start failed. An exception there would end the pool with a traceback and no reason."""


@contextmanager
def workers(jobs: int, prepare: Callable[[], None], command: str) -> Iterator[Submit]:
    """So many fresh processes, each prepared once; a fault anywhere cancels what has not begun.

    Args:
        prepare: called first in each process; what it raises is told as a start that failed.
        command: whose processes they are, for errors.

    Raises:
        InconclusiveError: a process could not start, or was ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (prepare,)) as pool:
        try:
            _require_start(pool, command)

            def submit(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
                return pool.submit(_run, command, work, *arguments)

            yield submit
        except BrokenProcessPool:
            raise InconclusiveError(
                "a process was ended from outside",
                where=command,
                expected="memory for every process",
                got=f"--jobs {jobs}",
                next_step="run it again, with fewer jobs if memory was short: what is made is kept",
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prepare_here(prepare: Callable[[], None], command: str) -> None:
    """The same for work that stays in this process.

    Raises:
        InconclusiveError: it cannot be prepared.
    """
    if fault := _fault_of(prepare):
        raise _no_start(fault, command)


def _start(prepare: Callable[[], None]) -> None:
    if fault := _fault_of(prepare):
        _FAULTS.append(fault)


def _fault_of(prepare: Callable[[], None]) -> str:
    try:
        prepare()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _require_start(pool: ProcessPoolExecutor, command: str) -> None:
    """Hand out no work to processes that cannot do any."""
    try:
        fault = pool.submit(_fault_of_start).result()
    except BrokenProcessPool:
        fault = "it ended before it could say why"
    if fault:
        raise _no_start(fault, command)


def _fault_of_start() -> str:
    return next(iter(_FAULTS), "")


def _run(command: str, work: Callable[..., Any], *arguments: Any) -> Any:
    if _FAULTS:
        raise _no_start(_FAULTS[0], command)
    return work(*arguments)


def _no_start(fault: str, command: str) -> InconclusiveError:
    return InconclusiveError(
        "a process could not start its work",
        where=command,
        expected="packages that can be imported, and memory for every process",
        got=fault,
        next_step="install huref-lab and its extras anew, or run with fewer --jobs",
    )
