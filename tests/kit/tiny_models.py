"""Tiny random models of every family that transformers knows, saved in any of the three formats.

The weights are random and so are norm gains and biases, so that a forgotten gain, bias or transposition
changes the result. Everything is float32, built in memory, and the same for the same name.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

VOCAB = 96


@dataclass(frozen=True)
class Tiny:
    """One tiny model: its transformers class prefix, its family file, and the configuration."""

    classes: str
    family: str
    config: dict[str, Any]
    head: str = "ForCausalLM"
    has_gguf: bool = True
    gguf_family: str = ""  # where llama.cpp's name for it leads to another file
    attention: str = "eager"


_LLAMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
_GPT = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}


def _llama(**changes: Any) -> dict[str, Any]:
    return {**_LLAMA, **changes}


def _experts(**changes: Any) -> dict[str, Any]:
    return {**_LLAMA, "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 16, **changes}


def _gpt(**changes: Any) -> dict[str, Any]:
    return {**_GPT, **changes}


def _wide(**changes: Any) -> dict[str, Any]:
    common = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**common, "max_position_embeddings": 64, **changes}


MODELS: dict[str, Tiny] = {
    "llama": Tiny("Llama", "llama", _llama()),
    "llama-bias-tied": Tiny(
        "Llama", "llama", _llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=12)
    ),
    "mistral": Tiny("Mistral", "llama", _llama()),
    "ministral": Tiny("Ministral", "llama", _llama(layer_types=["full_attention"] * 2, head_dim=12), has_gguf=False),
    "ministral3": Tiny(
        "Ministral3",
        "llama",
        _llama(
            head_dim=12,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 64,
            },
        ),
    ),
    "seed-oss": Tiny("SeedOss", "seed_oss", _llama(head_dim=12, attention_out_bias=True)),
    "smollm3": Tiny("SmolLM3", "llama", _llama(no_rope_layers=[1, 0])),
    "granite": Tiny(
        "Granite",
        "llama",
        _llama(embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0),
    ),
    "qwen2": Tiny("Qwen2", "qwen2", _llama()),
    "qwen3": Tiny("Qwen3", "qwen2", _llama(head_dim=12)),
    "olmo": Tiny("Olmo", "olmo", _llama(clip_qkv=None)),
    "olmo2": Tiny("Olmo2", "olmo2", _llama()),
    "olmo3": Tiny("Olmo3", "olmo2", _llama(layer_types=["sliding_attention", "full_attention"])),
    "stablelm": Tiny("StableLm", "stablelm", _llama(use_qkv_bias=True, partial_rotary_factor=0.5)),
    "stablelm-parallel": Tiny("StableLm", "stablelm", _llama(use_parallel_residual=True)),
    "starcoder2": Tiny("Starcoder2", "starcoder2", _llama(tie_word_embeddings=True)),
    "cohere": Tiny("Cohere", "cohere", _llama(tie_word_embeddings=True, logit_scale=0.5)),
    "cohere-qk-norm": Tiny("Cohere", "cohere", _llama(tie_word_embeddings=True, use_qk_norm=True)),
    "cohere2": Tiny(
        "Cohere2",
        "cohere",
        _llama(tie_word_embeddings=True, head_dim=12, layer_types=["sliding_attention", "full_attention"]),
    ),
    "glm": Tiny("Glm", "glm", _llama(head_dim=8, attention_bias=True), gguf_family="chatglm"),
    "glm4": Tiny("Glm4", "glm", _llama(head_dim=8, attention_bias=True)),
    "gemma": Tiny("Gemma", "gemma", _llama(num_key_value_heads=1, head_dim=16, tie_word_embeddings=True)),
    "gemma2": Tiny("Gemma2", "gemma2", _llama(head_dim=16, query_pre_attn_scalar=12, tie_word_embeddings=True)),
    "gemma3": Tiny(
        "Gemma3",
        "gemma3",
        _llama(
            head_dim=16,
            query_pre_attn_scalar=12,
            tie_word_embeddings=True,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "gpt2": Tiny("GPT2", "gpt2", _gpt(), head="LMHeadModel"),
    "starcoder": Tiny("GPTBigCode", "gpt_bigcode", _gpt(multi_query=True)),
    "santacoder-mha": Tiny("GPTBigCode", "gpt_bigcode", _gpt(multi_query=False), has_gguf=False),
    "gpt-neox": Tiny("GPTNeoX", "gpt_neox", _wide(intermediate_size=56, rotary_pct=0.5)),
    "gpt-neox-serial": Tiny("GPTNeoX", "gpt_neox", _wide(intermediate_size=56, use_parallel_residual=False)),
    "opt": Tiny("OPT", "opt", _wide(ffn_dim=48, word_embed_proj_dim=32), has_gguf=False),
    "galactica": Tiny(
        "OPT",
        "opt",
        _wide(ffn_dim=48, word_embed_proj_dim=32, enable_bias=False, layer_norm_elementwise_affine=False),
        has_gguf=False,
    ),
    "opt-350m": Tiny(
        "OPT",
        "opt_post_norm",
        _wide(ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False),
        has_gguf=False,
    ),
    "gptj": Tiny("GPTJ", "gptj", _gpt(rotary_dim=4), has_gguf=False),
    "gpt-neo": Tiny(
        "GPTNeo",
        "gpt_neo",
        {
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "intermediate_size": 48,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
        },
        has_gguf=False,
    ),
    "bloom": Tiny("Bloom", "bloom", {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon-7b": Tiny("Falcon", "falcon", _wide(multi_query=True, parallel_attn=True, bias=False)),
    "falcon-40b": Tiny("Falcon", "falcon", _wide(num_kv_heads=2, bias=False, new_decoder_architecture=True)),
    "falcon-11b": Tiny(
        "Falcon",
        "falcon",
        _wide(num_kv_heads=2, bias=False, new_decoder_architecture=True, num_ln_in_parallel_attn=1),
    ),
    "falcon-rw": Tiny(
        "Falcon",
        "falcon",
        _wide(multi_query=False, parallel_attn=False, bias=True, alibi=True),
        has_gguf=False,
        attention="sdpa",  # in transformers 5.23 the eager path adds ALiBi twice
    ),
    "mpt": Tiny("Mpt", "mpt", {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}),
    "phi": Tiny("Phi", "phi", _llama(num_key_value_heads=4, partial_rotary_factor=0.5)),
    "phi3": Tiny("Phi3", "phi3", _llama()),
    "mixtral": Tiny("Mixtral", "mixtral", _llama(num_local_experts=4, num_experts_per_tok=2)),
    "qwen2-moe": Tiny("Qwen2Moe", "qwen2_moe", _experts(shared_expert_intermediate_size=24)),
    "qwen2-moe-mixed": Tiny(
        "Qwen2Moe",
        "qwen2_moe",
        _experts(shared_expert_intermediate_size=24, norm_topk_prob=True, mlp_only_layers=[0]),
        has_gguf=False,  # llama.cpp has no dense layers in these two families
    ),
    "qwen3-moe": Tiny("Qwen3Moe", "qwen3_moe", _experts(head_dim=12, norm_topk_prob=True)),
    "qwen3-moe-mixed": Tiny("Qwen3Moe", "qwen3_moe", _experts(head_dim=12, decoder_sparse_step=2), has_gguf=False),
    "olmoe": Tiny("Olmoe", "olmoe", _llama(num_experts=5, num_experts_per_tok=3, clip_qkv=None)),
}


@cache
def tiny_model(name: str) -> Any:
    """The transformers model, in evaluation mode, with every parameter random."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = MODELS[name]
    config_class = {"Gemma3": "Gemma3TextConfig"}.get(spec.classes, f"{spec.classes}Config")
    config = getattr(transformers, config_class)(**spec.config)
    config._attn_implementation = spec.attention
    torch.manual_seed(sum(name.encode()))
    model = getattr(transformers, f"{spec.classes}{spec.head}")(config).float().eval()
    model.set_attn_implementation(spec.attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.25)
    return model


def state_of(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What a checkpoint of the model holds: tensors as transformers saves them, and config.json."""
    folder = saved(name)
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


@cache
def saved(name: str) -> Path:
    """A folder, removed at exit, with the model as `save_pretrained` writes it."""
    folder = Path(tempfile.mkdtemp(prefix=f"huref-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_model(name).save_pretrained(folder)
    return folder
