"""Work side by side: threads of ours that each multiply alone, not threads of the BLAS that wait for each other.

OpenBLAS's threads spin until the last of them is done. Where one of the cores has other work, that made products two
to thirty times as slow (docs/decisions/2026-11-29-neuron-codes.md); threads that do not meet lose what they lose.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, a matrix product takes one thread, whatever the environment says."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


class Started(Generic[T]):
    """A function that runs in a thread of its own, in the caller's context; an interrupt does not wait for it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function, self._context = function, contextvars.copy_context()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Wait for it: what it returned, or what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._context.run(self._function))
        except BaseException as error:
            self._error = error


def in_two(items: Sequence[S], function: Callable[[S], T]) -> list[T]:
    """`function` of every item, half of them in a thread of their own."""
    half = len(items) // 2
    if not half:
        return [function(item) for item in items]
    first = Started(lambda: [function(item) for item in items[:half]])
    second = [function(item) for item in items[half:]]
    return [*first.result(), *second]
