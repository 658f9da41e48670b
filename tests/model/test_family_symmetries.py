"""For every family: what leaves its logits unchanged leaves its canonical terms unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import kinds_of
from huref.model.arch import open_weights
from kit.dense_terms import compact, stood_for
from kit.family_symmetries import SYMMETRIES, Changed, flip_neurons, permute_experts
from kit.memory_checkpoint import MemoryCheckpoint
from kit.numpy_forward import logits, settings_of
from kit.tiny_models import MODELS, state_of

IDS = np.array([5, 17, 3, 88, 41, 41, 9, 60])
RECIPES = Recipe(), Recipe("canonical")


def terms(weights: Changed) -> dict[str, np.ndarray]:
    gated = weights.architecture.gated
    return {
        f"{recipe.name} {kind}": stood_for(*compact(weights, 1, kind, np.arange(96), recipe))
        for recipe in RECIPES
        for kind in kinds_of(recipe, gated)
    }


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=2, deadline=None)
def test_terms_survive_what_the_model_survives(name: str, seed: int) -> None:
    state, config = state_of(name)
    original = Changed(open_weights(MemoryCheckpoint(state, config)))
    settings = settings_of(original.base, config)
    before, expected = logits(original, IDS, settings), terms(original)  # type: ignore[arg-type]
    applied = 0
    for index, symmetry in enumerate(SYMMETRIES):
        changed = symmetry(original, np.random.default_rng([seed, index]))
        if changed is None:
            continue
        applied += 1
        after = logits(changed, IDS, settings)  # type: ignore[arg-type]
        assert np.abs(after - before).max() < 1e-8 * np.abs(before).max(), f"{symmetry.__name__} changes the model"
        for kind, M in terms(changed).items():
            if kind == "canonical gate_down" and symmetry is flip_neurons:
                continue
            rho = np.corrcoef(M.ravel(), expected[kind].ravel())[0, 1]
            assert rho > 1 - 1e-5, f"{kind} does not survive {symmetry.__name__}: {rho}"
    assert applied >= 3


def test_neurons_do_not_change_experts_for_free() -> None:
    """The symmetries above are tight: shuffled over all experts, neurons answer to another router row."""
    state, config = state_of("mixtral")
    original = Changed(open_weights(MemoryCheckpoint(state, config)))
    settings = settings_of(original.base, config)
    before = logits(original, IDS, settings)  # type: ignore[arg-type]
    moved = permute_experts(original, np.random.default_rng(1))
    assert moved is not None
    for layer in range(2):
        moved.tensors[f"layers.{layer}.router"] = original.tensors[f"layers.{layer}.router"]
    after = logits(moved, IDS, settings)  # type: ignore[arg-type]
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()
