"""Writes a tiny model as GGUF the way llama.cpp's converters do, for tests.

Names come from the `gguf` package's own tables and the rearrangements are written down here from what the
converters do, so neither repeats what the architecture files say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Array = np.ndarray

ARCHITECTURES: dict[str, str] = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "mixtral": "LLAMA",
    "ministral3": "MISTRAL3",
    "smollm3": "SMOLLM3",
    "seed_oss": "SEED_OSS",
    "granite": "GRANITE",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "qwen2_moe": "QWEN2MOE",
    "qwen3_moe": "QWEN3MOE",
    "olmoe": "OLMOE",
    "olmo": "OLMO",
    "olmo2": "OLMO2",
    "olmo3": "OLMO2",
    "stablelm": "STABLELM",
    "starcoder2": "STARCODER2",
    "cohere": "COMMAND_R",
    "cohere2": "COHERE2",
    "glm": "CHATGLM",
    "glm4": "GLM4",
    "gemma": "GEMMA",
    "gemma2": "GEMMA2",
    "gemma3_text": "GEMMA3",
    "gpt2": "GPT2",
    "gpt_bigcode": "STARCODER",
    "gpt_neox": "GPTNEOX",
    "bloom": "BLOOM",
    "falcon": "FALCON",
    "mpt": "MPT",
    "phi": "PHI2",
    "phi3": "PHI3",
    "qwen": "QWEN",
    "baichuan": "BAICHUAN",
    "internlm2": "INTERNLM2",
    "chatglm": "CHATGLM",
}
"""`model_type` -> the name of llama.cpp's architecture."""


class Sizes:
    """Head counts and widths, from either generation of configuration keys."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        def first(*keys: str, default: Any = None) -> Any:
            return next((config[key] for key in keys if config.get(key) is not None), default)

        self.d = first("hidden_size", "n_embd", "d_model")
        self.layers = first("num_hidden_layers", "n_layer", "n_layers", "num_layers")
        self.h = first("num_attention_heads", "n_head", "n_heads")
        self.g = first("num_key_value_heads", "num_kv_heads", "multi_query_group_num", default=self.h)
        if config["model_type"] == "falcon" and not config.get("new_decoder_architecture"):
            self.g = 1
        if config["model_type"] == "gpt_bigcode":
            self.g = 1
        self.e = first("head_dim", default=self.d // self.h)
        self.f = first("intermediate_size", "ffn_hidden_size", default=4 * self.d)
        self.experts = first("num_local_experts", "num_experts", default=0)
        self.expert_f = first("moe_intermediate_size")
        self.shared_f = first("shared_expert_intermediate_size")


def interleave_halves(w: Array, heads: int) -> Array:
    """Rows of each head: the first half and the second, by turns."""
    out = np.empty_like(w)
    e = len(w) // heads
    for head in range(heads):
        for j in range(e // 2):
            out[head * e + 2 * j] = w[head * e + j]
            out[head * e + 2 * j + 1] = w[head * e + e // 2 + j]
    return out


def ungroup(w: Array, s: Sizes) -> Array:
    """Groups of queries, key, value -> all queries, all keys, all values."""
    per = s.h // s.g
    blocks = w.reshape(s.g, per + 2, s.e, *w.shape[1:])
    parts = [blocks[:, :per], blocks[:, per : per + 1], blocks[:, per + 1 :]]
    return np.concatenate([part.reshape(-1, *w.shape[1:]) for part in parts])


def stack_experts(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Every expert's matrix of a kind in one tensor, under a name without the number."""
    out: dict[str, Array] = {}
    for name in tensors:
        kind = re.sub(r"\.experts\.\d+\.", ".experts.", name)
        if kind == name:
            out[name] = tensors[name]
        elif kind not in out:
            numbered = [kind.replace(".experts.", f".experts.{e}.") for e in range(len(tensors))]
            out[kind] = np.stack([tensors[each] for each in numbered if each in tensors])
    return out


def _llama(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    if ".q_proj." in name:
        w = interleave_halves(w, s.h)
    if ".k_proj." in name:
        w = interleave_halves(w, s.g)
    return {name: w}


def _gemma(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    if name == "lm_head.weight":
        return {}
    return {name: w + 1 if name.endswith("norm.weight") else w}


def _gpt2(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    return {name: w.T if re.search(r"(c_attn|c_proj|c_fc)\.weight$", name) else w}


def _fused_by_head(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    return {name.removeprefix("transformer."): ungroup(w, s) if "query_key_value" in name else w}


def _falcon(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    return {name: ungroup(w, s) if "query_key_value" in name else w}


def _internlm2(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    if ".wqkv." not in name:
        return {name: w}
    q, k, v = np.split(ungroup(w, s), [s.h * s.e, (s.h + s.g) * s.e])
    base = name.replace("wqkv", "{}")
    return {
        base.format("wq"): interleave_halves(q, s.h),
        base.format("wk"): interleave_halves(k, s.g),
        base.format("wv"): v,
    }


def _baichuan(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    if ".W_pack." not in name:
        return {name: w}
    q, k, v = np.split(w, 3)
    base = name.replace("W_pack", "{}_proj")
    return {
        base.format("q"): interleave_halves(q, s.h),
        base.format("k"): interleave_halves(k, s.g),
        base.format("v"): v,
    }


def _chatglm(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    return {} if name.endswith("inv_freq") else {name.removeprefix("transformer."): w}


def _as_is(name: str, w: Array, s: Sizes) -> dict[str, Array]:
    return {name: w}


CONVERTERS: dict[str, Callable[[str, Array, Sizes], dict[str, Array]]] = {
    **dict.fromkeys(("LLAMA", "MISTRAL3", "SMOLLM3", "GRANITE", "OLMO"), _llama),
    **dict.fromkeys(("GEMMA", "GEMMA2", "GEMMA3"), _gemma),
    **dict.fromkeys(("GPTNEOX", "BLOOM"), _fused_by_head),
    "GPT2": _gpt2,
    "FALCON": _falcon,
    "INTERNLM2": _internlm2,
    "BAICHUAN": _baichuan,
    "CHATGLM": _chatglm,
}


def write_gguf(path: Path, tensors: Mapping[str, Array], config: Mapping[str, Any]) -> Path:
    """One GGUF file with float32 tensors and the key-values that size the model."""
    label = ARCHITECTURES[config["model_type"]]
    arch = gguf.MODEL_ARCH[label]
    s = Sizes(config)
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(s.layers)
    writer.add_embedding_length(s.d)
    writer.add_feed_forward_length(s.f)
    writer.add_head_count(s.h)
    writer.add_head_count_kv(s.g)
    writer.add_key_length(s.e)
    writer.add_value_length(s.e)
    if s.experts:
        writer.add_expert_count(s.experts)
    if s.expert_f:
        writer.add_expert_feed_forward_length(s.expert_f)
    if s.shared_f:
        writer.add_expert_shared_feed_forward_length(s.shared_f)
    table = gguf.get_tensor_name_map(arch, s.layers)
    convert = CONVERTERS.get(label, _as_is)
    for stored, w in stack_experts(tensors).items():
        for name, converted in convert(stored, w, s).items():
            short = table.get_name(name, try_suffixes=(".weight", ".bias"))
            assert short is not None, name
            converted = converted[0] if name.endswith("shared_expert_gate.weight") else converted
            writer.add_tensor(short, np.ascontiguousarray(converted, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
