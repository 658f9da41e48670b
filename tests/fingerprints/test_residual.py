"""Terms seen from the residual stream against the K x K matrices that define them, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.terms import Bilinear
from huref.numerics import products
from kit.dense_terms import correlation, dense, directions, stood_for

many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """All products in bfloat16, as where it is faster."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(products, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: False)


def plain(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    return dice.standard_normal((K, d))


def uncentred(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    """The mean row is twice as long as the others' deviation from it, as in trained embeddings."""
    return plain(dice, K, d) + 2 * dice.standard_normal(d)


def projected(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    """What a LayerNorm leaves: one direction is null."""
    rows = uncentred(dice, K, d)
    return rows - rows.mean(1, keepdims=True)


def duplicated(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    return uncentred(dice, K, d)[np.arange(K) % (K // 3 + 1)]


def deficient(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    rank = max(1, min(K, d) // 2)
    return plain(dice, K, rank) @ plain(dice, rank, d)


def near_deficient(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    return deficient(dice, K, d) + 10.0 ** -dice.integers(2, 8) * plain(dice, K, d)


def badly_scaled(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    """Columns from a millionth to a million, as after gains were absorbed."""
    return uncentred(dice, K, d) * 10.0 ** dice.uniform(-6, 6, d)


def far_from_zero(dice: np.random.Generator, K: int, d: int) -> np.ndarray:
    return plain(dice, K, d) + 100


ROWS = [plain, uncentred, projected, duplicated, deficient, near_deficient, badly_scaled, far_from_zero]


@dataclass(frozen=True)
class Side:
    """A model's embedding rows and one of its terms."""

    X: np.ndarray
    term: Bilinear
    is_centred: bool

    @property
    def frame(self) -> Frame:
        return Frame.of(self.X, is_centred=self.is_centred)

    @cached_property
    def dense(self) -> np.ndarray:
        rows = self.X.astype(np.float64)
        return dense(self.term, rows - rows.mean(0) if self.is_centred else rows)

    @cached_property
    def condition(self) -> float:
        """How much larger the products' summands are than what is left of them: float32 cannot know better."""
        parts = {name: value for name, value in vars(self.term).items() if isinstance(value, np.ndarray)}
        summands = dense(replace(self.term, **{name: np.abs(part) for name, part in parts.items()}), np.abs(self.X))
        return float(np.linalg.norm(summands) / np.linalg.norm(self.dense - self.dense.mean()))


def side(dice: np.random.Generator, rows: np.ndarray, r: int) -> Side:
    """A term of rank r or fewer, with gains and weights on the sides or without."""
    d = rows.shape[1]
    scales = np.abs(rows).mean(0) + 1e-30

    def gain(n: int) -> np.ndarray | None:
        return np.float32(1 + 0.3 * dice.standard_normal(n)) if dice.random() < 0.5 else None

    left, right = (np.float32(plain(dice, r, d) / scales) for _ in range(2))
    term = Bilinear(0, "qk", left, right, gain(d), gain(d), gain(r))
    return Side(np.float32(rows), term, bool(dice.random() < 0.5))


def rotated(a: Side, dice: np.random.Generator) -> Side:
    """The same function in another residual stream; gains go into the matrices."""
    turn, term = np.linalg.qr(plain(dice, a.X.shape[1], a.X.shape[1]))[0], a.term
    left, right = (
        np.float32((matrix if gain is None else matrix * gain) @ turn)
        for matrix, gain in ((term.left, term.left_gain), (term.right, term.right_gain))
    )
    return replace(a, X=np.float32(a.X @ turn), term=Bilinear(0, "qk", left, right, inner=term.inner))


def found(a: Side, b: Side) -> float:
    frames = a.frame, b.frame
    left, right = (ResidualTerm.of(x.term, frame) for x, frame in zip((a, b), frames, strict=True))
    P = frames[0].cosines(frames[1])
    return left.correlation(right, P)


def expected(a: Side, b: Side) -> object:
    """The correlation of two matrices, to 1e-5 unless float32's own error is larger."""
    return pytest.approx(correlation(a.dense, b.dense), abs=max(1e-5, 2.0**-22 * (a.condition + b.condition)))


sizes, ranks = st.integers(2, 40), st.integers(1, 80)


@pytest.mark.usefixtures("float32")
@given(st.sampled_from(ROWS), st.sampled_from(ROWS), st.integers(4, 48), sizes, sizes, ranks, ranks, st.integers(0))
@many
def test_strangers_of_any_shapes_correlate_as_their_matrices_do(
    make_a: object, make_b: object, K: int, d_a: int, d_b: int, r_a: int, r_b: int, seed: int
) -> None:
    """K above, below and equal to the widths, which differ; ranks small (factors) and large (T)."""
    dice = np.random.default_rng(seed)
    a, b = (side(dice, make(dice, K, d), r) for make, d, r in ((make_a, d_a, r_a), (make_b, d_b, r_b)))
    for left, right in ((a, b), (a, a)):
        assert found(left, right) == expected(left, right)
        assert found(right, left) == expected(left, right)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("make", ROWS, ids=lambda make: make.__name__)
@given(K=st.integers(4, 48), d=sizes, r=ranks, noise=st.floats(0, 0.03), seed=st.integers(0))
@many
def test_near_copies_correlate_as_their_matrices_do(
    make: object, K: int, d: int, r: int, noise: float, seed: int
) -> None:
    """Correlations of 0.999 to 1, in the same stream and in one that was rotated."""
    dice = np.random.default_rng(seed)
    a = side(dice, make(dice, K, d), r)
    left = np.float32(a.term.left * (1 + noise * plain(dice, r, d)))
    b = replace(a, term=replace(a.term, left=left))
    for other in (b, rotated(b, dice)):
        assert found(a, other) == expected(a, other)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("make", ROWS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("K", "d", "r"), [(60, 20, 5), (60, 20, 30), (20, 60, 5), (20, 60, 30), (30, 30, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_a_frame_and_a_term_stand_for_their_matrix(make: object, K: int, d: int, r: int, seed: int) -> None:
    a = side(np.random.default_rng(seed), make(np.random.default_rng([seed, 1]), K, d), r)
    frame, M = a.frame, a.dense
    Q, rows = directions(frame), a.X.astype(np.float64)
    scale = np.abs(rows).max(0) + 1e-30
    np.testing.assert_allclose((Q @ frame.R) / scale, (rows - rows.mean(0)) / scale, atol=1e-6)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-3)
    found = stood_for(ResidualTerm.of(a.term, frame), frame)
    np.testing.assert_allclose(found, M - M.mean(), rtol=0, atol=2e-6 * np.abs(M).max())


def test_each_way_to_make_a_frame_is_taken() -> None:
    """Cholesky, Householder, and none where tokens are fewer than dimensions; scales of columns do not decide."""
    dice = np.random.default_rng(0)

    def way(rows: np.ndarray) -> tuple[bool, bool]:
        frame = Frame.of(np.float32(rows))
        return frame.span is not None, frame.inverse is not None

    for make in (plain, uncentred, badly_scaled):
        assert way(make(dice, 60, 20)) == (True, True)
    for make in (projected, deficient):
        assert way(make(dice, 60, 20)) == (True, False)
    assert way(plain(dice, 20, 20)) == way(plain(dice, 20, 60)) == (False, False)


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("K", [20, 60])
def test_constant_terms_are_like_nothing(K: int) -> None:
    """0 where there is nothing to correlate: zero weights, or one row for all tokens, whatever its length."""
    dice = np.random.default_rng(3)
    a = side(dice, uncentred(dice, K, 30), 8)
    zero = replace(a, term=replace(a.term, left=np.zeros_like(a.term.left)))
    same = replace(a, X=np.repeat(a.X[:1], K, axis=0))
    for other in (zero, same):
        assert found(a, other) == found(other, a) == found(other, other) == 0.0


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("make", [plain, uncentred, projected], ids=lambda make: make.__name__)
@pytest.mark.parametrize(("K", "d", "r"), [(1024, 256, 64), (1024, 256, 1024), (512, 512, 96), (512, 600, 600)])
@pytest.mark.parametrize("is_centred", [True, False])
def test_error_of_bfloat16_products(make: object, K: int, d: int, r: int, is_centred: bool) -> None:
    """At most 2e-3 between strangers and 1e-4 between near copies."""
    dice = np.random.default_rng(K + r)
    a, b = (replace(side(dice, make(dice, K, d), r), is_centred=is_centred) for _ in range(2))
    assert found(a, b) == pytest.approx(correlation(a.dense, b.dense), abs=2e-3)
    for noise in (0.0, 0.1):
        left = np.float32(a.term.left * (1 + noise * plain(dice, r, d)))
        copy = replace(a, term=replace(a.term, left=left))
        for other in (copy, rotated(copy, dice)):
            assert found(a, other) == pytest.approx(correlation(a.dense, other.dense), abs=1e-4)
