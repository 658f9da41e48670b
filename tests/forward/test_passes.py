"""The forward pass: its logits are those of a plain pass and transformers; what it cannot run or write is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huref.attacks import logit_error
from huref.errors import ArchitectureError
from huref.forward.checkpoint_writer import config_json, write_checkpoint
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.numerics.arrays import float32
from kit import numpy_forward
from kit.llamas import THETA, as_weights, tiny_llama, write_tiny_gguf
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import MODELS, saved, state_of

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5, 35], [5, 3, 5, 8, 9, 7, 9, 3, 2, 38]])


def load(path: Path) -> Decoder:
    with open_checkpoint(path) as checkpoint:
        return load_decoder(open_weights(checkpoint), np.float32)


def reference(folder: Path) -> np.ndarray:
    from transformers import LlamaForCausalLM

    network = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return network(torch.from_numpy(IDS)).logits.numpy()


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_llama_in_float64_is_that_of_numpy(is_tied: bool) -> None:
    model = tiny_llama(2, is_tied=is_tied)
    weights = as_weights(model)
    settings = numpy_forward.Settings(eps=model.settings.eps, thetas=(THETA,))
    expected = np.stack([numpy_forward.logits(weights, ids, settings) for ids in IDS])
    found = logits(load_decoder(weights), IDS)
    assert np.abs(found - expected).max() < 1e-12 * np.ptp(expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_family_in_float64_is_that_of_numpy(name: str) -> None:
    state, config = state_of(name)
    weights = open_weights(MemoryCheckpoint(state, config))
    settings = numpy_forward.settings_of(weights, config)
    expected = numpy_forward.logits(weights, IDS[0], settings)
    found = logits(load_decoder(weights), IDS[:1])[0]
    is_rounded = name.startswith("gemma") or name == "opt-350m"  # 1 + gamma, projected embeddings: read as float32
    within = 1e-6 if is_rounded else 1e-12
    assert np.abs(found - expected).max() < within * np.ptp(expected)


def test_a_checkpoint_that_transformers_wrote_reads_alike(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 500.0, "rms_norm_eps": 1e-3}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.2)).save_pretrained(tmp_path)
    assert logit_error(reference(tmp_path), logits(load(tmp_path), IDS)) < 1e-5


def test_a_gguf_has_the_settings_of_its_key_values(tmp_path: Path) -> None:
    model = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert (model.settings.eps, model.settings.rope_theta) == (pytest.approx(1e-6), 5000.0)
    folder = write_checkpoint(model, tmp_path / "model", {})
    assert logit_error(reference(folder), logits(model, IDS)) < 1e-5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.type", "linear"),
        ("llama.rope.scaling.factor", 4.0),
        ("llama.rope.scale_linear", 4.0),
        ("llama.final_logit_softcapping", 30.0),
        ("llama.attention.scale", 1.0),
        ("llama.embedding_scale", 12.0),
        ("llama.attention.temperature_scale", 0.1),
        ("llama.attention.layer_norm_rms_epsilon", None),
        ("rope_freqs.weight", np.ones(8, np.float32)),
    ],
)
def test_a_gguf_that_is_not_a_plain_llama_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    with open_checkpoint(write_tiny_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        tensors = {name: float32(checkpoint.read(name)) for name in checkpoint.tensors}
        said = {k: v for k, v in {**checkpoint.metadata, key: value}.items() if v is not None}
        tensors |= {key: value} if isinstance(value, np.ndarray) else {}
    weights = open_weights(MemoryCheckpoint(tensors, {}, "gguf", said))
    with pytest.raises(ArchitectureError, match="only models built like Llama"):
        load_decoder(weights)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.type", "none"),
        ("llama.rope.scaling.factor", 1.0),
        ("llama.logit_scale", 0.0),
        ("llama.logit_scale", 1.0),
        ("llama.attention.scale", float(np.float32(16**-0.5))),
    ],
)
def test_a_gguf_that_says_what_changes_nothing_is_a_plain_llama(key: str, value: Any, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with open_checkpoint(path) as checkpoint:
        tensors = {name: float32(checkpoint.read(name)) for name in checkpoint.tensors}
        weights = open_weights(MemoryCheckpoint(tensors, {}, "gguf", {**checkpoint.metadata, key: value}))
        assert weights.geometry.head_dim == 16
        assert load_decoder(weights).settings == load_decoder(open_weights(checkpoint)).settings


def test_more_experts_a_token_than_there_are_is_an_error_of_the_configuration() -> None:
    state, config = state_of("mixtral")
    with pytest.raises(ArchitectureError, match="more experts a token than there are"):
        load_decoder(open_weights(MemoryCheckpoint(state, {**config, "num_experts_per_tok": 9})))


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_llama_that_was_read_is_written_as_it_was(name: str, tmp_path: Path) -> None:
    first = load(saved(name))
    again = load(write_checkpoint(first, tmp_path / "again", {}))
    assert set(again.tensors) == set(first.tensors)
    assert all(np.array_equal(tensor, again.tensors[n]) for n, tensor in first.tensors.items())
    assert np.array_equal(logits(again, IDS), logits(first, IDS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_scaling": {"rope_type": "linear", "factor": 2}}, "rotations that are not the plain ones"),
        ({"logits_scaling": 2.0}, "logit_scale"),
    ],
)
def test_only_a_plain_llama_is_written_anew(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = tiny_llama()
    folder = write_checkpoint(model, tmp_path / "model", {})
    (folder / "config.json").write_text(json.dumps({**config_json(model, np.float32), **change}))
    with pytest.raises(ArchitectureError, match="built like Llama") as fault:
        write_checkpoint(load(folder), tmp_path / "again", {})
    assert fault.value.got == f"llama with {said}" and not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "llama-bias-tied", "smollm3"])
def test_no_other_family_is_written_anew(name: str) -> None:
    state, config = state_of(name)
    model = load_decoder(open_weights(MemoryCheckpoint(state, config)))
    with pytest.raises(ArchitectureError, match="built like Llama"):
        config_json(model, np.float32)
