"""Interrupts that wait for the end of a training step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noted_interrupt() -> Iterator[list[int]]:
    """Turns SIGINT into an entry of the list, where this is the main thread."""
    noted: list[int] = []
    try:
        previous = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    except ValueError:
        yield noted
        return
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, previous)
