"""The same model in three file formats has the same canonical weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from huref.demo.tensors import as_tensor
from huref.model.arch import CanonicalWeights, open_weights
from huref.model.source import open_checkpoint
from kit.gguf_export import write_gguf
from kit.tiny_models import MODELS, saved, state_of


def assert_same(a: CanonicalWeights, b: CanonicalWeights) -> None:
    assert a.geometry == b.geometry
    assert set(a.names()) == set(b.names())
    for name in a.names():
        assert a.shape(name) == b.shape(name), name
        assert torch.equal(as_tensor(a.read(name)), as_tensor(b.read(name))), name
    for layer in range(a.geometry.n_layers):
        for block in ("attention", "feed_forward"):
            left, right = (vars(getattr(weights, block)(layer)) for weights in (a, b))
            for key, tensor in left.items():
                assert (tensor is None) == (right[key] is None), key
                assert tensor is None or torch.equal(as_tensor(tensor), as_tensor(right[key])), key


@pytest.mark.parametrize("name", MODELS)
def test_a_pickled_copy_agrees(name: str, tmp_path: Path) -> None:
    state, _ = state_of(name)
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((saved(name) / "config.json").read_bytes())
    with open_checkpoint(saved(name)) as a, open_checkpoint(tmp_path) as b:
        assert_same(open_weights(a), open_weights(b))


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.has_gguf])
def test_a_gguf_copy_agrees(name: str, tmp_path: Path) -> None:
    state, config = state_of(name)
    path = write_gguf(tmp_path / "model.gguf", {key: w.numpy() for key, w in state.items()}, config)
    with open_checkpoint(saved(name)) as a, open_checkpoint(path) as b:
        weights = open_weights(b)
        assert weights.architecture.name == (MODELS[name].gguf_family or MODELS[name].family)
        assert_same(open_weights(a), weights)
