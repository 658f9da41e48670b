"""A checkpoint folder in memory: tensors by name, config.json, tokenizer.json. What is cut and merged is this.

Names are those that transformers writes; a layer's number stands after `layers.` or `h.` in every family here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from huref.forward.checkpoint_writer import write_folder

_LAYER = re.compile(r"^(.*?\b(?:layers|h)\.)(\d+)(\..+)$")
_VOCABULARY = re.compile(r"\b(?:embed_tokens|wte|embed_in|embed_out|lm_head)\.weight$")


@dataclass(frozen=True)
class Stored:
    """A checkpoint: tensors as they are stored, the configuration, and `tokenizer.json`."""

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    tokenizer: bytes

    @property
    def depth(self) -> int:
        """How many layers."""
        return int(self.config[self.depth_key])

    @property
    def depth_key(self) -> str:
        """What config.json calls the number of layers."""
        return "n_layer" if "n_layer" in self.config else "num_hidden_layers"

    def changed(self, change: Callable[[str, Tensor], Tensor], **config: Any) -> Stored:
        """The same checkpoint with every tensor changed, and some fields of the configuration."""
        tensors = {name: change(name, tensor).contiguous() for name, tensor in self.tensors.items()}
        return replace(self, tensors=tensors, config={**self.config, **config})


def read_stored(folder: Path) -> Stored:
    """Read a checkpoint folder of one shard that the zoo wrote."""
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Stored(tensors, config, (folder / "tokenizer.json").read_bytes())


def write_stored(folder: Path, stored: Stored) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """

    def fill(partial: Path) -> None:
        tensors = {name: tensor.contiguous().clone() for name, tensor in stored.tensors.items()}
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        (partial / "config.json").write_text(json.dumps(dict(stored.config), indent=2), encoding="utf-8")
        (partial / "tokenizer.json").write_bytes(stored.tokenizer)

    return write_folder(folder, fill)


def layer_of(name: str) -> int | None:
    """A tensor's layer, or None for one outside the layers."""
    found = _LAYER.match(name)
    return int(found[2]) if found else None


def is_vocabulary(name: str) -> bool:
    """Whether a tensor has one row a token: embedding or unembedding."""
    return bool(_VOCABULARY.search(name))


def is_projection(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a matrix inside a layer."""
    return tensor.ndim == 2 and layer_of(name) is not None


def take_layers(sources: Sequence[Stored], order: Sequence[tuple[int, int]]) -> Stored:
    """A stack of layers from one checkpoint or several of one shape; what is outside the layers is the first's.

    Args:
        order: for every layer of the result, which source and which of its layers.
    """
    first = sources[0]
    tensors = {name: tensor for name, tensor in first.tensors.items() if layer_of(name) is None}
    for target, (source, layer) in enumerate(order):
        for name, tensor in sources[source].tensors.items():
            found = _LAYER.match(name)
            if found and int(found[2]) == layer:
                tensors[f"{found[1]}{target}{found[3]}"] = tensor
    config = {**first.config, first.depth_key: len(order)}
    if config.get("layer_types"):
        config["layer_types"] = [first.config["layer_types"][layer] for _, layer in order]
    return replace(first, tensors=tensors, config=config)


def with_rows(stored: Stored, rows: Callable[[Tensor], Tensor], tokenizer: bytes) -> Stored:
    """The same checkpoint with other vocabulary rows, and the vocabulary that belongs to them."""
    sizes = {name: rows(tensor) for name, tensor in stored.tensors.items() if is_vocabulary(name)}
    tensors = {**stored.tensors, **sizes}
    n = {len(tensor) for tensor in sizes.values()}
    assert len(n) == 1, "every vocabulary matrix has one row a token"
    return Stored(tensors, {**stored.config, "vocab_size": n.pop()}, tokenizer)


def norm(tensor: Tensor, axis: int) -> Tensor:
    """Lengths along an axis, in float32."""
    lengths: Tensor = torch.linalg.vector_norm(tensor.float(), dim=axis)
    return lengths
