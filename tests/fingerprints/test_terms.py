"""The invariant terms against their definitions, and under every rearrangement that we claim they survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import NotFiniteError
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import token_signs
from huref.fingerprints.terms import bilinear, centred, kinds_of, sketch_term, token_embeddings
from huref.numerics import products
from kit.dense_terms import compact, correlation, dense, dual, likeness, stood_for
from kit.symmetries import (
    SYMMETRIES,
    ArrayWeights,
    absorb_gains,
    random_weights,
    rotate_residual,
    scale_neurons,
)

DUAL, CANONICAL, PAPER = Recipe(), Recipe(name="canonical"), Recipe(name="paper")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 products: the laws are algebra; what bfloat16 costs is measured in test_products.py."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: False)


def matrix(weights: ArrayWeights, kind: str, layer: int, recipe: Recipe) -> np.ndarray:
    """M (K, K) of one term less the mean of its entries, as huref computes it."""
    return stood_for(*compact(weights, layer, kind, np.arange(300), recipe))


def test_paper_terms_equal_their_definition_head_by_head() -> None:
    weights = random_weights(1)
    w, X = {k: v.numpy() for k, v in weights.layers[1].items() if v is not None}, weights.X.numpy()
    qk = sum(X @ w["Wq"][i].T @ w["Wk"][i // 2] @ X.T for i in range(4))
    vo = sum(X @ w["Wv"][i // 2].T @ w["Wo"][i].T @ X.T for i in range(4))
    ffn = X @ (w["gate"] * w["up"]).T @ w["down"].T @ X.T
    for kind, expected in (("qk", qk), ("vo", vo), ("ffn", ffn)):
        M = expected - expected.mean()
        np.testing.assert_allclose(matrix(weights, kind, 1, PAPER), M, rtol=0, atol=2e-6 * abs(M).max())


def test_canonical_terms_equal_their_definition() -> None:
    weights = random_weights(2, norm="layer")
    w, X = {k: v.numpy() for k, v in weights.layers[0].items() if v is not None}, weights.X.numpy()
    d = X.shape[1]
    P, K = np.eye(d) - np.ones((d, d)) / d, len(X)
    X = (np.eye(K) - np.ones((K, K)) / K) @ X @ P
    Wq, Wk, Wv = (w[key] * w["attention_gain"] for key in ("Wq", "Wk", "Wv"))
    unit = w["down"] / np.linalg.norm(w["down"], axis=0)
    expected = {
        "qk": sum(X @ Wq[i].T @ Wk[i // 2] @ X.T for i in range(4)),
        "vo": sum(X @ Wv[i // 2].T @ w["Wo"][i].T @ X.T for i in range(4)),
        "gate_down": X @ (w["gate"] * w["ffn_gain"]).T @ unit.T @ X.T,
    }
    for kind, M in expected.items():
        np.testing.assert_allclose(matrix(weights, kind, 0, CANONICAL), M, rtol=0, atol=2e-6 * abs(M).max())


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("gated", [True, False])
def test_dual_terms_equal_their_definition(gated: bool, norm: str) -> None:
    weights = random_weights(3, gated=gated, norm=norm)
    w, X = {k: v.numpy() for k, v in weights.layers[0].items() if v is not None}, weights.X.numpy()
    d = X.shape[1]
    P = np.eye(d) - (np.ones((d, d)) / d if norm == "layer" else 0)
    D = dual(X @ P)
    Wq, Wk, Wv = (w[key] * w["attention_gain"] for key in ("Wq", "Wk", "Wv"))
    length = np.linalg.norm(D @ (w["gate"] * w["ffn_gain"]).T, axis=0) if gated else 1
    heads = [D @ Wv[i // 2].T @ w["Wo"][i].T @ D.T for i in range(4)]
    expected = {
        "qk": sum(np.linalg.norm(heads[i]) * (D @ Wq[i].T @ Wk[i // 2] @ D.T) for i in range(4)),
        "vo": sum(heads),
        "up_down": D @ ((w["up"] * w["ffn_gain"]).T * length) @ w["down"].T @ D.T,
    }
    for kind, M in expected.items():
        found = matrix(weights, kind, 0, DUAL)  # up to scale, which no cosine sees
        found, M = (part / np.linalg.norm(part) for part in (found, M))
        np.testing.assert_allclose(found, M, rtol=0, atol=2e-5 * abs(M).max())


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("recipe", [DUAL, CANONICAL], ids=["canonical-2", "canonical"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_canonical_terms_survive(recipe: Recipe, symmetry, gated: bool, norm: str, seed: int) -> None:
    weights = random_weights(seed % 1000, gated=gated, norm=norm)
    changed = symmetry(weights, np.random.default_rng(seed))
    for kind in kinds_of(recipe, gated):
        before, after = (matrix(w, kind, 1, recipe) for w in (weights, changed))
        assert correlation(before, after) > 1 - 1e-6, kind


@pytest.mark.parametrize("recipe", [DUAL, CANONICAL], ids=["canonical-2", "canonical"])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 6))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_canonical_terms_survive_any_composition(recipe: Recipe, seed: int, count: int) -> None:
    dice = np.random.default_rng(seed)
    weights = changed = random_weights(seed % 1000)
    for index in dice.integers(0, len(SYMMETRIES), count):
        changed = SYMMETRIES[index](changed, dice)
    for kind in kinds_of(recipe, True):
        assert correlation(matrix(weights, kind, 0, recipe), matrix(changed, kind, 0, recipe)) > 1 - 1e-6, kind


def test_what_the_paper_recipe_does_not_survive() -> None:
    """The defects that the canonical recipe mends: unfolded gains, and gate * up under a rotation."""
    weights, dice = random_weights(4), np.random.default_rng(0)
    absorbed, rotated = absorb_gains(weights, dice), rotate_residual(weights, dice)
    assert correlation(matrix(weights, "qk", 0, PAPER), matrix(absorbed, "qk", 0, PAPER)) < 0.99
    assert correlation(matrix(weights, "ffn", 0, PAPER), matrix(rotated, "ffn", 0, PAPER)) < 0.5


def test_a_sign_flip_of_neurons_destroys_gate_down_and_not_the_dual_term() -> None:
    weights = random_weights(5)
    signs = torch.from_numpy(np.random.default_rng(1).choice([-1.0, 1.0], 40))
    flipped = weights.map_layers(lambda w: {"up": w["up"] * signs[:, None], "down": w["down"] * signs})
    assert abs(correlation(*(matrix(w, "gate_down", 0, CANONICAL) for w in (weights, flipped)))) < 0.6
    assert correlation(*(matrix(w, "up_down", 0, DUAL) for w in (weights, flipped))) > 1 - 1e-6


def test_neurons_that_do_nothing_do_not_count_and_split_ones_count_once() -> None:
    """Zero gates, ups or downs, whatever the other rows hold; and a neuron as two, its output shared out."""
    weights, dice = random_weights(5), np.random.default_rng(1)

    def crowded(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        parts = {key: torch.from_numpy(dice.standard_normal((9, 24))) for key in ("gate", "up", "down")}
        for place, key in enumerate(parts):
            parts[key][3 * place : 3 * place + 3] = 0
        halves = torch.cat([0.3 * w["down"][:, :5], w["down"][:, 5:], parts["down"].T, 0.7 * w["down"][:, :5]], 1)
        joined = {key: torch.cat([w[key], parts[key], w[key][:5]]) for key in ("gate", "up")}
        return {**joined, "down": halves}

    assert correlation(*(matrix(w, "up_down", 0, DUAL) for w in (weights, weights.map_layers(crowded)))) > 1 - 1e-6


def test_heads_that_do_nothing_do_not_count_and_split_ones_count_once() -> None:
    """A KV group of silent heads, and a group twice with its output shared out."""
    weights, dice = random_weights(5), np.random.default_rng(1)

    def crowded(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        grown = {}
        for key, n in (("Wq", 2), ("Wk", 1), ("Wv", 1), ("Wo", 2)):  # of a group
            silent, share = torch.from_numpy(dice.standard_normal(w[key][:n].shape)), 1.0
            if key == "Wo":
                silent, share = torch.zeros_like(silent), 0.3
            twice = (1 - share or 1.0) * w[key][:n]
            grown[key] = torch.cat([share * w[key][:n], w[key][n:], silent, twice])
        return grown

    for kind in ("qk", "vo"):
        changed = weights.map_layers(crowded)
        assert correlation(matrix(weights, kind, 0, DUAL), matrix(changed, kind, 0, DUAL)) > 1 - 1e-6, kind


def test_what_no_token_shows_of_the_stream_does_not_count() -> None:
    """Dimensions in which embeddings and outputs are zero, and whatever reads them."""
    weights, dice = random_weights(5), np.random.default_rng(1)

    def widened(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        wide = {}
        for key in ("Wq", "Wk", "Wv", "gate", "up"):
            free = torch.from_numpy(dice.standard_normal((*w[key].shape[:-1], 2)))
            wide[key] = torch.cat([w[key], free], -1)
        for key in ("attention_gain", "ffn_gain"):
            wide[key] = torch.cat([w[key], torch.ones(2)])
        wide["down"] = torch.cat([w["down"], torch.zeros(2, w["down"].shape[1])])
        wide["Wo"] = torch.cat([w["Wo"], torch.zeros(len(w["Wo"]), 2, w["Wo"].shape[2])], 1)
        return wide

    changed = replace(weights.map_layers(widened), X=torch.cat([weights.X, torch.zeros(len(weights.X), 2)], 1))
    for kind in kinds_of(DUAL, True):
        assert correlation(matrix(weights, kind, 0, DUAL), matrix(changed, kind, 0, DUAL)) > 0.999, kind


def test_gate_down_without_unit_columns_would_not_survive_scaling() -> None:
    weights = random_weights(6)
    scaled = scale_neurons(weights, np.random.default_rng(2))

    def plain(w: ArrayWeights) -> np.ndarray:
        X = w.X.numpy()
        return X @ w.layers[0]["gate"].numpy().T @ w.layers[0]["down"].numpy().T @ X.T

    assert correlation(plain(weights), plain(scaled)) < 0.9


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_query_norms_undo_the_scale_of_a_head(seed: int, scale: float) -> None:
    dice = np.random.default_rng(seed)
    gains = {key: torch.from_numpy(1 + 0.2 * dice.normal(size=6)) for key in ("q_gain", "k_gain")}
    weights = random_weights(seed % 1000).map_layers(lambda w: gains)
    scaled = weights.map_layers(lambda w: {"Wq": torch.cat([w["Wq"][:1] * scale, w["Wq"][1:]])})
    for recipe in (DUAL, CANONICAL):
        assert correlation(matrix(weights, "qk", 0, recipe), matrix(scaled, "qk", 0, recipe)) > 1 - 1e-6


def test_mixing_queries_of_another_group_is_noticed() -> None:
    """Tiling KV heads instead of repeating each, as the official code does, pairs the wrong heads."""
    weights = random_weights(7)
    wrong = weights.map_layers(lambda w: {"Wk": w["Wk"].flip(0)})
    assert correlation(matrix(weights, "qk", 0, CANONICAL), matrix(wrong, "qk", 0, CANONICAL)) < 0.9


@pytest.mark.parametrize("recipe", [CANONICAL, PAPER], ids=["canonical", "paper"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_correlation_of_two_terms_is_numpys(recipe: Recipe, seed: int) -> None:
    a = random_weights(seed % 1000)
    noise = np.random.default_rng(seed)
    b = a.map_layers(lambda w: {"Wk": w["Wk"] + torch.from_numpy(noise.normal(size=w["Wk"].shape))})
    expected = correlation(*(_queries_with_keys(w, recipe) for w in (a, b)))
    assert likeness(a, b, 0, "qk", np.arange(300), recipe) == pytest.approx(expected, abs=1e-5)


def _queries_with_keys(weights: ArrayWeights, recipe: Recipe) -> np.ndarray:
    X = token_embeddings(weights, np.arange(300), recipe)
    return dense(bilinear(weights, 0, "qk", recipe), centred(X) if recipe.is_canonical else X)


def test_the_sketch_is_the_term_seen_through_the_signs() -> None:
    weights = random_weights(8)
    S1, S2 = token_signs([b"token %d" % k for k in range(300)], 16, "seed")
    X = centred(token_embeddings(weights, np.arange(300), CANONICAL))
    for kind in kinds_of(CANONICAL, True):
        term = bilinear(weights, 1, kind, CANONICAL)
        Y = sketch_term(term, S1 @ X, S2 @ X)
        expected = S1.astype(float) @ matrix(weights, kind, 1, CANONICAL) @ S2.T.astype(float)
        np.testing.assert_allclose(Y, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_canonical_terms_are_centred() -> None:
    for kind in kinds_of(CANONICAL, True):
        M = matrix(random_weights(9), kind, 0, CANONICAL)
        assert abs(M.mean(0)).max() < 1e-4 * abs(M).max() and abs(M.mean(1)).max() < 1e-4 * abs(M).max()


def test_nan_in_the_embedding_is_refused_by_name() -> None:
    weights = random_weights(10)
    broken = replace(weights, X=torch.where(torch.arange(300)[:, None] == 7, float("nan"), weights.X))
    with pytest.raises(NotFiniteError, match="embedding"):
        token_embeddings(broken, np.arange(300), CANONICAL)
