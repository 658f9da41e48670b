"""A random Llama as Hugging Face stores it, with a real tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@cache
def tokenizer_json(n_tokens: int) -> str:
    """A byte-level BPE tokenizer with `n_tokens` entries, two of them special."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in "lmnrst"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(words)] * 3, trainer)
    assert tokenizer.get_vocab_size() == n_tokens
    return tokenizer.to_str()


@dataclass(frozen=True)
class TinyLlama:
    """A random Llama checkpoint, 32 wide, of `n_layers` layers and `n_tokens` tokens, as Hugging Face stores it."""

    seed: int = 0
    n_tokens: int = 400
    n_layers: int = 3
    width: int = 32
    noise: float = 0.0
    dtype: str = "float32"

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": self.n_tokens,
            "tie_word_embeddings": False,
        }

    def tensors(self) -> dict[str, Any]:
        import torch

        d, f = self.width, 2 * self.width
        shapes = {"model.embed_tokens": (self.n_tokens, d), "model.norm": (d,), "lm_head": (self.n_tokens, d)}
        for layer in range(self.n_layers):
            for role, shape in {
                "self_attn.q_proj": (d, d),
                "self_attn.k_proj": (d // 2, d),
                "self_attn.v_proj": (d // 2, d),
                "self_attn.o_proj": (d, d),
                "mlp.gate_proj": (f, d),
                "mlp.up_proj": (f, d),
                "mlp.down_proj": (d, f),
                "input_layernorm": (d,),
                "post_attention_layernorm": (d,),
            }.items():
                shapes[f"model.layers.{layer}.{role}"] = shape
        random = torch.Generator().manual_seed(self.seed)
        tensors = {f"{name}.weight": torch.randn(shape, generator=random) for name, shape in shapes.items()}
        added = torch.Generator().manual_seed(self.seed + 1000)
        return {
            name: (t + self.noise * torch.randn(t.shape, generator=added)).to(getattr(torch, self.dtype))
            for name, t in tensors.items()
        }

    def save(self, folder: Path) -> Path:
        """Write the checkpoint and its tokenizer."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        save_file(self.tensors(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "tokenizer.json").write_text(tokenizer_json(self.n_tokens))
        return folder
