"""Quantised offspring: a Llama as a GGUF file, and checkpoints through eight or four bits and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huref.forward.gguf_writer import write_gguf_file
from huref_lab.zoo.stored import Stored

NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The 16 values of NormalFloat4 (QLoRA, arXiv 2305.14314, appendix E)."""

_NF4_BLOCK = 64


def through_int8(tensor: Tensor) -> Tensor:
    """Every row in eight bits with its own scale, largest magnitude / 127 (LLM.int8(), arXiv 2208.07339)."""
    if tensor.ndim != 2:
        return tensor
    scale = tensor.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (tensor / scale).round() * scale


def through_nf4(tensor: Tensor) -> Tensor:
    """Blocks of 64 weights in NormalFloat4 with their largest magnitude as scale; the scales stay float32."""
    if tensor.ndim != 2 or tensor.numel() % _NF4_BLOCK:
        return tensor
    blocks = tensor.reshape(-1, _NF4_BLOCK)
    scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-12)
    table = torch.tensor(NF4)
    middles = (table[1:] + table[:-1]) / 2
    return (table[torch.bucketize((blocks / scale).contiguous(), middles)] * scale).view(tensor.shape)


def write_gguf(target: Path, stored: Stored, kind: str) -> Path:
    """A Llama checkpoint as one GGUF file with its vocabulary, as llama.cpp's converter writes it.

    Args:
        kind: "Q8_0" or "Q4_0" for every matrix; other tensors are float32.

    Raises:
        OutputError: the target cannot be written; no partial file is left.
    """

    def fill(writer: Any) -> None:
        _add_sizes(writer, stored.config, kind)
        _add_vocabulary(writer, json.loads(stored.tokenizer))
        _add_tensors(writer, stored, kind)

    return write_gguf_file(target, "llama", fill)


def _add_sizes(writer: Any, config: Any, kind: str) -> None:
    from gguf import LlamaFileType

    heads = config["num_attention_heads"]
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_vocabulary(writer: Any, tokenizer: dict[str, Any]) -> None:
    """The byte-level BPE of `tokenizer.json`; a merge is a pair of texts there and one text here."""
    from gguf import TokenType

    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    special = {entry["content"] for entry in tokenizer.get("added_tokens", [])}
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(0)


def _add_tensors(writer: Any, stored: Stored, kind: str) -> None:
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map, quants

    config = stored.config
    table = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for stored_name, tensor in stored.tensors.items():
        name = table.get_name(stored_name, try_suffixes=(".weight", ".bias"))
        assert name is not None, stored_name
        array = tensor.float().numpy()
        if ".q_proj." in stored_name:
            array = _interleaved(array, config["num_attention_heads"])
        if ".k_proj." in stored_name:
            array = _interleaved(array, config["num_key_value_heads"])
        if tensor.ndim == 2:
            wanted = GGMLQuantizationType[kind]
            writer.add_tensor(name, quants.quantize(np.ascontiguousarray(array), wanted), raw_dtype=wanted)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))


def _interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of a head's rows: the first half and the second by turns, '(h 2 e) d -> (h e 2) d'."""
    rows, width = array.shape
    turned = array.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(rows, width))
