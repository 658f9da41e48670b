"""Long work tells where it stands: one step, who is told, and the bars that people see."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from huref.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One step of long work, handed to a callback: `done` of `total` units of `stage`."""

    stage: str
    done: int
    total: int
    unit: str = field(default="")


Report = Callable[[Progress], None]
"""Called with a `Progress` at each step."""

_is_at_work = threading.Lock()
"""Held by a verb in a notebook: those that it calls, in threads too, leave the bars to it; rich draws one set."""


@contextlib.contextmanager
def bars(console: Console | None = None) -> Iterator[Report]:
    """A bar a stage, from the first step on; they go when the work is done.

    Args:
        console: of rich's; None for where Python runs.
    """
    from rich.markup import escape
    from rich.progress import Progress as Bars

    drawn = Bars(console=console, transient=True)
    tasks: dict[str, TaskID] = {}

    def report(step: Progress) -> None:
        if step.stage not in tasks:
            drawn.start()
            tasks[step.stage] = drawn.add_task(escape(printable(step.stage)), total=step.total)
        drawn.update(tasks[step.stage], completed=step.done, total=step.total)

    try:
        yield report
    finally:
        if tasks:
            drawn.stop()


def shows_progress(verb: Callable[P, T]) -> Callable[P, T]:
    """A verb with a parameter `report` that, called without one in a notebook, draws bars there."""
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not is_notebook() or not _is_at_work.acquire(blocking=False):
            return verb(*args, **kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
            if bound.arguments.get("report") is not None:
                return verb(*args, **kwargs)
            with bars() as bound.arguments["report"]:
                return verb(*bound.args, **bound.kwargs)
        finally:
            _is_at_work.release()

    return call


def is_notebook() -> bool:
    """Whether Python is the kernel of a notebook that rich can draw bars in, for which it needs ipywidgets."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if getattr(shell, "kernel", None) is None:
        return False
    return all(importlib.util.find_spec(library) is not None for library in ("rich", "ipywidgets"))
