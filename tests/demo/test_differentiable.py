"""The pass by torch is the one by numpy; its loss and its gradients are those of transformers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from huref.attacks import logit_error
from huref.demo.differentiable import TENSORS, learning, logits, next_token_loss, trained
from huref.demo.tensors import as_tensor
from huref.forward import passes
from huref.forward.checkpoint_writer import stored_name, write_checkpoint
from huref.forward.decoder import load_decoder
from huref.forward.operations import ACTIVATIONS, ARRAYS
from huref.model.arch import open_weights
from huref.numerics.arrays import float32
from kit.llamas import tiny_llama
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import MODELS, state_of

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 35], [5, 3, 5, 8, 9, 7, 9, 3, 2, 38]])
TOKENS = torch.from_numpy(IDS)
WIDE = st.floats(-1e4, 1e4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_tensors_and_arrays_give_the_same_logits_in_every_family(name: str, dtype: type, within: float) -> None:
    decoder = load_decoder(open_weights(MemoryCheckpoint(*state_of(name))), dtype)
    by_torch = logits(decoder.with_each(as_tensor), TOKENS).numpy()
    by_numpy = passes.logits(decoder, IDS)
    assert by_numpy.dtype == by_torch.dtype == dtype
    assert logit_error(by_torch, by_numpy) < within


@given(x=st.lists(WIDE, min_size=1, max_size=9))
@pytest.mark.parametrize("name", [*sorted(set(ACTIVATIONS.values())), "sigmoid", "tanh", "softmax"])
def test_what_arrays_do_of_their_own_is_what_tensors_do(name: str, x: list[float]) -> None:
    array = np.array([x, x[::-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = getattr(ARRAYS, name)(array)
    expected = getattr(TENSORS, name)(torch.from_numpy(array)).numpy()
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-15)


@given(x=st.lists(WIDE, min_size=4, max_size=4, unique=True), count=st.integers(0, 4))
def test_the_largest_are_kept_in_their_places(x: list[float], count: int) -> None:
    found = ARRAYS.largest(np.array([x]), count)
    assert np.array_equal(found, TENSORS.largest(torch.tensor([x], dtype=torch.float64), count).numpy())


@pytest.mark.parametrize("is_tied", [True, False])
def test_loss_and_gradients_are_those_of_transformers(is_tied: bool, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = tiny_llama(is_tied=is_tied).with_each(float32)
    folder = write_checkpoint(model, tmp_path / "model", {})
    network = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    expected = network(TOKENS, labels=TOKENS)
    expected.loss.backward()
    child = learning(model)
    loss = next_token_loss(child, TOKENS)
    loss.backward()
    assert logit_error(expected.logits.detach().numpy(), passes.logits(model, IDS)) < 1e-5
    assert float(loss.detach()) == pytest.approx(float(expected.loss.detach()), rel=1e-5)
    theirs = dict(network.named_parameters())
    for name, tensor in child.tensors.items():
        gradient = theirs[stored_name(name)].grad
        assert float((tensor.grad - gradient).norm() / gradient.norm()) < 1e-5, name


def test_bfloat16_is_for_computing_and_gradients_come_back_in_the_weights_type() -> None:
    child = learning(tiny_llama())
    loss = next_token_loss(child, TOKENS, torch.bfloat16)
    loss.backward()
    assert loss.dtype == torch.float32 and logits(child, TOKENS, torch.bfloat16).dtype == torch.bfloat16
    assert float(loss.detach()) == pytest.approx(float(next_token_loss(child, TOKENS).detach()), rel=0.02)
    assert all(t.grad is not None and t.grad.dtype == torch.float32 for t in child.tensors.values())


def test_what_learns_is_a_copy_and_comes_back_as_arrays() -> None:
    model = tiny_llama()
    child = learning(model)
    with torch.no_grad():
        child.tensors["embedding"].zero_()
    assert model.tensors["embedding"].any() and not trained(child).tensors["embedding"].any()
    assert {type(array) for array in trained(child).tensors.values()} == {np.ndarray}
