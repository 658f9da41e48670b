"""Merges written down from their papers, and a family to merge: random weights, fine-tunes as random changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from kit.gguf_export import write_gguf
from kit.tiny_llama import TinyLlama

State = dict[str, Tensor]
LAYERS = 3


def base_state(seed: int = 0, n_layers: int = LAYERS) -> State:
    return TinyLlama(seed=seed, n_layers=n_layers).tensors()


def tuned(base: Mapping[str, Tensor], seed: int, amount: float = 0.1) -> State:
    """Every tensor moved by `amount` times its standard deviation in a random direction."""
    dice = torch.Generator().manual_seed(1000 + seed)
    return {name: t + amount * t.std() * torch.randn(t.shape, generator=dice) for name, t in base.items()}


def save(folder: Path, state: Mapping[str, Tensor], n_layers: int = LAYERS, **config: object) -> Path:
    """A checkpoint without a tokenizer: none is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    vocabulary = len(state["model.embed_tokens.weight"])
    described = {**TinyLlama(n_layers=n_layers).config, "vocab_size": vocabulary, **config}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def save_gguf(path: Path, state: Mapping[str, Tensor], kind: gguf.GGMLQuantizationType) -> Path:
    """The same as a GGUF file with its matrices quantised."""
    whole = path.with_suffix(".f32.gguf")
    write_gguf(whole, {name: t.numpy() for name, t in state.items()}, TinyLlama(n_layers=LAYERS).config)
    reader = gguf.GGUFReader(whole)
    writer = gguf.GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(name, field.contents(), field.types[0])
    for tensor in reader.tensors:
        if len(tensor.shape) > 1:
            writer.add_tensor(tensor.name, gguf.quants.quantize(tensor.data, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def linear(states: Sequence[State], weights: Sequence[float]) -> State:
    return {name: sum(w * s[name] for s, w in zip(states, weights, strict=True)) for name in states[0]}


def task_arithmetic(base: State, states: Sequence[State], weights: Sequence[float]) -> State:
    tasks = [{name: s[name] - base[name] for name in base} for s in states]
    moved = linear(tasks, weights)
    return {name: base[name] + moved[name] for name in base}


def slerp(a: State, b: State, t: float | Callable[[str], float]) -> State:
    """Shoemake's formula for each tensor, the angle between the tensors as vectors."""

    def one(name: str) -> Tensor:
        share = t(name) if callable(t) else t
        u, v = a[name].double(), b[name].double()
        angle = torch.acos((u * v).sum() / u.norm() / v.norm())
        return ((torch.sin((1 - share) * angle) * u + torch.sin(share * angle) * v) / torch.sin(angle)).float()

    return {name: one(name) for name in a}


def ties(base: State, states: Sequence[State], density: float, scale: float = 1.0) -> State:
    """Trim, elect a sign, average those that agree (arXiv 2306.01708)."""
    merged = {}
    for name in base:
        tasks = torch.stack([s[name] - base[name] for s in states])
        kept = max(1, int(density * tasks[0].numel()))
        for task in tasks:
            bound = task.abs().flatten().sort(descending=True).values[kept - 1]
            task[task.abs() < bound] = 0
        elected = tasks.sum(0).sign()
        agrees = (tasks.sign() == elected) & (tasks != 0)
        merged[name] = base[name] + scale * (tasks * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    return merged


def dare(base: State, states: Sequence[State], weights: Sequence[float], drop: float, seed: int = 0) -> State:
    """Drop entries at random and rescale the others (arXiv 2311.03099)."""
    dice = torch.Generator().manual_seed(seed)
    merged = {}
    for name in base:
        total = torch.zeros_like(base[name])
        for state, weight in zip(states, weights, strict=True):
            keep = torch.rand(base[name].shape, generator=dice) >= drop
            total += weight * keep * (state[name] - base[name]) / (1 - drop)
        merged[name] = base[name] + total
    return merged


def frankenmerge(states: Sequence[State], layers: Sequence[tuple[int, int]]) -> State:
    """Layer i is layer `layers[i][1]` of model `layers[i][0]`; the rest is the first model's."""
    merged = {name: t for name, t in states[0].items() if ".layers." not in name}
    for new, (model, old) in enumerate(layers):
        head = f"model.layers.{old}."
        taken = {name: t for name, t in states[model].items() if name.startswith(head)}
        merged |= {name.replace(head, f"model.layers.{new}."): t for name, t in taken.items()}
    return merged


def noisy(state: State, amount: float, seed: int = 5) -> State:
    return tuned(state, seed + 500, amount)


def flat(state: Mapping[str, Tensor]) -> np.ndarray:
    return np.concatenate([state[name].numpy().ravel().astype(np.float64) for name in sorted(state)])
