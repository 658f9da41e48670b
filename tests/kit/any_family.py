"""Tiny random models of any type that transformers knows, saved by it: norms, biases and sinks are random too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

VOCAB = 320

_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "d_model": 32,
    "intermediate_size": 48,
    "d_ff": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "tie_word_embeddings": False,
}
"""Named as families name them; a configuration keeps what it does not know beside the rest."""


def save_tiny(model_type: str, folder: Path, head: str = "AutoModelForCausalLM", **changes: Any) -> Path:
    """Write a random model of a type; the same for the same arguments."""
    import transformers

    torch.manual_seed(7)
    known = set(transformers.AutoConfig.for_model(model_type).to_dict())
    sizes = {key: value for key, value in _SIZES.items() if key in known}
    config = transformers.AutoConfig.for_model(model_type, **{**sizes, **changes})
    kind = getattr(transformers, head)
    model = kind.from_config(config) if head.startswith("Auto") else kind(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim < 2:
                away = 0.0 if "bias" in name or not tensor.abs().min() > 0.5 else 1.0
                tensor.copy_(away + 0.3 * torch.randn_like(tensor))
    model.save_pretrained(folder)
    return folder
