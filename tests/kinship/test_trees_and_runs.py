"""The tree of a table against scipy's, and runs of checkpoints by their names."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import huref
from huref.kinship.drift import drift_of
from huref.kinship.linkage import average_linkage, leaves
from huref.kinship.table_text import drift_csv, drift_text, tree_text
from kit.tiny_llama import TinyLlama


def table(n: int, seed: int) -> np.ndarray:
    """Scores of a random table, no two alike."""
    values = np.random.default_rng(seed).uniform(-1, 1, (n, n))
    values = np.triu(values, 1) + np.triu(values, 1).T
    np.fill_diagonal(values, 1.0)
    return values


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_merges_are_those_of_scipy(n: int, seed: int) -> None:
    values = table(n, seed)
    known = hierarchy.linkage(squareform(1 - values, checks=False), "average")
    found = average_linkage(values)
    assert [sorted((merge.left, merge.right)) for merge in found] == [sorted(map(int, row[:2])) for row in known]
    np.testing.assert_allclose([merge.score for merge in found], 1 - known[:, 2], atol=1e-12)
    assert sorted(leaves(found, n)) == list(range(n))
    assert all(earlier.score >= later.score - 1e-12 for earlier, later in pairwise(found))  # type: ignore[operator]


@given(st.integers(3, 8), st.integers(0, 10**6), st.permutations(range(8)))
def test_the_tree_does_not_depend_on_the_order(n: int, seed: int, order: list[int]) -> None:
    values, order = table(n, seed), [i for i in order if i < n]

    def groups(values: np.ndarray, names: list[int]) -> set[frozenset[int]]:
        below = [frozenset([name]) for name in names]
        for merge in average_linkage(values):
            below.append(below[merge.left] | below[merge.right])
        return set(below)

    assert groups(values, list(range(n))) == groups(values[np.ix_(order, order)], order)


def test_pairs_without_a_score_join_last() -> None:
    values = np.full((4, 4), np.nan)
    values[0, 2] = values[2, 0] = 0.5
    merges = average_linkage(values)
    assert (merges[0].left, merges[0].right, merges[0].score) == (0, 2, 0.5)
    assert [merge.score for merge in merges[1:]] == [None, None] and sorted(leaves(merges, 4)) == [0, 1, 2, 3]


def test_a_tree_in_text_has_a_line_a_model() -> None:
    values = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    assert tree_text(("base", "child", "stranger"), "pcs", values).splitlines()[1:] == [
        "tree, average linkage on pcs",
        "  `- 15.00 %",
        "     |- 90.00 %",
        "     |  |- base",
        "     |  `- child",
        "     `- stranger",
    ]
    assert tree_text(("a", "b"), "pcs", values[:2, :2]) == ""


NAMES = ("checkpoint-9", "base", "checkpoint-100", "checkpoint-20")
VALUES = np.array([[1, 0.8, 0.5, 0.9], [0.8, 1, 0.3, np.nan], [0.5, 0.3, 1, 0.6], [0.9, np.nan, 0.6, 1]])


def test_a_run_goes_by_its_numbers() -> None:
    found = drift_of(NAMES, VALUES)
    assert found is not None and found.run == "checkpoint-*" and found.steps == (9, 20, 100)
    assert found.names == ("checkpoint-9", "checkpoint-20", "checkpoint-100")
    assert found.first == (1.0, 0.9, 0.5) and found.previous == (None, 0.9, 0.6)
    assert found.others == {"base": (0.8, None, 0.3)}
    rows = list(csv.reader(io.StringIO(drift_csv(found))))
    assert rows[0] == ["step", "model", "from the first", "from the previous", "base"]
    assert rows[2] == ["20", "checkpoint-20", "0.900000", "0.900000", ""]
    assert drift_text(found, "pcs").splitlines()[-1].split() == ["100", *["50.00", "%", "60.00", "%", "30.00", "%"]]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("run/step_1", "run/step_10", "run/step_2", "other/step_3"), (1, 2, 10)),
        (("epoch1-final", "epoch2-final", "epoch3-final"), (1, 2, 3)),
        (("1B-step5k", "1B-step10k", "1B-step7k"), (5, 7, 10)),
        (("llama-7b", "llama-13b", "llama-70b"), None),  # sizes, no steps
        (("checkpoint-1", "checkpoint-2", "base"), None),
        (("a", "b", "c"), None),
        (("checkpoint-1", "checkpoint-01", "checkpoint-2"), None),
    ],
)
def test_what_is_a_run(names: tuple[str, ...], steps: tuple[int, ...] | None) -> None:
    found = drift_of(names, np.ones((len(names), len(names))))
    assert (None if found is None else found.steps) == steps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints that leave their beginning, as a trainer leaves them."""
    home = tmp_path_factory.mktemp("run")
    for step, noise in ((9, 0.0), (20, 0.2), (100, 0.8)):
        TinyLlama(noise=noise).save(home / f"checkpoint-{step}")
    return home


def test_a_folder_of_checkpoints_is_a_run(run: Path) -> None:
    from huref.fingerprints.listing import listed

    found = huref.matrix(listed([run]), score="pcs")
    assert found.drift is not None and found.drift.steps == (9, 20, 100)
    first = found.drift.first
    assert first[0] == 1.0 and all(after is not None and before > after for before, after in pairwise(first))
    assert "drift of checkpoint-*, pcs" in str(found) and "tree, average linkage on pcs" in str(found)
