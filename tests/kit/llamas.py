"""Tiny Llamas: in memory, and as the GGUF file that the demo starts from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from huref.forward.checkpoint_writer import config_json, stored_name
from huref.forward.decoder import Decoder
from huref.forward.settings import Settings, rotary_frequencies
from huref.model.arch import open_weights
from huref.model.arch.canonical import Geometry
from huref.model.arch.weights import Architecture, CanonicalWeights
from huref.numerics.arrays import Array, float32
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_llama import tokenizer_json

GROUPED = Geometry(n_layers=2, d_model=36, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=48, vocab_size=400)
THETA = 10000.0


def tiny_llama(seed: int = 0, *, is_tied: bool = True, sizes: Geometry = GROUPED) -> Decoder:
    """Random weights with gains that matter, float64."""
    dice = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Array:
        return torch.randn(shape, dtype=torch.float64, generator=dice).numpy() / shape[-1] ** 0.5

    d, f, query, key = sizes.d_model, sizes.d_ff, sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim
    tensors = {"embedding": draw(sizes.vocab_size, d), "final_norm": 1 + draw(d)}
    shapes = {"q": (query, d), "k": (key, d), "v": (key, d), "o": (d, query), "gate": (f, d), "up": (f, d)}
    for layer in range(sizes.n_layers):
        matrices = {role: draw(*shape) for role, shape in {**shapes, "down": (d, f)}.items()}
        norms = {role: torch.rand(d, dtype=torch.float64, generator=dice).numpy() + 0.5 for role in _NORMS}
        tensors |= {f"layers.{layer}.{role}": tensor for role, tensor in (matrices | norms).items()}
    if not is_tied:
        tensors["unembedding"] = draw(sizes.vocab_size, d)
    arch = Architecture(
        name="llama",
        norm="rms",
        gated=True,
        activation="silu",
        position="rope_half",
        rotary_dim=sizes.head_dim,
        parallel=False,
        norm_after_residual=False,
        unit_norms=False,
        is_tied=is_tied,
    )
    frequencies = (rotary_frequencies(THETA, sizes.head_dim),)
    settings = Settings(eps=1e-5, eps_key="rms_norm_eps", frequencies=frequencies, rope_theta=THETA)
    return Decoder(arch, sizes, settings, tensors, tuple(range(sizes.n_layers)))


_NORMS = ("attention_norm", "feed_forward_norm")


def that_answers(model: Path, folder: Path) -> Path:
    """A copy of a tiny model with what an answer needs: scores of the usual size, the norms' epsilon written down."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}), encoding="utf-8")
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        for key in tensors:
            if key.endswith(("q_proj.weight", "k_proj.weight", "gate_proj.weight")):
                tensors[key] = tensors[key] * 0.1
        save_file(tensors, path)
    return folder


def as_weights(model: Decoder) -> CanonicalWeights:
    """The model as the pipeline sees a checkpoint, without a file."""
    tensors = {stored_name(name): float32(tensor) for name, tensor in model.tensors.items()}
    return open_weights(MemoryCheckpoint(tensors, config_json(model, np.float32)))


def write_tiny_gguf(path: Path, seed: int = 0) -> Path:
    """A quantised Llama with a byte-level vocabulary, as llama.cpp's converter would write it."""
    sizes = Geometry(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=96, vocab_size=400)
    model = tiny_llama(seed, sizes=sizes)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(sizes.n_layers)
    writer.add_embedding_length(sizes.d_model)
    writer.add_feed_forward_length(sizes.d_ff)
    writer.add_head_count(sizes.n_heads)
    writer.add_head_count_kv(sizes.n_kv_heads)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(3)
    _add_vocabulary(writer, sizes.vocab_size)
    for name, tensor in model.tensors.items():
        role = name.rsplit(".", 1)[-1]
        data = _interleaved(tensor, sizes.head_dim) if role in ("q", "k") else tensor
        _add_tensor(writer, _GGUF_NAMES[role].format(i=name.split(".")[1] if "." in name else ""), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


_GGUF_NAMES = {
    "embedding": "token_embd.weight",
    "final_norm": "output_norm.weight",
    "attention_norm": "blk.{i}.attn_norm.weight",
    "feed_forward_norm": "blk.{i}.ffn_norm.weight",
    **{role: f"blk.{{i}}.attn_{role}.weight" for role in ("q", "k", "v")},
    "o": "blk.{i}.attn_output.weight",
    **{role: f"blk.{{i}}.ffn_{role}.weight" for role in ("gate", "up", "down")},
}


def _interleaved(matrix: Array, head_dim: int) -> Array:
    """Rows j and j + e / 2 of each head become neighbours, as llama.cpp's rotary kernel wants them."""
    heads = matrix.reshape(-1, 2, head_dim // 2, matrix.shape[1])
    return heads.swapaxes(1, 2).reshape(matrix.shape)


def _add_tensor(writer: gguf.GGUFWriter, name: str, tensor: Array) -> None:
    data = float32(tensor)
    if data.ndim == 1:
        writer.add_tensor(name, data)
        return
    kind = gguf.GGMLQuantizationType.Q4_1
    writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)


def _add_vocabulary(writer: gguf.GGUFWriter, n_tokens: int) -> None:
    """Two control tokens by spelling, one that only its type marks, and one that users added."""
    model = json.loads(tokenizer_json(n_tokens - 2))["model"]
    ids = {**model["vocab"], "<only_its_type_says>": n_tokens - 2, "two words": n_tokens - 1}
    kinds = np.ones(n_tokens, dtype=np.int32)
    kinds[[ids["<s>"], ids["</s>"], n_tokens - 2]] = gguf.TokenType.CONTROL
    kinds[n_tokens - 1] = gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(ids, key=ids.__getitem__))
    writer.add_token_types(kinds.tolist())
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
