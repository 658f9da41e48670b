"""Mean pooling by the collapsed route equals the official one over full K x K matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import UsageError
from huref.fingerprints.pooling import mean_pooling, row_means
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import layer_terms, token_embeddings
from huref.numerics.arrays import float32
from kit.symmetries import random_weights

PAPER = Recipe(name="paper", encoder="mean")


def official(matrices: list[np.ndarray]) -> np.ndarray:
    """The paper's: stack the six raw terms, view(512, -1), mean, standardise with n - 1."""
    bands = np.stack(matrices).reshape(512, -1).mean(1)
    return (bands - bands.mean()) / bands.std(ddof=1)


@given(seed=st.integers(0, 10_000), gated=st.booleans())
@settings(max_examples=8, deadline=None)
def test_collapsed_equals_dense(seed: int, gated: bool) -> None:
    weights = random_weights(seed, gated=gated)
    X = token_embeddings(weights, np.arange(256), PAPER)
    terms = [term for layer in (0, 1) for term in layer_terms(weights, layer, PAPER)]
    dense = [(X @ float32(t.left).T @ (X @ float32(t.right).T).T).astype(np.float64) for t in terms]
    np.testing.assert_allclose(mean_pooling(terms, X), official(dense), atol=2e-5)
    np.testing.assert_allclose(row_means(terms[0], X), dense[0].mean(1), atol=1e-4 * abs(dense[0]).max())


def test_bands_straddle_two_terms_as_in_the_official_view() -> None:
    """256 tokens: 3 rows a band, and 256 is no multiple of 3."""
    weights = random_weights(1)
    X = token_embeddings(weights, np.arange(256), PAPER)
    terms = [term for layer in (0, 1) for term in layer_terms(weights, layer, PAPER)]
    means = np.concatenate([row_means(term, X) for term in terms])
    band = means[255:258].mean()
    vector = mean_pooling(terms, X)
    bands = means.reshape(512, 3).mean(1)
    assert vector[85] == pytest.approx((band - bands.mean()) / bands.std(ddof=1), abs=1e-4)


def test_rows_that_do_not_fall_into_bands_are_refused() -> None:
    weights = random_weights(2)
    X = token_embeddings(weights, np.arange(300), PAPER)
    with pytest.raises(UsageError, match="512 equal bands"):
        mean_pooling(layer_terms(weights, 0, PAPER), X)


def test_mean_pooling_of_centred_terms_is_refused() -> None:
    with pytest.raises(UsageError, match="paper recipe"):
        Recipe(encoder="mean")
