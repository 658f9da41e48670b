"""Families that transformers does not know: tensors laid out by hand, element by element, come back canonical.

The layouts are those of the makers' own modelling files: Qwen and Baichuan split the fused projection in
thirds, InternLM2 keeps each KV group's queries, key and value together, ChatGLM-6B keeps each head's, and
ChatGLM2 stores all queries, then the few keys, then the few values, with the gate before the up half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huref.demo.tensors import as_tensor
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from kit.gguf_export import write_gguf
from kit.memory_checkpoint import MemoryCheckpoint
from kit.numpy_forward import Settings, logits

Array = np.ndarray
D, H, E, F, V, LAYERS = 32, 4, 8, 48, 96, 2
IDS = np.array([5, 17, 3, 88, 41])


def _stack(rows: list[Array]) -> Array:
    return np.stack(rows)


def thirds(q: Array, k: Array, v: Array) -> Array:
    """q | k | v."""
    return _stack([*q.reshape(-1, *q.shape[2:]), *k.reshape(-1, *k.shape[2:]), *v.reshape(-1, *v.shape[2:])])


def by_group(q: Array, k: Array, v: Array) -> Array:
    """For each KV head: its query heads, its key, its value. Arguments are (heads, e, ...)."""
    per = len(q) // len(k)
    rows: list[Array] = []
    for group in range(len(k)):
        for head in range(per):
            rows += [q[group * per + head, j] for j in range(E)]
        rows += [k[group, j] for j in range(E)]
        rows += [v[group, j] for j in range(E)]
    return _stack(rows)


@dataclass(frozen=True)
class Layout:
    """A hand-made family: how many KV heads, its names, its fused projection, its configuration."""

    family: str
    kv_heads: int
    config: dict[str, Any]
    names: dict[str, str]
    fuse: Callable[[Array, Array, Array], Array]
    gated: bool = True
    has_qkv_bias: bool = True
    has_biases: bool = False
    extra: tuple[str, ...] = ()
    has_gguf: bool = True


_QWEN = {
    "embedding": "transformer.wte",
    "final_norm": "transformer.ln_f",
    "unembedding": "lm_head",
    "attention_norm": "transformer.h.{i}.ln_1",
    "qkv": "transformer.h.{i}.attn.c_attn",
    "o": "transformer.h.{i}.attn.c_proj",
    "feed_forward_norm": "transformer.h.{i}.ln_2",
    "up": "transformer.h.{i}.mlp.w1",
    "gate": "transformer.h.{i}.mlp.w2",
    "down": "transformer.h.{i}.mlp.c_proj",
}
_BAICHUAN = {
    "embedding": "model.embed_tokens",
    "final_norm": "model.norm",
    "unembedding": "lm_head",
    "attention_norm": "model.layers.{i}.input_layernorm",
    "qkv": "model.layers.{i}.self_attn.W_pack",
    "o": "model.layers.{i}.self_attn.o_proj",
    "feed_forward_norm": "model.layers.{i}.post_attention_layernorm",
    "gate": "model.layers.{i}.mlp.gate_proj",
    "up": "model.layers.{i}.mlp.up_proj",
    "down": "model.layers.{i}.mlp.down_proj",
}
_INTERNLM2 = {
    "embedding": "model.tok_embeddings",
    "final_norm": "model.norm",
    "unembedding": "output",
    "attention_norm": "model.layers.{i}.attention_norm",
    "qkv": "model.layers.{i}.attention.wqkv",
    "o": "model.layers.{i}.attention.wo",
    "feed_forward_norm": "model.layers.{i}.ffn_norm",
    "gate": "model.layers.{i}.feed_forward.w1",
    "up": "model.layers.{i}.feed_forward.w3",
    "down": "model.layers.{i}.feed_forward.w2",
}
_CHATGLM = {
    "embedding": "transformer.embedding.word_embeddings",
    "final_norm": "transformer.encoder.final_layernorm",
    "unembedding": "transformer.output_layer",
    "attention_norm": "transformer.encoder.layers.{i}.input_layernorm",
    "qkv": "transformer.encoder.layers.{i}.self_attention.query_key_value",
    "o": "transformer.encoder.layers.{i}.self_attention.dense",
    "feed_forward_norm": "transformer.encoder.layers.{i}.post_attention_layernorm",
    "gate_up": "transformer.encoder.layers.{i}.mlp.dense_h_to_4h",
    "down": "transformer.encoder.layers.{i}.mlp.dense_4h_to_h",
}
_CHATGLM1 = {
    "embedding": "transformer.word_embeddings",
    "final_norm": "transformer.final_layernorm",
    "unembedding": "lm_head",
    "attention_norm": "transformer.layers.{i}.input_layernorm",
    "qkv": "transformer.layers.{i}.attention.query_key_value",
    "o": "transformer.layers.{i}.attention.dense",
    "feed_forward_norm": "transformer.layers.{i}.post_attention_layernorm",
    "up": "transformer.layers.{i}.mlp.dense_h_to_4h",
    "down": "transformer.layers.{i}.mlp.dense_4h_to_h",
}
_COMMON = {"hidden_size": D, "num_attention_heads": H, "vocab_size": V}

LAYOUTS = [
    Layout(
        "qwen",
        H,
        {**_COMMON, "model_type": "qwen", "num_hidden_layers": LAYERS, "intermediate_size": 2 * F, "kv_channels": E},
        _QWEN,
        thirds,
        extra=("transformer.rotary_emb.inv_freq",),
    ),
    Layout(
        "baichuan",
        H,
        {
            **_COMMON,
            "model_type": "baichuan",
            "num_hidden_layers": LAYERS,
            "intermediate_size": F,
            "max_position_embeddings": 4096,
        },
        _BAICHUAN,
        thirds,
        has_qkv_bias=False,
        extra=("model.layers.0.self_attn.rotary_emb.inv_freq",),
    ),
    Layout(
        "internlm2",
        2,
        {
            **_COMMON,
            "model_type": "internlm2",
            "num_hidden_layers": LAYERS,
            "intermediate_size": F,
            "num_key_value_heads": 2,
        },
        _INTERNLM2,
        by_group,
        has_qkv_bias=False,
    ),
    Layout(
        "chatglm",
        2,
        {
            **_COMMON,
            "model_type": "chatglm",
            "num_layers": LAYERS,
            "ffn_hidden_size": F,
            "kv_channels": E,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "padded_vocab_size": V,
        },
        _CHATGLM,
        thirds,
        extra=("transformer.rotary_pos_emb.inv_freq",),
    ),
    Layout(
        "chatglm1",
        H,
        {
            **_COMMON,
            "model_type": "chatglm",
            "num_layers": LAYERS,
            "inner_hidden_size": F,
            "position_encoding_2d": True,
        },
        _CHATGLM1,
        by_group,
        gated=False,
        has_biases=True,
        extra=("transformer.layers.0.attention.rotary_emb.inv_freq",),
        has_gguf=False,
    ),
]


def _canonical(layout: Layout) -> dict[str, Array]:
    """Random canonical tensors: the truth that must come back."""
    rng = np.random.default_rng(7)
    g = layout.kv_heads * E
    shapes: dict[str, tuple[int, ...]] = {"embedding": (V, D), "final_norm": (D,), "unembedding": (V, D)}
    for i in range(LAYERS):
        layer: dict[str, tuple[int, ...]] = {
            "attention_norm": (D,),
            "q": (D, D),
            "k": (g, D),
            "v": (g, D),
            "o": (D, D),
            "feed_forward_norm": (D,),
            "up": (F, D),
            "down": (D, F),
        }
        layer |= {"gate": (F, D)} if layout.gated else {}
        layer |= {"q_bias": (D,), "k_bias": (g,), "v_bias": (g,)} if layout.has_qkv_bias else {}
        layer |= {"o_bias": (D,), "up_bias": (F,), "attention_norm_bias": (D,)} if layout.has_biases else {}
        shapes |= {f"layers.{i}.{role}": shape for role, shape in layer.items()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _stored(layout: Layout, truth: dict[str, Array]) -> dict[str, Array]:
    """The truth under the family's names, in its layout."""
    out: dict[str, Array] = {name: np.ones(4, np.float32) for name in layout.extra}
    fused = {"q", "k", "v"} | ({"gate", "up"} if "gate_up" in layout.names else set())
    for name, w in truth.items():
        role = name.split(".")[-1]
        module, kind = role.removesuffix("_bias"), "bias" if role.endswith("_bias") else "weight"
        i = name.split(".")[1] if name.startswith("layers.") else ""
        if module not in fused:
            out[f"{layout.names[module].replace('{i}', i)}.{kind}"] = w
        elif module == "q":
            suffix = role.removeprefix("q")
            heads = [truth[f"layers.{i}.{part}{suffix}"] for part in "qkv"]
            split = [w.reshape(-1, E, *w.shape[1:]) for w in heads]
            out[f"{layout.names['qkv'].replace('{i}', i)}.{kind}"] = layout.fuse(*split)
        elif module == "gate":
            both = [*truth[f"layers.{i}.gate"], *truth[f"layers.{i}.up"]]
            out[f"{layout.names['gate_up'].replace('{i}', i)}.weight"] = _stack(both)
    return out


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.family)
def test_a_hand_made_layout_comes_back_canonical(layout: Layout) -> None:
    truth = _canonical(layout)
    stored = {name: torch.from_numpy(w) for name, w in _stored(layout, truth).items()}
    weights = open_weights(MemoryCheckpoint(stored, layout.config))
    assert weights.architecture.name == layout.family
    assert set(weights.names()) == set(truth)
    for name, w in truth.items():
        assert np.array_equal(as_tensor(weights.read(name)).numpy(), w), name
    a = weights.attention(1)
    assert np.array_equal(a.Wq, truth["layers.1.q"].reshape(H, E, D))
    assert np.array_equal(a.Wk, truth["layers.1.k"].reshape(layout.kv_heads, E, D))
    for head in range(H):
        assert np.array_equal(a.Wo[head], truth["layers.1.o"][:, head * E : (head + 1) * E])


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one.has_gguf], ids=lambda layout: layout.family)
def test_its_gguf_copy_agrees(layout: Layout, tmp_path: Path) -> None:
    truth = _canonical(layout)
    stored = {name: w for name, w in _stored(layout, truth).items() if name not in layout.extra}
    path = write_gguf(tmp_path / "model.gguf", stored, layout.config)
    with open_checkpoint(path) as checkpoint:
        weights = open_weights(checkpoint)
        assert weights.architecture.name == layout.family
        for name, w in truth.items():
            assert np.array_equal(as_tensor(weights.read(name)).numpy(), w), name


def test_baichuan_13b_is_told_by_its_missing_position_limit() -> None:
    layout = next(one for one in LAYOUTS if one.family == "baichuan")
    config = {key: value for key, value in layout.config.items() if key != "max_position_embeddings"}
    stored = {name: torch.from_numpy(w) for name, w in _stored(layout, _canonical(layout)).items()}
    assert open_weights(MemoryCheckpoint(stored, config)).architecture.position == "alibi"
    assert open_weights(MemoryCheckpoint(stored, layout.config)).architecture.position == "rope_half"


def test_chatglm_equals_glm_with_the_same_weights() -> None:
    """The makers' layout and transformers' GLM are one model: the same logits from either."""
    from kit.tiny_models import state_of

    state, config = state_of("glm")
    glm = open_weights(MemoryCheckpoint(state, config))
    layout = next(one for one in LAYOUTS if one.family == "chatglm")
    truth = {name: as_tensor(glm.read(name)).numpy() for name in glm.names()}
    stored = {name: torch.from_numpy(w) for name, w in _stored(layout, truth).items()}
    chatglm = open_weights(MemoryCheckpoint(stored, layout.config))
    settings = Settings(eps=config["rms_norm_eps"])
    assert chatglm.architecture.position == glm.architecture.position
    assert np.allclose(logits(chatglm, IDS, settings), logits(glm, IDS, settings), atol=1e-12)
