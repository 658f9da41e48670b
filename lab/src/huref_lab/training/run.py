"""What every training run of ours does: check its settings, stop when told, save, and go on from where it was."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from huref.errors import CorruptFileError, UsageError
from huref.files.atomic import make_folder, write_whole
from huref_lab.training.interrupt import noted_interrupt

CHECKPOINT = "checkpoint.pt"


class Run(abc.ABC):
    """The state of a training run.

    Attributes:
        seconds: spent in it so far, those before an interruption too.
    """

    seconds = 0.0

    @abc.abstractmethod
    def is_done(self) -> bool:
        """Whether the run is at its end."""

    @abc.abstractmethod
    def step(self) -> None:
        """One batch."""

    def report(self) -> None:  # noqa: B027 not every run looks at each step
        """Called after every step, with `seconds` up to date."""

    @abc.abstractmethod
    def is_save_due(self) -> bool:
        """Whether the step before calls for a checkpoint."""

    @abc.abstractmethod
    def save(self) -> Path:
        """Checkpoint and exported weights, each whole or not at all. Returns the weights."""

    @abc.abstractmethod
    def restore(self, path: Path) -> None:
        """Takes up a checkpoint.

        Raises:
            CorruptFileError: not a checkpoint.
            UsageError: a checkpoint of another run.
        """


AnyRun = TypeVar("AnyRun", bound=Run)


def begin(out: Path, threads: int, make: Callable[[], AnyRun]) -> AnyRun:
    """A run as it was left, or a new one.

    Args:
        out: its folder; a checkpoint found there is resumed.
        threads: processor threads, 0 for torch's own choice.

    Raises:
        OutputError: the folder cannot be made.
        CorruptFileError, UsageError: as `Run.restore`.
    """
    if threads:
        torch.set_num_threads(threads)
    make_folder(out)
    run, checkpoint = make(), out / CHECKPOINT
    if checkpoint.exists():
        run.restore(checkpoint)
    return run


def train(run: Run, minutes: float) -> Path:
    """Steps until the end, or for so long, saving on the way; returns the exported weights.

    An interrupt (SIGINT) finishes the step, saves a checkpoint and is then raised.
    """
    start, before = time.monotonic(), run.seconds
    with noted_interrupt() as was_interrupted:
        while not run.is_done() and not was_interrupted:
            run.step()
            run.seconds = before + time.monotonic() - start
            run.report()
            if run.seconds - before > minutes * 60:
                break
            if run.is_save_due():
                run.save()
        path = run.save()
    if was_interrupted:
        raise KeyboardInterrupt
    return path


def require_positive(settings: object, names: Iterable[str], command: str) -> None:
    """Refuse settings that are zero, negative or not a number.

    Raises:
        UsageError: one of them is.
    """
    for name in names:
        if not getattr(settings, name) > 0:
            raise refusal("a setting must be positive", name, "more than 0", getattr(settings, name), command)


def refusal(what: str, where: str, expected: str, got: object, command: str) -> UsageError:
    """The error for a setting that a run cannot have."""
    return UsageError(
        what, where=f"--{where.replace('_', '-')}", expected=expected, got=str(got), next_step=f"{command} --help"
    )


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OutputError: it cannot be written; the one before is untouched.
    """
    write_whole(folder / CHECKPOINT, lambda path: torch.save(state, path), (OSError, RuntimeError))


def read_checkpoint(path: Path, check: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """What `write_checkpoint` wrote.

    Args:
        check: looks at the state, and raises where it is none of such a run.

    Raises:
        CorruptFileError: not a checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, mmap=True)
        check(state)
    except Exception as error:
        raise CorruptFileError(
            "not a checkpoint of a training run",
            where=str(path),
            expected=f"a {CHECKPOINT} that such a run saved",
            got=str(error)[:200] or type(error).__name__,
            next_step="choose another --out, or delete the file to begin again",
        ) from error
    return state
