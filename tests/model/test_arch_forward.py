"""Canonical weights reproduce each family's own logits in an independent numpy forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from huref.model.arch import open_weights
from kit.memory_checkpoint import MemoryCheckpoint
from kit.numpy_forward import logits, settings_of
from kit.tiny_models import MODELS, state_of, tiny_model

IDS = np.array([5, 17, 3, 88, 41, 41, 9, 60, 23, 11])


@pytest.mark.parametrize("name", MODELS)
def test_numpy_forward_gives_the_logits_of_transformers(name: str) -> None:
    model = tiny_model(name)
    with torch.no_grad():
        expected = model(torch.from_numpy(IDS)[None]).logits[0].double().numpy()
    state, config = state_of(name)
    weights = open_weights(MemoryCheckpoint(state, config))
    assert weights.architecture.name == MODELS[name].family
    got = logits(weights, IDS, settings_of(weights, config))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
