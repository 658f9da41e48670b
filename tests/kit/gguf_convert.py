"""A tiny model of transformers as llama.cpp's converter writes it: names from the `gguf` package, rearranged here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from kit.gguf_export import interleave_halves, stack_experts

Array = np.ndarray
Change = Callable[[str, Array, Mapping[str, Any]], Iterator[tuple[str, Array]]]

D, H, G, FF, VOCAB = 32, 4, 2, 48, 64
BASE = {
    "vocab_size": VOCAB,
    "hidden_size": D,
    "intermediate_size": FF,
    "num_hidden_layers": 2,
    "num_attention_heads": H,
    "num_key_value_heads": G,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}


def as_it_is(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    yield name, w


def interleaved(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    n = next((n for part, n in heads.items() if f".{part}." in name), None)
    yield name, w if n is None else interleave_halves(w, n)


def latent(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    if not name.endswith("kv_b_proj.weight"):
        yield name, w
        return
    by_head = w.reshape(H, config["qk_nope_head_dim"] + config["v_head_dim"], -1)
    keys, values = by_head[:, : config["qk_nope_head_dim"]], by_head[:, config["qk_nope_head_dim"] :]
    yield name.replace("kv_b_proj", "k_b_proj"), keys.transpose(0, 2, 1)
    yield name.replace("kv_b_proj", "v_b_proj"), values


def one_more(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    yield name, w + 1 if name.endswith("norm.weight") and "linear_attn.norm" not in name else w


def turned_experts(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Stacks stored (in, out), gates in front of ups."""
    if name.endswith("gate_up_proj"):
        gate, up = np.split(w.transpose(0, 2, 1), 2, axis=1)
        yield name.replace("gate_up_proj", "gate_proj.weight"), gate
        yield name.replace("gate_up_proj", "up_proj.weight"), up
    elif name.endswith("experts.down_proj"):
        yield f"{name}.weight", w.transpose(0, 2, 1)
    else:
        yield name, w


def halves(name: str, w: Array, config: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Granite's: gates and ups of one tensor apart, under llama.cpp's names; heads interleaved."""
    layer = name.split(".")[2] if ".layers." in name else ""
    experts = bool(config["num_local_experts"])
    end = "exps" if "block_sparse_moe" in name else "shexp" if experts else ""
    under = f"blk.{layer}.ffn_{{}}{'_' * bool(end)}{end}.weight"
    if name.endswith("input_linear.weight"):
        gate, up = np.split(w, 2, axis=-2)
        yield under.format("gate"), gate
        yield under.format("up"), up
    elif name.endswith("output_linear.weight"):
        yield under.format("down"), w
    else:
        yield from interleaved(name, w, config)


@dataclass(frozen=True)
class Converted:
    """One model.

    Attributes:
        classes: prefix of transformers' classes, and what follows it for the configuration and the model.
        arch: llama.cpp's name.
        config: over the usual.
        keys: metadata over the usual.
        change: what the converter does to a tensor; names come out as transformers' or llama.cpp's.
        skipped: pattern of names that are left out of the file, or that huref passes over: recurrent layers.
        renamed: pieces of names that the package's table does not know, and what it knows.
    """

    classes: str
    arch: str
    config: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)
    change: Change = as_it_is
    skipped: str = "$^"
    renamed: Mapping[str, str] = field(default_factory=dict)
    of_config: str = "Config"
    of_model: str = "ForCausalLM"


def save(model: Converted, folder: Path) -> None:
    """What transformers' `save_pretrained` writes, with random parameters."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = getattr(transformers, model.classes + model.of_config)(**{**BASE, **model.config})
    torch.manual_seed(7)
    built = getattr(transformers, model.classes + model.of_model)(config).float()
    with torch.no_grad():
        for tensor in built.parameters():
            tensor.copy_(torch.randn_like(tensor))
    built.save_pretrained(folder)


def convert(model: Converted, folder: Path, path: Path) -> Path:
    """The same weights as one GGUF file."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == model.arch)
    table = gguf.get_tensor_name_map(arch, 4)
    writer = gguf.GGUFWriter(path, model.arch)
    usual = {
        "block_count": 2,
        "embedding_length": D,
        "feed_forward_length": FF,
        "attention.head_count": H,
        "attention.head_count_kv": G,
    }
    for key, value in {**usual, **model.keys}.items():
        if isinstance(value, list):
            writer.add_array(f"{model.arch}.{key}", value)
        elif value is not None:
            writer.add_uint32(f"{model.arch}.{key}", value)
    for name, w in stack_experts(load_file(folder / "model.safetensors")).items():
        if re.search(model.skipped, name):
            continue
        for changed, tensor in model.change(name, w, config):
            if not changed.startswith("blk."):
                for piece, known in model.renamed.items():
                    changed = changed.replace(piece, known) if not changed.endswith(known) else changed
                short = table.get_name(changed, try_suffixes=(".weight", ".bias"))
                short = short or table.get_name(f"model.{changed}", try_suffixes=(".weight", ".bias"))
                assert short is not None, changed
                changed = short
            tensor = tensor[0] if changed.endswith("inp_shexp.weight") else tensor
            writer.add_tensor(changed, np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
