"""A zoo of small trained language models whose kinship is known: `huref lab zoo`.

`plan` says what there is, `makers` and what it imports make one model each, `record` is the list. Here
the plans are made in order, several at once, each in a process with one thread; what was made before is left alone.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huref.errors import UsageError
from huref.progress import Progress, Report
from huref_lab.training.language_models import require_transformers
from huref_lab.training.workers import prepare_here, workers
from huref_lab.zoo.contents import full_plans, small_plans
from huref_lab.zoo.makers import find_model, make_model
from huref_lab.zoo.plan import FULL, SMALL, Plan, Scale, digests
from huref_lab.zoo.record import MANIFEST, Truth, Zoo, ZooModel, load_zoo, save_zoo

__all__ = ["Truth", "Zoo", "ZooModel", "ZooOptions", "build_zoo", "load_zoo"]


_COMMAND = "huref lab zoo"


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
            where=_COMMAND,
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
    if waiting and jobs == 1:
        prepare_here(_import_transformers, _COMMAND)
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
    running: set[Future[ZooModel]] = set()
    with workers(jobs, _prepare_worker, _COMMAND) as submit:
        while waiting or running:
            ready = [plan for plan in waiting if build.is_ready(plan)][: jobs - len(running)]
            for plan in ready:
                waiting.remove(plan)
                running.add(submit(make_model, *build.arguments(plan)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                build.note(future.result())


def _prepare_worker() -> None:
    """One thread a process; an interrupt ends it at once, and the parent says so."""
    import torch

    _import_transformers()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)


def _import_transformers() -> None:
    """Import what builds the models: with another torch than it wants, it fails only when it is asked for them."""
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


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
