"""The cheap sampler has the law of the definition: moments and distributions of what an encoder can see.

Seeds are fixed: a test that passes once passes always. The plain approximation must fail where the exact one passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats

from huref_lab.encoder.samples import (
    SampleShape,
    bartlett,
    draw_naively,
    draw_one,
    draw_pair,
    draw_plainly,
    draw_triplets,
    normal,
    stream,
)

DRAWS = 2000
SHAPES = {
    "wide": SampleShape(side=3, width=8, rank=7, is_half=False),
    "width below twice the side": SampleShape(side=4, width=6, rank=9, is_half=False),
    "width equal to the side, low rank": SampleShape(side=4, width=4, rank=2, is_half=False),
    "other noise": SampleShape(side=3, width=9, rank=5, x_noise=1.0, weight_noise=0.7, is_half=False),
}
Draw = Callable[[SampleShape, torch.Generator], tuple[torch.Tensor, torch.Tensor]]


def numbers(a: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Of (n, side, side) pairs: what sees entries, rows, spectra, diagonals and how the two hang together."""
    at, pt = a.transpose(0, 2, 1), p.transpose(0, 2, 1)
    traces = [a, p @ p, a @ at @ a @ at, p @ pt @ p @ pt, a @ pt, a @ p, a @ at @ p @ pt, at @ a @ pt @ p]
    return np.stack(
        [
            a[:, 0, 1],
            p[:, 1, 0],
            a[:, 0, 0],
            p[:, 1, 1],
            (a[:, 0] ** 2).sum(1),
            (p[:, :, 0] ** 2).sum(1),
            (a[:, 0] * p[:, 1]).sum(1),
            np.linalg.svd(a, compute_uv=False)[:, -1],
            *(np.trace(product, axis1=1, axis2=2) for product in traces),
        ],
        axis=1,
    )


@cache
def sampled(name: str, draw: Draw, seed: int) -> np.ndarray:
    """(DRAWS, numbers)."""
    shape, random = SHAPES[name], stream(seed)
    pairs = [torch.stack(draw(shape, random)) for _ in range(DRAWS)]
    a, p = torch.stack(pairs, dim=1).double().numpy()
    return numbers(a, p)


def least_p(x: np.ndarray, y: np.ndarray) -> float:
    """Smallest p-value of two-sample Kolmogorov-Smirnov tests, one a number, Bonferroni-corrected."""
    return min(1.0, min(stats.ks_2samp(u, v).pvalue for u, v in zip(x.T, y.T, strict=True)) * x.shape[1])


@pytest.mark.parametrize("name", SHAPES)
def test_pairs_have_the_law_of_the_definition(name: str) -> None:
    exact, naive = sampled(name, draw_pair, 1), sampled(name, draw_naively, 2)
    assert least_p(exact, naive) > 0.01
    means, errors = exact.mean(0) - naive.mean(0), np.sqrt((exact.var(0) + naive.var(0)) / DRAWS)
    assert np.abs(means / errors).max() < 4


def test_the_test_sees_an_approximation() -> None:
    assert least_p(sampled("wide", draw_plainly, 3), sampled("wide", draw_naively, 2)) < 1e-9


def test_single_matrices_have_the_law_of_anchors() -> None:
    shape, random = SHAPES["wide"], stream(4)
    ones = torch.stack([draw_one(shape, random) for _ in range(DRAWS)]).double().numpy()
    anchors = [0, 2, 4, 7, 8, 10]
    assert least_p(numbers(ones, ones)[:, anchors], sampled("wide", draw_naively, 2)[:, anchors]) > 0.01


def test_known_moments() -> None:
    shape = SHAPES["wide"]
    found = sampled("wide", draw_pair, 1)
    variance = shape.width**2 * shape.rank
    kin = variance * (1 + shape.x_noise**2) ** 2 * (1 + shape.weight_noise**2) ** 2
    assert (found[:, 0] ** 2).mean() == pytest.approx(variance, rel=0.15)
    assert (found[:, 1] ** 2).mean() == pytest.approx(kin, rel=0.15)
    diagonal = shape.rank * shape.width * (shape.width + 2)  # E tr(A)^2 + tr(A^2) + |A|^2 of A = Q^T K
    assert (found[:, 2] ** 2).mean() == pytest.approx(diagonal, rel=0.15)


def test_entries_correlate_as_computed() -> None:
    shape = SampleShape(side=96, width=400, rank=300)
    anchor, positive = draw_pair(shape, stream(7))
    found = np.corrcoef(anchor.flatten(), positive.flatten())[0, 1]
    assert shape.correlation == pytest.approx(1 / (1.16 * 1.01))
    assert found == pytest.approx(shape.correlation, abs=0.01)


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (5, 5), (6, 3)])
def test_bartlett_is_the_triangular_part_of_a_gaussian_matrix(rows: int, columns: int) -> None:
    random = stream(8)
    lower = torch.stack([bartlett(rows, columns, random) for _ in range(DRAWS)])
    assert torch.equal(lower, lower.tril()) and lower.shape[2] == min(rows, columns)
    gaussian = torch.stack([normal(rows, columns, random) for _ in range(DRAWS)])
    grams = [torch.einsum("nij,nkj->nik", x, x).flatten(1).numpy() for x in (lower, gaussian)]
    assert least_p(*grams) > 0.01


def test_streams_are_named_by_their_key() -> None:
    keys = [(1, 2), (1, 2), (2, 1), (1, 3), (1,), (0,)]
    a, b, *others = [float(normal(1, 1, stream(*key))) for key in keys]
    assert a == b and len({a, *others}) == 5


@pytest.mark.parametrize(("fresh", "parts"), [(True, 3), (False, 2)])
def test_triplets_come_standardised_and_in_order(fresh: bool, parts: int) -> None:
    shape = SampleShape(side=24, width=100, rank=90, inputs=2)
    batch = draw_triplets(shape, 2, stream(9), fresh=fresh)
    assert batch.shape == (2 * parts, 2, 24, 24)
    assert batch.mean((2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(batch.std((2, 3)), torch.ones(2 * parts, 2))
    table = np.corrcoef(batch.flatten(1).numpy())
    for i in range(2 * parts):
        for j in range(i):
            wanted = shape.correlation if i == j + 2 and i < 4 else 0.0
            assert table[i, j] == pytest.approx(wanted, abs=0.12)


@pytest.mark.parametrize("bad", [{"side": 9, "width": 8}, {"side": 0}, {"rank": 0}])
def test_impossible_samples_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="side"):
        SampleShape(**bad)  # type: ignore[arg-type]
