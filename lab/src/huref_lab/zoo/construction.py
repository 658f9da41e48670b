"""A zoo of small trained language models whose kinship is known: `huref lab zoo`.

`plan` says what there is, `makers` and what it imports make one model each, `record` is the list. Here
the plans are made in order, several at once, each in a process with one thread; what was made before is left alone.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huref.errors import InconclusiveError, UsageError
from huref.progress import Progress, Report
from huref_lab.training.language_models import require_transformers
from huref_lab.zoo.contents import full_plans, small_plans
from huref_lab.zoo.makers import find_model, make_model
from huref_lab.zoo.plan import FULL, SMALL, Plan, Scale, digests
from huref_lab.zoo.record import MANIFEST, Truth, Zoo, ZooModel, load_zoo, save_zoo

__all__ = ["Truth", "Zoo", "ZooModel", "ZooOptions", "build_zoo", "load_zoo"]


@dataclass(frozen=True)
class ZooOptions:
    """What is made, and with how many processes.

    Attributes:
        size: "full", or "small": a few tiny models in seconds, for tests.
        jobs: processes at once, of one thread each. It does not change what is made.
    """

    size: str = "full"
    jobs: int = 2


@dataclass(frozen=True)
class _Build:
    folder: Path
    plans: tuple[Plan, ...]
    scale: Scale
    digests: dict[str, str]
    made: dict[str, ZooModel]
    report: Report | None

    def is_ready(self, plan: Plan) -> bool:
        return all(parent in self.made for parent in plan.parents)

    def arguments(self, plan: Plan) -> tuple[Path, Plan, Scale, tuple[ZooModel, ...], str]:
        parents = tuple(self.made[parent] for parent in plan.parents)
        return self.folder, plan, self.scale, parents, self.digests[plan.name]

    def note(self, model: ZooModel) -> None:
        self.made[model.name] = model
        save_zoo(self.zoo())
        if self.report:
            self.report(Progress("models of the zoo", len(self.made), len(self.plans), "model"))

    def zoo(self) -> Zoo:
        return Zoo(self.folder, tuple(self.made[plan.name] for plan in self.plans if plan.name in self.made))


def build_zoo(folder: Path, options: ZooOptions | None = None, report: Report | None = None) -> Zoo:
    """Make every model that is missing; `zoo.json` is written again after each.

    Args:
        folder: of the zoo. What an earlier build made there by the same plan is kept; the rest is replaced.
        options: the full zoo, two processes, when left out.
        report: told after every model.

    Raises:
        UsageError: no such size, no process at all, or another zoo in the folder.
        CorruptFileError: the folder's list cannot be read.
        MissingFileError: a text cannot be had, or transformers or SmolLM2 is not installed.
        InconclusiveError: a process that makes models could not start, or was ended from outside.
        OutputError: the folder cannot be written.
        NotFiniteError: a loss diverged.
    """
    options = options or ZooOptions()
    if options.size not in ("small", "full") or options.jobs < 1:
        raise UsageError(
            "no such zoo",
            where="huref lab zoo",
            expected="--size small or full, --jobs 1 or more",
            got=f"--size {options.size} --jobs {options.jobs}",
        )
    plans, scale = (full_plans(), FULL) if options.size == "full" else (small_plans(), SMALL)
    return build_plans(folder, plans, scale, options.jobs, report)


def build_plans(folder: Path, plans: Sequence[Plan], scale: Scale, jobs: int, report: Report | None = None) -> Zoo:
    """Make the models of any plans; parents stand before their offspring. See `build_zoo`."""
    _refuse_strangers(folder, plans)
    known = digests(plans, scale)
    found = {plan.name: find_model(folder, plan, known[plan.name]) for plan in plans}
    made = {name: model for name, model in found.items() if model is not None}
    build = _Build(folder, tuple(plans), scale, known, made, report)
    waiting = [plan for plan in plans if plan.name not in made]
    if waiting:
        require_transformers()
    if made:
        save_zoo(build.zoo())
    if jobs == 1:
        with _one_thread():
            for plan in waiting:
                build.note(make_model(*build.arguments(plan)))
    elif waiting:
        _make_in_processes(build, waiting, jobs)
    return build.zoo()


def _refuse_strangers(folder: Path, plans: Sequence[Plan]) -> None:
    """A folder with another zoo is left alone: its models would be replaced by those of equal names."""
    if not (folder / MANIFEST).is_file():
        return
    strangers = load_zoo(folder).by_name.keys() - {plan.name for plan in plans}
    if strangers:
        raise UsageError(
            "the folder holds another zoo",
            where=str(folder),
            expected="a new folder, or one with a part of this zoo",
            got=f"{len(strangers)} other models, {min(strangers)} among them",
            next_step="choose another --out",
        )


def _make_in_processes(build: _Build, waiting: list[Plan], jobs: int) -> None:
    """The first plan whose parents are there goes to the next free process."""
    context = multiprocessing.get_context("spawn")
    running: set[Future[ZooModel]] = set()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        try:
            _require_start(pool)
            while waiting or running:
                ready = [plan for plan in waiting if build.is_ready(plan)][: jobs - len(running)]
                for plan in ready:
                    waiting.remove(plan)
                    running.add(pool.submit(_make, *build.arguments(plan)))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    build.note(future.result())
        except BrokenProcessPool:
            raise InconclusiveError(
                "a process that was making a model was ended from outside",
                where=str(build.folder),
                expected="memory for every process",
                got=f"--jobs {jobs}",
                next_step="run it again, with fewer jobs if memory was short: what is made is kept",
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_FAULTS: list[str] = []
"""Of this process: why its start failed. An exception there would end the pool with a traceback and no reason."""


def _start_worker() -> None:
    """One thread a process; an interrupt ends it at once, and the parent says so."""
    try:
        import torch
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        torch.set_num_threads(1)
    except Exception as error:
        _FAULTS.append(f"{type(error).__name__}: {error}")


def _require_start(pool: ProcessPoolExecutor) -> None:
    """Refuse to hand out work to processes that cannot do any."""
    try:
        fault = pool.submit(_fault_of_start).result()
    except BrokenProcessPool:
        fault = "it ended before it could say why"
    if fault:
        raise _no_start(fault)


def _fault_of_start() -> str:
    return next(iter(_FAULTS), "")


def _make(folder: Path, plan: Plan, scale: Scale, parents: tuple[ZooModel, ...], digest: str) -> ZooModel:
    """`make_model`, in a process that started."""
    if _FAULTS:
        raise _no_start(_FAULTS[0])
    return make_model(folder, plan, scale, parents, digest)


def _no_start(fault: str) -> InconclusiveError:
    return InconclusiveError(
        "a process that makes models could not start",
        where="huref lab zoo",
        expected="torch and transformers that can be imported, and memory for every process",
        got=fault,
        next_step="--jobs 1 makes the models in one process, and shows more",
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """One core a model: then a machine's cores do not decide the order of sums, and every build is the same bytes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
