"""Work side by side: results in order, errors where they are asked for, the caller's context."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from huref.numerics import products
from huref.numerics.threads import Started, alone, in_two

_told: ContextVar[str] = ContextVar("told", default="nothing")


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_results_are_in_the_order_of_the_items(n: int) -> None:
    assert in_two(range(n), lambda i: i * i) == [i * i for i in range(n)]


def test_a_function_runs_in_a_thread_of_its_own_and_in_the_callers_context() -> None:
    _told.set("something")
    started = Started(lambda: (_told.get(), threading.current_thread().daemon, threading.get_ident()))
    told, is_daemon, thread = started.result()
    assert told == "something" and is_daemon and thread != threading.get_ident()


def test_what_it_raises_is_raised_where_it_is_asked_for() -> None:
    def fail() -> None:
        raise ValueError("in another thread")

    started = Started(fail)
    with pytest.raises(ValueError, match="in another thread"):
        started.result()
    with pytest.raises(ZeroDivisionError):
        in_two([1, 0], lambda i: 1 // i)


def test_arithmetic_is_noted_across_threads() -> None:
    with products.noted() as arithmetic:
        Started(lambda: products.product(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))).result()
    assert arithmetic.kinds == {"float32"}


def test_products_take_one_thread_inside() -> None:
    def blas() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = blas()
    with alone():
        assert blas() == {1}
    assert blas() == before
