"""Processes that share work: what they return, and one error for each way in which they can be lost."""

from __future__ import annotations

import gc
import math
import os
from functools import partial

import pytest

from huref.errors import InconclusiveError
from huref_lab.training.workers import prepare_here, workers


def test_work_comes_back_and_its_own_faults_pass_through() -> None:
    with workers(2, gc.collect, "huref lab x") as submit:
        assert [submit(math.factorial, n).result() for n in (3, 5)] == [6, 120]
    with pytest.raises(ValueError, match="invalid literal"), workers(1, gc.collect, "huref lab x") as submit:
        submit(int, "x").result()


def test_a_process_that_is_ended_while_it_works_is_one_error() -> None:
    with (
        pytest.raises(InconclusiveError, match="ended from outside") as caught,
        workers(2, gc.collect, "huref lab x") as submit,
    ):
        submit(os._exit, 9).result()
    assert (caught.value.where, caught.value.got) == ("huref lab x", "--jobs 2")


@pytest.mark.parametrize(
    ("prepare", "got"),
    [(partial(int, "x"), "ValueError: invalid literal"), (partial(os._exit, 9), "it ended before it could say why")],
    ids=["raises", "dies"],
)
def test_a_process_that_cannot_start_says_why(prepare: partial[int], got: str) -> None:
    with pytest.raises(InconclusiveError, match="could not start") as caught, workers(1, prepare, "huref lab x"):
        raise AssertionError("work was handed out")
    assert caught.value.got.startswith(got)


def test_the_same_in_this_process() -> None:
    with pytest.raises(InconclusiveError, match="could not start"):
        prepare_here(partial(int, "x"), "huref lab x")
