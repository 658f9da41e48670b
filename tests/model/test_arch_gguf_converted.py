"""A model of transformers and its GGUF copy have the same canonical weights, where llama.cpp rearranges them too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huref.model.arch import CanonicalWeights, open_weights
from huref.model.source import open_checkpoint
from kit.gguf_convert import Converted, convert, save
from kit.gguf_converted import MODELS


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{model.classes}-{MODELS.index(model)}")
def test_the_gguf_copy_agrees(model: Converted, tmp_path: Path) -> None:
    save(model, tmp_path)
    path = convert(model, tmp_path, tmp_path / "copy.gguf")
    with open_checkpoint(tmp_path) as a, open_checkpoint(path) as b:
        assert_same(open_weights(a), open_weights(b))


def assert_same(a: CanonicalWeights, b: CanonicalWeights) -> None:
    assert a.geometry == b.geometry
    assert a.architecture.norm == b.architecture.norm
    assert a.architecture.gated == b.architecture.gated
    assert set(a.names()) == set(b.names())
    for name in a.names():
        assert a.shape(name) == b.shape(name), name
        assert np.allclose(a.read(name), b.read(name), rtol=0, atol=1e-6), name
    for layer in range(a.geometry.n_layers):
        for part, role in (("attention", "o"), ("feed_forward", "down")):
            assert a.has(layer, role) == b.has(layer, role)
            if a.has(layer, role):
                left, right = (vars(getattr(weights, part)(layer)) for weights in (a, b))
                for key, tensor in left.items():
                    assert (tensor is None) == (right[key] is None), key
                    assert tensor is None or np.allclose(tensor, right[key], rtol=1e-5, atol=1e-5), key
