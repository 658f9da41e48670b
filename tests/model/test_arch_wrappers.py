"""Decoders inside multimodal models: the text half is found, the vision half is ignored by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from kit.numpy_forward import logits, settings_of

os.environ.setdefault("HF_HUB_OFFLINE", "1")
IDS = np.array([5, 17, 3, 88, 41, 41, 9])
TEXT = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
VISION: dict[str, int] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def _gemma3(t: Any) -> Any:
    text = {**TEXT, "layer_types": ["sliding_attention", "full_attention"]}
    vision = {**VISION, "model_type": "siglip_vision_model"}
    return t.Gemma3ForConditionalGeneration(
        t.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    )


def _llava(t: Any) -> Any:
    vision = t.CLIPVisionConfig(**VISION, projection_dim=16)
    return t.LlavaForConditionalGeneration(
        t.LlavaConfig(text_config=t.LlamaConfig(**TEXT), vision_config=vision, image_token_index=95)
    )


def _mistral3(t: Any) -> Any:
    text = t.MistralConfig(**TEXT)
    return t.Mistral3ForConditionalGeneration(
        t.Mistral3Config(text_config=text, vision_config=t.PixtralVisionConfig(**VISION), image_token_index=95)
    )


def _qwen2_vl(t: Any) -> Any:
    ropes = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 1}
    return t.Qwen2VLForConditionalGeneration(
        t.Qwen2VLConfig(text_config={**TEXT, "rope_parameters": ropes}, vision_config=vision)
    )


@pytest.mark.parametrize("build", [_gemma3, _llava, _mistral3, _qwen2_vl], ids=lambda build: build.__name__[1:])
def test_the_decoder_of_a_multimodal_model_predicts_text(build: Callable[[Any], Any], tmp_path: Path) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(3)
    model = build(transformers).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        expected = model(input_ids=torch.from_numpy(IDS)[None]).logits[0].double().numpy()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with open_checkpoint(tmp_path) as checkpoint:
        weights = open_weights(checkpoint)
        got = logits(weights, IDS, settings_of(weights, {**config, **config["text_config"]}))
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
