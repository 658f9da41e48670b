"""What is kept of models: bounded, the last used for longest, and the same answers as without."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huref.kinship import CompareOptions, compare, matrix, prepared
from huref.kinship.all_pairs import SCORES
from huref.kinship.memory import Memory, size_of
from huref.model.model import Model, open_model
from huref.numerics import products
from huref.numerics.products import product
from huref.numerics.threads import in_two
from kit.checkpoints import save_llama

FEW = 4096 * 4
"""Bytes of the few values by which a pair may be seen to be no copies."""


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 100)), min_size=1), st.integers(0, 500))
def test_it_gives_what_was_made_and_stays_within_its_limit(asked: list[tuple[int, int]], limit: int) -> None:
    memory = Memory(limit)
    for key, n in asked:
        found = memory.get((key, n), lambda key=key, n=n: np.full(n, key, np.uint8))
        np.testing.assert_array_equal(found, np.full(n, key, np.uint8))
        assert memory.size <= limit or len(memory) <= 8


def test_the_outer_loops_value_outlasts_the_inner_ones() -> None:
    memory, made = Memory(1000), list[str]()

    def get(name: str) -> None:
        memory.get(name, lambda: made.append(name) or np.zeros(100, np.uint8))

    for inner in range(30):
        get("outer")
        get(str(inner))
    assert made.count("outer") == 1


@dataclass(frozen=True)
class Fraction:
    upper: np.ndarray
    lower: np.ndarray | None


def test_the_size_is_that_of_all_arrays() -> None:
    assert size_of(CompareOptions()) == 0
    assert size_of(Fraction(np.zeros(5, np.uint8), None)) == 5
    assert size_of({"a": np.zeros(3), "b": np.zeros((2, 2), np.float32)}) == 24 + 16


def test_arithmetic_is_noted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    memory, told = Memory(), set()
    for _ in range(2):
        with products.noted() as arithmetic:
            memory.get("M", lambda: product(np.ones((2, 2)), np.ones((2, 2))))
        told.add(str(arithmetic))
    assert len(told) == 1 and "bfloat16" in told.pop()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("models")
    return [save_llama(place / str(seed), seed=seed) for seed in range(4)]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("limit", [0, 2 << 30])
def test_a_matrix_holds_what_each_pair_alone_says(
    models: list[Path], score: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huref.kinship.memory.LIMIT", limit)
    method = score if score in ("pcs", "aligned", "agreement") else "ics"
    found = matrix(models, score).values
    for i in range(4):
        for j in range(i):
            recipe = "canonical" if score == "ics_canonical" else "canonical-2"
            alone = getattr(compare(models[j], models[i], CompareOptions(method=method, recipe=recipe)), score)
            assert found[i, j] == found[j, i] == pytest.approx(np.nan if alone is None else alone, nan_ok=True)


def test_a_matrix_reads_each_model_once(models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three partners cost a model what one does, the common tokens being the same, and a look at a few rows each."""

    def read(some: list[Path]) -> list[tuple[str, int]]:
        opened: list[Model] = []
        monkeypatch.setattr(prepared, "open_model", lambda *args: opened.append(open_model(*args)) or opened[-1])
        matrix(some)
        return [(model.name, model.weights.checkpoint.bytes_read) for model in opened]

    many, two = read(models), read(models[:2])
    assert len(many) == 4
    assert all(one <= several <= one + 2 * FEW for (_, several), (_, one) in zip(many, two, strict=False))


def test_two_threads_that_want_one_value_make_it_once() -> None:
    memory, made = Memory(), []

    def make() -> np.ndarray:
        made.append(threading.get_ident())
        time.sleep(0.05)
        return np.ones(3)

    found = in_two(range(4), lambda _: memory.get("key", make))
    assert len(made) == 1 and all(value is found[0] for value in found)


def test_what_fails_in_one_thread_is_tried_in_the_other() -> None:
    memory, tries = Memory(), iter([True, False])

    def make() -> np.ndarray:
        if next(tries):
            raise ValueError("once")
        return np.ones(3)

    with pytest.raises(ValueError, match="once"):
        memory.get("key", make)
    assert memory.get("key", make).sum() == 3
