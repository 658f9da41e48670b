"""Laws of the distances between samples: unbiased, with an honest error, and as their papers define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import UsageError
from huref_lab.pictures.sample_distances import distances, kernel_distance, nearest, precision_recall


def gaussian(rng: np.random.Generator, rows: int, mean: np.ndarray) -> np.ndarray:
    return rng.standard_normal((rows, len(mean))) + mean


def expected_kernel(mu: np.ndarray, nu: np.ndarray) -> float:
    """E (x.y / d + 1)^3 for independent x ~ N(mu, I) and y ~ N(nu, I), by the moments of x.y."""
    d, inner, m, n = len(mu), mu @ nu, mu @ mu, nu @ nu
    second = d + m + n + inner**2
    third = inner**3 + 3 * inner * (m + n + d + 2)
    return float(1 + 3 * inner / d + 3 * second / d**2 + third / d**3)


def test_the_kernel_distance_is_unbiased_and_its_error_is_right() -> None:
    rng = np.random.default_rng(0)
    mu, nu = np.array([0.0, 0.5, 0.0]), np.array([0.6, 0.0, -0.3])
    true = expected_kernel(mu, mu) + expected_kernel(nu, nu) - 2 * expected_kernel(mu, nu)
    found = [kernel_distance(gaussian(rng, 20, mu), gaussian(rng, 14, nu)) for _ in range(1500)]
    values, errors = (np.array([getattr(f, part) for f in found]) for part in ("value", "error"))
    assert abs(values.mean() - true) < 4 * values.std() / np.sqrt(len(values))
    assert 0.9 * values.std() < np.sqrt((errors**2).mean()) < 1.25 * values.std()
    assert abs(values.mean() - true) < 0.05 * true  # a biased estimate would be off by about a third


def test_it_is_zero_on_average_between_samples_of_one_distribution() -> None:
    rng = np.random.default_rng(1)
    values = np.array([kernel_distance(*(gaussian(rng, n, np.ones(4)) for n in (12, 30))).value for _ in range(1500)])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert (values < 0).mean() > 0.3


def test_it_is_the_mean_over_pairs_and_the_error_leaves_one_out() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((5, 6)), rng.standard_normal((4, 6)) + 0.5

    def plain(a: np.ndarray, b: np.ndarray) -> float:
        def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
            return float(np.mean([(x @ y / 6 + 1) ** 3 for x, y in pairs]))

        within = [[(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j] for s in (a, b)]
        return mean(within[0]) + mean(within[1]) - 2 * mean([(x, y) for x in a for y in b])

    found = kernel_distance(a, b)
    assert found.value == pytest.approx(plain(a, b), abs=1e-12)
    left_a = np.array([plain(np.delete(a, k, 0), b) for k in range(5)])
    left_b = np.array([plain(a, np.delete(b, k, 0)) for k in range(4)])
    variance = 4 / 5 * ((left_a - left_a.mean()) ** 2).sum() + 3 / 4 * ((left_b - left_b.mean()) ** 2).sum()
    assert found.error == pytest.approx(np.sqrt(variance), abs=1e-12)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 9), m=st.integers(3, 9))
def test_order_of_samples_and_rows_does_not_matter(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, 5)), rng.standard_normal((m, 5))
    found = kernel_distance(a, b)
    for other in (kernel_distance(b, a), kernel_distance(rng.permutation(a), rng.permutation(b))):
        assert (other.value, other.error) == pytest.approx((found.value, found.error), abs=1e-9)


def test_precision_and_recall_of_samples_that_are_equal_apart_or_collapsed() -> None:
    rng = np.random.default_rng(3)
    real = rng.standard_normal((200, 4))
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real + 100, real) == (0.0, 0.0)
    collapsed = real[:1] + 1e-3 * rng.standard_normal((200, 4))
    precision, recall = precision_recall(collapsed, real)
    assert precision == 1.0 and recall <= 0.01
    scattered = np.concatenate([real, real + 50])
    precision, recall = precision_recall(scattered, real)
    assert precision == pytest.approx(0.5, abs=0.01) and recall == 1.0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 3))
def test_precision_is_membership_in_a_union_of_balls(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    made, real = rng.standard_normal((8, 2)), rng.standard_normal((7, 2))
    inside = 0
    for x in made:
        for r in real:
            radius = sorted(np.linalg.norm(r - other) for other in real)[k]
            if np.linalg.norm(x - r) <= radius:
                inside += 1
                break
    precision, _ = precision_recall(made, real, k)
    assert precision == inside / 8
    assert precision_recall(real, made, k)[1] == precision


def test_nearest_rows_come_in_order_and_a_row_is_not_its_own_neighbour() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((9, 3))
    order, distance = nearest(a, b, 4)
    plain = np.array([[np.linalg.norm(x - y) for y in b] for x in a])
    np.testing.assert_allclose(distances(a, b), plain, atol=1e-9)
    np.testing.assert_allclose(distance, np.sort(plain, axis=1)[:, :4], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(plain, order, axis=1), distance, atol=1e-9)
    own, _ = nearest(a, a, 2, is_same=True)
    assert all(k not in own[k] for k in range(6))


@pytest.mark.parametrize(
    "shapes", [((2, 4), (9, 4)), ((9, 4), (2, 4)), ((9, 4), (9, 5)), ((9,), (9, 4)), ((0, 4), (9, 4))]
)
def test_samples_that_cannot_be_compared_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (np.zeros(shape) for shape in shapes)
    with pytest.raises(UsageError, match="two samples cannot be compared"):
        kernel_distance(a, b)
    with pytest.raises(UsageError, match="two samples cannot be compared"):
        precision_recall(a, b)
