"""Tiny Llamas whose linear layers are packed: folders as quantisers write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from huref.files.safetensors_writer import write_safetensors
from kit.checkpoints import VOCAB, llama_config, write_tokenizer
from kit.packers import Packed

D, F, HEADS, KV, HEAD_DIM, LAYERS = 128, 256, 4, 2, 32, 2


def plain_llama(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under their Hugging Face names, float32."""
    dice = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (dice.standard_normal(shape) * shape[-1] ** -0.5).astype(np.float32)

    state = {"model.embed_tokens.weight": normal(VOCAB, D), "model.norm.weight": 1 + normal(D)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        sizes = {
            **{
                "q": (HEADS * HEAD_DIM, D),
                "k": (KV * HEAD_DIM, D),
                "v": (KV * HEAD_DIM, D),
                "o": (D, HEADS * HEAD_DIM),
            },
            **{"gate": (F, D), "up": (F, D), "down": (D, F)},
        }
        for role, shape in sizes.items():
            state[f"{at}{'self_attn' if role in 'qkvo' else 'mlp'}.{role}_proj.weight"] = normal(*shape)
        state |= {f"{at}{norm}_layernorm.weight": 1 + normal(D) for norm in ("input", "post_attention")}
    return state


def save_packed(
    folder: Path, pack: Callable[[np.ndarray], Packed] | None = None, state: dict[str, np.ndarray] | None = None
) -> Path:
    """Write a folder: every `_proj` packed, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    config = llama_config(LAYERS) | {
        "hidden_size": D,
        "intermediate_size": F,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "head_dim": HEAD_DIM,
    }
    for name, weight in (plain_llama() if state is None else state).items():
        if pack is None or "_proj" not in name:
            tensors[name] = weight
            continue
        packed = pack(weight)
        tensors |= {f"{name.removesuffix('.weight')}{ending}": tensor for ending, tensor in packed.tensors.items()}
        config |= packed.config
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, list(range(VOCAB)))
    return folder
