"""The dual frame against its definition in float64, and on embeddings that show little or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import huref
from huref.errors import CorruptFileError
from huref.fingerprints import dual as module
from huref.fingerprints.dual import DualFrame, dual_rows, solve
from huref.fingerprints.recipe import RIDGE
from kit.checkpoints import llama_state, save_llama
from kit.dense_terms import dual

SMALL = huref.Recipe(n_tokens=256)


def anisotropic(seed: int, K: int, d: int) -> np.ndarray:
    """Rows about a common mean, with singular values over two orders of magnitude."""
    dice = np.random.default_rng(seed)
    return np.float32(dice.standard_normal((K, d)) * np.geomspace(0.1, 10, d) + dice.standard_normal(d))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), K=st.integers(2, 80), d=st.integers(2, 40), ridge=st.sampled_from([0.03, 0.3, 3]))
def test_it_is_ridge_regression(seed: int, K: int, d: int, ridge: float) -> None:
    X = anisotropic(seed, K, d)
    signs = np.float32(np.random.default_rng(seed).choice([-1, 1], (8, K)))
    expected = signs @ dual(X, ridge) * np.sqrt(np.square(X - X.mean(0)).mean())  # the frame's rows are at size 1
    np.testing.assert_allclose(DualFrame.of(X, ridge).seen_by(signs), expected, atol=3e-4 * np.abs(expected).max())


@given(seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_a_rotation_of_the_stream_leaves_what_it_sees_alone(seed: int) -> None:
    X, dice = anisotropic(seed, 60, 16), np.random.default_rng(seed)
    R = np.linalg.qr(dice.standard_normal((16, 16)))[0]
    rows, signs = dice.standard_normal((5, 16)), np.float32(dice.choice([-1, 1], (8, 60)))
    before = DualFrame.of(X, RIDGE).seen_by(signs) @ rows.T
    after = DualFrame.of(np.float32(3.7 * X @ R), RIDGE).seen_by(signs) @ (rows @ R).T
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


@given(seed=st.integers(0, 999), K=st.sampled_from([10, 60]))
@settings(max_examples=10, deadline=None)
def test_it_has_the_span_of_the_rows_it_is_made_of(seed: int, K: int) -> None:
    """`D = Q (R G^-1)`, with any Q R = X."""
    X = anisotropic(seed, K, 16).astype(np.float64)
    X -= X.mean(0)
    Q, R = np.linalg.qr(X)
    np.testing.assert_allclose(Q @ dual_rows(np.float32(R), RIDGE), dual(X), atol=1e-4 * np.abs(dual(X)).max())


@pytest.mark.parametrize("wide", [10**9, 1], ids=["numpy", "scipy"])
@pytest.mark.parametrize("condition", [10.0, 1e5, 1e12])
def test_equations_of_any_condition_are_solved(condition: float, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where float32 is not enough, float64 takes over: the residual tells."""
    monkeypatch.setattr(module, "_WIDE", wide)
    dice = np.random.default_rng(0)
    R = np.linalg.qr(dice.standard_normal((40, 40)))[0]
    G = np.float32(R * np.geomspace(1, 1 / condition, 40) @ R.T)
    B = np.float32(dice.standard_normal((40, 3)))
    found = solve(G, B)
    assert np.isfinite(found).all()
    exact = np.linalg.solve(G.astype(np.float64), B.astype(np.float64))
    assert np.linalg.norm(G @ exact - B) < 1e-3 * np.linalg.norm(B)
    assert np.linalg.norm(found - exact) < 1e-2 * np.linalg.norm(exact)


def test_frames_over_the_same_tokens_carry_rows_from_stream_to_stream() -> None:
    X, Y, dice = anisotropic(1, 60, 16), anisotropic(2, 60, 9), np.random.default_rng(0)
    r, s, size = dice.standard_normal(16), dice.standard_normal(9), []
    for rows in (X, Y):
        size.append(np.sqrt(np.square(rows - rows.mean(0)).mean()))
    expected = size[0] * size[1] * (dual(X) @ r) @ (dual(Y) @ s)
    assert r @ DualFrame.of(X, RIDGE).across(DualFrame.of(Y, RIDGE)) @ s == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("rank", "told"), [(3, "lie in 3 of the stream's 32 directions"), (32, None)])
def test_embeddings_of_low_rank_are_defined_and_noted(tmp_path: Path, rank: int, told: str | None) -> None:
    state, dice = llama_state(1), torch.Generator().manual_seed(0)
    rows = state["model.embed_tokens.weight"]
    low = torch.randn(len(rows), rank, generator=dice) @ torch.randn(rank, 32, generator=dice)
    state["model.embed_tokens.weight"] = low
    made = huref.fingerprint(save_llama(tmp_path / "low", state=state), SMALL)
    assert np.isfinite(made.vector).all() and (told is None or any(told in note for note in made.notes))
    assert told is not None or made.notes == ()
    state["model.embed_tokens.weight"] = low * (1 + 1e-7 * torch.randn(low.shape, generator=dice))  # of full rank now
    again = huref.fingerprint(save_llama(tmp_path / "again", state=state), SMALL)
    assert made.similarity(again) > 0.9999  # nothing of it is noise from rounding


def test_fewer_tokens_than_dimensions_are_noted_and_a_subtracted_mean_is_not() -> None:
    signs = np.float32(np.random.default_rng(0).choice([-1, 1], (128, 60)))
    few, many = anisotropic(0, 60, 60), anisotropic(0, 60, 20)
    assert DualFrame.of(few, RIDGE).notes(signs) == (
        "60 tokens show at most 59 of the stream's 60 directions: no other one is seen",
    )
    assert DualFrame.of(many, RIDGE).notes(signs) == ()
    assert DualFrame.of(many - many.mean(1, keepdims=True), RIDGE).notes(signs) == ()


@pytest.mark.parametrize("spread", [0, 1e-9])
def test_one_row_for_all_tokens_is_refused(tmp_path: Path, spread: float) -> None:
    state = llama_state(1)
    rows = state["model.embed_tokens.weight"]
    noise = spread * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    state["model.embed_tokens.weight"] = rows[:1].expand_as(rows) * (1 + noise)
    with pytest.raises(CorruptFileError, match="all tokens have one embedding"):
        huref.fingerprint(save_llama(tmp_path / "one", state=state), SMALL)


def test_a_model_whose_layers_add_nothing_is_refused(tmp_path: Path) -> None:
    state = {k: v * ("o_proj" not in k and "down_proj" not in k) for k, v in llama_state(1).items()}
    with pytest.raises(CorruptFileError, match="no layer that was asked for adds anything"):
        huref.fingerprint(save_llama(tmp_path / "mute", state=state), SMALL)
