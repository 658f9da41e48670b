"""What is seen while a command works: one bar with its stages, or lines, or JSON; at the end how long it took.

All of it goes to stderr. On a terminal a bar stands for the whole work. Elsewhere a line comes every ten seconds,
none for shorter work. With `--progress json` every step is one JSON object on a line of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from huref.cli.estimates import expected_seconds
from huref.progress import Progress

Mode = Literal["auto", "json", "none"]
Plan = tuple[tuple[str, float], ...]
"""Beginnings of the names of a command's stages, in their order, with the share of the time that each takes."""

SCHEMA = "huref.progress/1.0"

EVERY = 10.0
"""Seconds between two lines where stderr is no terminal; shorter work says nothing there."""

_SHOWN_FROM = 1.0
"""Seconds from which work on a terminal says how long it took."""

_OFTEN = 0.1
"""Seconds between two JSON lines of one stage, but for its last."""

_TRUSTED = 0.03
"""Share of the work from which what is left is told."""

_LONG = 60.0
"""Seconds from which work is announced with an estimate."""

# Seconds on two cores, of models of 135 million weights.
PLANS: Mapping[str, Plan] = {
    "compare": (
        ("sketching", 0.5),
        ("sketching", 0.8),
        ("canonical", 1.8),
        ("paper terms", 0.8),
        ("comparing parameters", 0.3),
        ("pairing neurons", 3.1),
    ),
    "explain": (("pairing neurons", 8.5), ("pairing neurons", 24), ("undoing", 15.5)),
    "attack": (("attack: read", 2.6), ("attack: ", 8.2), ("attack: write", 2.3)),
    "fingerprint --codes": (("sketching", 0.3), ("coding neurons", 1.2)),
    "commit fingerprint": (("reading", 1.1), ("committing", 23.7), ("bounding the integers", 4.6)),
}


class Waiting:
    """Where the work stands; called with each step, it is the `Report` of a command.

    Stages may take turns: some commands do two things at once.
    """

    announce: Callable[[], None] | None = None
    """What to say before the first step: work that turns out to be done already takes none."""

    def __init__(self, plan: Plan, show: Callable[[Waiting], None], label: str = "") -> None:
        self.start = self.since = time.monotonic()
        self.step = Progress("", 0, 0)
        self.seconds: dict[str, float] = {}
        self._plan, self._show, self._label = list(plan), show, label
        self._whole = sum(weight for _, weight in plan)
        self._steps: dict[str, Progress] = {}
        self._weights: dict[str, float] = {}
        self._most = 0.0
        self._read_before = _bytes_read()
        self._cost_before = _cost()

    def __call__(self, step: Progress) -> None:
        """Take a step."""
        announce, self.announce = self.announce, None
        if announce is not None:
            announce()
        if step.stage != self.step.stage:
            self._leave()
        if step.stage not in self._weights:
            self._weights[step.stage] = self._planned(step.stage)
        self._take(step)

    def finish(self) -> None:
        """All of the work is done."""
        self._leave()
        for step in [step for step in self._steps.values() if step.done < step.total]:
            self._take(_finished(step))
        self._most = 1.0
        self._show(self)

    def _take(self, step: Progress) -> None:
        self.step = self._steps[step.stage] = step
        if self._whole:
            done = sum(self._weights[name] * _share_of(each) for name, each in list(self._steps.items()))
            self._most = max(self._most, done / self._whole)  # nothing sets the work back
        self._show(self)

    def _leave(self) -> None:
        """The time since is the stage's; one that was at its last step is done."""
        now, last = time.monotonic(), self.step
        if last.stage:
            self.seconds[last.stage] = self.seconds.get(last.stage, 0.0) + now - self.since
        self.since = now
        if last.total - 1 <= last.done < last.total:
            self._take(_finished(last))

    def _planned(self, stage: str) -> float:
        """The weight of the first stage of the plan that is called so and was not met yet; 0 where there is none."""
        for entry in self._plan:
            if stage.startswith(entry[0]):
                self._plan.remove(entry)
                return entry[1]
        return 0.0

    @property
    def name(self) -> str:
        """Of the stage, with the model that it is about where there are several."""
        return f"{self._label}{self.step.stage or 'starting'}"

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def bytes_read(self) -> int:
        """Bytes of models that were read meanwhile."""
        return _bytes_read() - self._read_before

    @property
    def received(self) -> tuple[int, int, int]:
        """Of models elsewhere: bytes that came, requests, and the size of the files that were opened."""
        now, before = _cost(), self._cost_before
        return now[0] - before[0], now[1] - before[1], now[2] - before[2]

    @property
    def transfer(self) -> str:
        """What came over the network, and how fast; what is waited for; empty where nothing is."""
        received, requests, _ = self.received
        if not requests:
            return ""
        said = _cost_said()
        rate = received / 1e6 / max(self.elapsed, 0.1)
        return f", {received / 1e6:.1f} MB received, {rate:.1f} MB/s" + (f", {said}" if said else "")

    @property
    def share(self) -> float | None:
        """Of the whole work that is done, in [0, 1]; of the stage where the command has no plan; None if unknown."""
        if self._whole:
            return self._most
        return _share_of(self.step) if self.step.total else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take if it goes on like this; None while nobody can tell."""
        share = self.share
        if share is None or share < _TRUSTED:
            return None
        since = self.start if self._whole else self.since
        return (time.monotonic() - since) * (1 - share) / share

    @property
    def times(self) -> str:
        """Time so far, and time left where it is known."""
        left = self.left
        rest = "" if left is None else f", about {duration(left)} left"
        return f"{self.elapsed:.0f} s{rest}{self.transfer}"

    def line(self) -> str:
        """For people without a terminal."""
        step, share, left = self.step, self.share, self.left
        count = f" {step.done} of {step.total}" if step.total else ""
        percent = "" if share is None else f", {100 * share:.0f} %"
        rest = "" if left is None else f", about {duration(left)} left"
        return f"huref: {duration(self.elapsed)}: {self.name}{count}{percent}{rest}{self.transfer}"

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        share, left = self.share, self.left
        return {
            "schema_version": SCHEMA,
            "stage": self.name,
            "done": self.step.done,
            "total": self.step.total,
            "unit": self.step.unit,
            "elapsed": round(self.elapsed, 3),
            "share": None if share is None else round(share, 4),
            "left": None if left is None else round(left, 1),
            "received": self.received[0],
        }

    def ending(self) -> str:
        """How long it took, what it read, and what took longest."""
        read = f", read {self.bytes_read / 1e6:.1f} MB" if self.bytes_read else ""
        if (cost := self.received)[1]:
            of = f" of {_bytes(cost[2])}" if cost[2] >= cost[0] else ""
            read = f", read {_bytes(cost[0])}{of} in {cost[1]} requests"
        longest = max(self.seconds, key=lambda name: self.seconds[name], default="")
        most = f"; longest: {longest}, {duration(self.seconds[longest])}" if len(self.seconds) > 1 else ""
        return f"took {duration(self.elapsed)}{read}{most}"


def _finished(step: Progress) -> Progress:
    return Progress(step.stage, step.total, step.total, step.unit)


def _share_of(step: Progress) -> float:
    return min(1.0, step.done / step.total) if step.total else 0.0


@contextlib.contextmanager
def waiting(
    mode: Mode = "auto", command: str = "", label: str = "", models: Sequence[str | Path] = ()
) -> Iterator[Waiting]:
    """Show how the work inside goes on, and at its end how long it took.

    Args:
        mode: `auto` for a bar on a terminal and lines elsewhere, `json` for programs, `none`.
        command: whose plan of stages to follow; without one each stage has a bar of its own.
        label: in front of every stage: which of several models it is.
        models: what is read; where that will take over a minute, an estimate comes before the first step.
    """
    shown = {"none": _nothing, "json": _json}.get(mode) or (_bar if sys.stderr.isatty() else _lines)
    with shown(PLANS.get(command, ()), label) as work:
        if mode != "none" and (seconds := expected_seconds(command, models)) > _LONG:
            estimate = {"schema_version": SCHEMA, "stage": "estimate", "estimate": round(seconds)}
            text = f"huref: this will take about {round(seconds / 60)} min, by the sizes of the files"
            work.announce = lambda: _say(json.dumps(estimate) if mode == "json" else text)
        yield work


@contextlib.contextmanager
def _nothing(plan: Plan, label: str) -> Iterator[Waiting]:
    yield Waiting(plan, lambda _: None, label)


@contextlib.contextmanager
def _lines(plan: Plan, label: str) -> Iterator[Waiting]:
    work = Waiting(plan, lambda _: None, label)
    with _every(EVERY, lambda: _say(work.line())):
        yield work
    work.finish()
    if work.elapsed >= EVERY or work.received[1]:
        _say(f"huref: {work.ending()}")


@contextlib.contextmanager
def _json(plan: Plan, label: str) -> Iterator[Waiting]:
    told = [(Progress("", 0, 0), 0.0)]  # the last line, and when it came

    def show(work: Waiting) -> None:
        last, when = told[-1]
        is_due = work.step.stage != last.stage or work.step.done >= work.step.total
        if work.step != last and (is_due or work.elapsed - when >= _OFTEN):
            told[:] = [(work.step, work.elapsed)]
            _say(json.dumps(work.to_dict()))

    work = Waiting(plan, show, label)
    with _every(EVERY, lambda: _say(json.dumps(work.to_dict()))):
        yield work
    work.finish()
    received, requests, _ = work.received
    done = {"took": round(work.elapsed, 3), "bytes_read": work.bytes_read, "received": received, "requests": requests}
    _say(json.dumps({"schema_version": SCHEMA, "stage": "done", **done}))


@contextlib.contextmanager
def _bar(plan: Plan, label: str) -> Iterator[Waiting]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    from huref.text import printable

    def show(work: Waiting) -> None:
        bar.update(task, description=escape(printable(work.name)), completed=work.share or 0.0)

    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[work].times}"))
    work = Waiting(plan, show, label)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0, work=work)
        yield work
        work.finish()
    if work.elapsed >= _SHOWN_FROM or work.received[1]:
        _say(f"huref: {work.ending()}")


@contextlib.contextmanager
def _every(seconds: float, tell: Callable[[], None]) -> Iterator[None]:
    """Do something at every so many seconds, also while the work reports no step."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            tell()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _say(text: str) -> None:
    """A line on stderr; nobody who does not read it stops the work."""
    from huref.text import printable

    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """`8.3 s`, `47 s`, `5 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _bytes_read() -> int:
    """Of all models so far; 0 where nothing that reads them was imported."""
    module = sys.modules.get("huref.model.source.byte_source")
    return module.ByteSource.total_read if module else 0


def _cost() -> tuple[int, int, int]:
    """Of models elsewhere, so far: bytes that came, requests, and the size of the files that were opened."""
    module = sys.modules.get("huref.model.source.remote.cost")
    return (module.COST.received, module.COST.requests, module.COST.whole) if module else (0, 0, 0)


def _cost_said() -> str:
    module = sys.modules.get("huref.model.source.remote.cost")
    return str(module.COST.said) if module else ""


def _bytes(count: int) -> str:
    """`3.1 MB`, `13.5 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
