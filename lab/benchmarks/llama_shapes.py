"""Llama-shaped checkpoints of random bfloat16 weights, of any size, with a tokenizer and a token ranking.

Written shard by shard as plain bytes, so that a 13.5 GB model needs no 13.5 GB of memory.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_BLOCK = 1 << 24


@dataclass(frozen=True)
class Shape:
    """The sizes of a multi-head Llama with its own unembedding."""

    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    vocab_size: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by its published name, in the published order."""
        d, f = self.d_model, self.d_ff
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, d)}
        for i in range(self.n_layers):
            found |= {f"model.layers.{i}.self_attn.{name}_proj.weight": (d, d) for name in "qkvo"}
            found |= {f"model.layers.{i}.mlp.{name}_proj.weight": (f, d) for name in ("gate", "up")}
            found[f"model.layers.{i}.mlp.down_proj.weight"] = (d, f)
            found |= {f"model.layers.{i}.{n}.weight": (d,) for n in ("input_layernorm", "post_attention_layernorm")}
        return found | {"model.norm.weight": (d,), "lm_head.weight": (self.vocab_size, d)}

    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(2 * int(np.prod(shape)) for shape in self.tensors().values())

    def config(self) -> dict[str, object]:
        """config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_heads,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "bos_token_id": 1,
            "eos_token_id": 2,
        }


def write_model(folder: Path, shape: Shape, shard_bytes: int, is_repeated: bool, seed: int = 0) -> None:
    """Write the whole checkpoint folder.

    Args:
        folder: made if it is not there.
        shape: the sizes.
        shard_bytes: no shard is larger, unless one tensor is.
        is_repeated: cut every tensor from one random block of 16 M values at a random offset, which is enough for
            timing and many times faster than drawing every number.
        seed: of the random numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = _Numbers(seed, is_repeated)
    shards = _shards(shape, shard_bytes)
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, members in zip(names, shards, strict=True):
        with (folder / name).open("wb") as file:
            _write_shard(file, members, source)
    index = {tensor: name for name, members in zip(names, shards, strict=True) for tensor in members}
    document = {"metadata": {"total_size": shape.n_bytes()}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document))
    (folder / "config.json").write_text(json.dumps(shape.config()))
    write_tokenizer(folder / "tokenizer.json", shape.vocab_size)
    write_ranking(folder / "ranking.txt", shape.vocab_size)


def write_tokenizer(path: Path, vocab_size: int) -> None:
    """A byte-fallback BPE tokenizer as Llama's: special tokens, bytes, letters, and a merge for every other token."""
    rng = random.Random(0)
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    parts = ["▁", *"abcdefghijklmnopqrstuvwxyz", *"абвгдежзиклмнопрстуфхцчшщ"]
    pieces += parts
    known, merges = set(pieces), []
    while len(pieces) < vocab_size:
        left, right = rng.choice(parts), rng.choice(parts)
        made = left + right
        if made not in known and len(made) <= 12 and "▁" not in right:
            known.add(made)
            pieces.append(made)
            parts.append(made)
            merges.append(f"{left} {right}")
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], "special": True, **flags} for i in range(3)],
        "normalizer": {"type": "Prepend", "prepend": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "ByteFallback"},
        "model": model | {"vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges},
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def write_ranking(path: Path, vocab_size: int) -> None:
    """Every ordinary id once, in random order, in the official format."""
    order = np.random.default_rng(1).permutation(np.arange(3, vocab_size))
    path.write_text("".join(f"{i}\n" for i in order))


class _Numbers:
    """Bfloat16 numbers near N(0, 0.02^2), as raw 16-bit words."""

    def __init__(self, seed: int, is_repeated: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.is_repeated = is_repeated
        self.block = self._draw(_BLOCK)

    def words(self, n_values: int) -> Iterator[np.ndarray]:
        """uint16 blocks, `n_values` in all."""
        while n_values > 0:
            count = min(n_values, _BLOCK)
            if self.is_repeated:
                yield np.roll(self.block, int(self.rng.integers(_BLOCK)))[:count]
            else:
                yield self._draw(count)
            n_values -= count

    def _draw(self, count: int) -> np.ndarray:
        values = self.rng.standard_normal(count, dtype=np.float32) * np.float32(0.02)
        return (values.view(np.uint32) >> 16).astype("<u2")  # the upper half of a float32 is a bfloat16


def _shards(shape: Shape, shard_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, size in shape.tensors().items():
        n_bytes = 2 * int(np.prod(size))
        if shards[-1] and filled + n_bytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = size
        filled += n_bytes
    return shards


def _write_shard(file: BinaryIO, members: dict[str, tuple[int, ...]], source: _Numbers) -> None:
    header, offset = {}, 0
    for name, shape in members.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name, shape in members.items():
        n_values = int(np.prod(shape))
        if name.endswith("norm.weight"):
            file.write(np.full(n_values, 0x3F80, "<u2").tobytes())  # ones
            continue
        for words in source.words(n_values):
            file.write(words.tobytes())
