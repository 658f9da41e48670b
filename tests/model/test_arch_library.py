"""Sizes that config.json leaves to the library: the table is its own, and models saved without them are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from huref.errors import InputError
from huref.model.arch import open_weights
from huref.model.arch.library import library_sizes
from huref.model.source import open_checkpoint
from kit.tiny_llama import TinyLlama

TABLE = Path(__file__).parents[2] / "src/huref/model/arch/data/library/sizes.yaml"


@pytest.mark.parametrize("model_type", sorted(yaml.safe_load(TABLE.read_text())))
def test_the_table_is_the_librarys(model_type: str) -> None:
    config = CONFIG_MAPPING[model_type]
    assert {key: getattr(config, key) for key in library_sizes(model_type)} == library_sizes(model_type)


def llava_like(folder: Path, text: dict[str, object]) -> Path:
    """LLaVA 1.5 as the hub has it: the text model of 32 heads says neither its width nor its heads."""
    model = TinyLlama(width=128, n_layers=2)
    state = {f"language_model.{name}": tensor for name, tensor in model.tensors().items()}
    for name in list(state):
        if "k_proj" in name or "v_proj" in name:  # as many as query heads
            state[name] = torch.randn(128, 128)
    state["multi_modal_projector.linear_1.weight"] = torch.zeros(8, 8)
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": text}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_section_without_heads_has_the_librarys(tmp_path: Path) -> None:
    text = {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "vocab_size": 400,
    }
    with open_checkpoint(llava_like(tmp_path / "m", text)) as checkpoint:
        geometry = open_weights(checkpoint).geometry
    assert (geometry.n_heads, geometry.n_kv_heads, geometry.head_dim) == (32, 32, 4)


def test_a_default_that_the_shapes_contradict_is_refused(tmp_path: Path) -> None:
    folder = llava_like(tmp_path / "m", {"model_type": "llama"})
    with open_checkpoint(folder) as checkpoint, pytest.raises(InputError):
        open_weights(checkpoint)
