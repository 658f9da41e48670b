"""Opened models in memory, of every structure, and attacked copies whose rearrangement is known."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from huref.attacks import apply, parse_kinds
from huref.explanation.options import ExplainOptions
from huref.explanation.recovering import explain_opened
from huref.explanation.transform import Explanation
from huref.files.safetensors_writer import write_safetensors
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.renumbering import new_ids, renumber_files
from huref.forward.stored import Layout, layout_of, stored_config, stored_tensors
from huref.model.arch import open_weights
from huref.model.model import Model
from huref.model.tokens import Vocabulary
from huref.numerics.arrays import Array
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_llama import tokenizer_json
from kit.tiny_models import MODELS

VOCABULARY = 320
"""More than the 256 strings that two models must share for their embeddings to be compared."""


@cache
def family(name: str, seed: int = 0) -> tuple[Layout, Decoder]:
    """A random model of one of the families of `tiny_models`, with a vocabulary that can be renumbered."""
    state, config = _saved(name, seed)
    weights = open_weights(MemoryCheckpoint(state, config))
    return layout_of(weights), load_decoder(weights).with_tokens(np.arange(VOCABULARY - 6))


def attacked(name: str, kinds: str, seed: int = 3, source: Decoder | None = None) -> Decoder:
    """What `huref attack` makes of the model, or of another one of the family."""
    return apply(source or family(name)[1], parse_kinds(kinds), seed).model


def opened(name: str, decoder: Decoder | None = None, title: str = "a") -> Model:
    """The decoder as the checkpoint that it would be written as."""
    layout, original = family(name)
    decoder = decoder or original
    tensors = stored_tensors(layout, decoder, np.float32)
    return in_memory(tensors, stored_config(layout, decoder, np.float32), title, new_ids(decoder))


def saved(folder: Path, name: str, decoder: Decoder | None = None) -> Path:
    """The decoder as a checkpoint folder, with a tokenizer whose numbers follow the decoder's."""
    layout, original = family(name)
    decoder = decoder or original
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", stored_tensors(layout, decoder, np.float32))
    (folder / "config.json").write_text(json.dumps(stored_config(layout, decoder, np.float32)))
    files = {"tokenizer.json": tokenizer_json(VOCABULARY).encode()}
    (folder / "tokenizer.json").write_bytes(renumber_files(files, new_ids(decoder))["tokenizer.json"])
    return folder


def in_memory(tensors: Mapping[str, Array], config: Mapping[str, Any], title: str, ids: Array | None = None) -> Model:
    """Tensors as an opened model; token i is the string of its first number."""
    weights = open_weights(MemoryCheckpoint(tensors, config))
    strings = [b""] * VOCABULARY
    for old, new in enumerate(range(VOCABULARY) if ids is None else ids.tolist()):
        strings[new] = b"token %d" % old
    return Model(title, weights, Vocabulary(tuple(strings), frozenset(), "bpe", "test"))


def explained(a: Model, b: Model, layers: str = "all") -> Explanation:
    """Explain B from A."""
    return explain_opened(a, b, ExplainOptions(layers))


def trained_further(decoder: Decoder, strength: float, seed: int = 0) -> Decoder:
    """Every matrix with noise of `strength` times its own size: what training adds, without a direction."""
    dice = np.random.default_rng(seed)
    new = {
        name: tensor + strength * tensor.std() * dice.standard_normal(tensor.shape)
        for name, tensor in decoder.tensors.items()
        if tensor.ndim > 1
    }
    return decoder.changed(new)


def state(name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Stored tensors and configuration."""
    layout, decoder = family(name)
    return stored_tensors(layout, decoder, np.float32), stored_config(layout, decoder, np.float32)


def relayered(name: str, order: list[int]) -> Model:
    """The model with these of its layers, in this order."""
    tensors, config = state(name)
    kept = {n: t for n, t in tensors.items() if ".layers." not in n}
    for new, old in enumerate(order):
        at = f".layers.{old}."
        kept |= {n.replace(at, f".layers.{new}."): t for n, t in tensors.items() if at in n}
    return in_memory(kept, {**config, "num_hidden_layers": len(order)}, "relayered")


def upcycled(n_experts: int = 3) -> tuple[Model, Model]:
    """A dense Llama, and a mixture whose every expert is its feed-forward block in another order."""
    tensors, config = state("llama")
    dense = in_memory(tensors, config, "dense")
    dice = np.random.default_rng(5)
    sparse = {n: t for n, t in tensors.items() if ".mlp." not in n}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        gate, up, down = (tensors[f"{at}mlp.{role}_proj.weight"] for role in ("gate", "up", "down"))
        sparse[f"{at}block_sparse_moe.gate.weight"] = dice.standard_normal((n_experts, gate.shape[1]), np.float32)
        for expert in range(n_experts):
            order = dice.permutation(len(gate))
            place = f"{at}block_sparse_moe.experts.{expert}."
            sparse |= {f"{place}w1.weight": gate[order], f"{place}w3.weight": up[order]}
            sparse[f"{place}w2.weight"] = down[:, order]
    changes = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": n_experts}
    return dense, in_memory(sparse, {**config, **changes}, "sparse")


@cache
def _saved(name: str, seed: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Every parameter random, as `save_pretrained` writes it."""
    import transformers
    from safetensors.numpy import load_file

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = MODELS[name]
    spec = replace(spec, config={**spec.config, "vocab_size": VOCABULARY})
    config_class = {"Gemma3": "Gemma3TextConfig"}.get(spec.classes, f"{spec.classes}Config")
    config = getattr(transformers, config_class)(**spec.config)
    torch.manual_seed(sum(name.encode()) + seed)
    model = getattr(transformers, f"{spec.classes}{spec.head}")(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.25)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = Path(folder)
        return load_file(files / "model.safetensors"), json.loads((files / "config.json").read_text())
