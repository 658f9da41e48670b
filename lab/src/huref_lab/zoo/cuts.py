"""Zoo models that are cut from others: layers, neurons, head groups, small weights; and experts from a dense one.

Every function takes and gives a `Stored`. A cut model's tensors are blocks of its parent's; nothing is scaled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from huref_lab.zoo.stored import Stored, is_projection, layer_of, norm, take_layers

_NEURON_AXIS = {
    "gate_proj.weight": 0,
    "up_proj.weight": 0,
    "down_proj.weight": 1,
    "w1.weight": 0,
    "w3.weight": 0,
    "w2.weight": 1,
    "dense_h_to_4h.weight": 0,
    "dense_h_to_4h.bias": 0,
    "dense_4h_to_h.weight": 1,
    "c_fc.weight": 1,
    "c_fc.bias": 0,
    "mlp.c_proj.weight": 0,
}
"""End of a stored name -> the axis along which the feed-forward's neurons lie (GPT-2's are transposed)."""

_HEAD_AXIS = {"q_proj.weight": 0, "k_proj.weight": 0, "v_proj.weight": 0, "o_proj.weight": 1}


def drop_layers(stored: Stored, dropped: list[int]) -> Stored:
    """Without some layers."""
    return take_layers([stored], [(0, i) for i in range(stored.depth) if i not in dropped])


def scale_up(stored: Stored, overlap: int) -> Stored:
    """Depth up-scaling (SOLAR, arXiv 2312.15166): the layers twice, without the last of the first copy and the first
    of the second, so that `overlap` layers are there twice."""
    n = stored.depth
    cut = (n - overlap) // 2
    return take_layers([stored], [(0, i) for i in [*range(n - cut), *range(cut, n)]])


def prune_neurons(stored: Stored, kept: float) -> Stored:
    """A share of every feed-forward's neurons: those with the longest weights in and out, in order.

    Their number is a multiple of 8, which products in bfloat16 ask for.
    """
    lengths: dict[str, Tensor] = {}
    for name, tensor in stored.tensors.items():
        axis = _axis(name, _NEURON_AXIS)
        if axis is not None and tensor.ndim == 2:
            unit = _unit(name)
            lengths[unit] = lengths.get(unit, torch.ones(tensor.shape[axis])) * norm(tensor, 1 - axis)
    keep = {unit: _best(length, 8 * round(kept * len(length) / 8)) for unit, length in lengths.items()}

    def change(name: str, tensor: Tensor) -> Tensor:
        axis = _axis(name, _NEURON_AXIS)
        return tensor if axis is None else tensor.index_select(axis, keep[_unit(name)])

    n = len(next(iter(keep.values())))
    return stored.changed(change, **{"n_inner" if "n_inner" in stored.config else "intermediate_size": n})


def prune_groups(stored: Stored, kept: int) -> Stored:
    """Some of every layer's key-value heads with their queries: those that the output projection reads loudest."""
    heads, groups = int(stored.config["num_attention_heads"]), int(stored.config["num_key_value_heads"])
    head_dim = stored.config.get("head_dim") or int(stored.config["hidden_size"]) // heads
    each = heads // groups
    keep = {
        layer_of(name): _best(norm(tensor, 0).view(groups, -1).pow(2).sum(1), kept)
        for name, tensor in stored.tensors.items()
        if name.endswith("self_attn.o_proj.weight")
    }

    def change(name: str, tensor: Tensor) -> Tensor:
        axis = _axis(name, _HEAD_AXIS)
        if axis is None:
            return tensor
        width = head_dim * (1 if re.search(r"\.[kv]_proj\.", name) else each)
        rows = (keep[layer_of(name)][:, None] * width + torch.arange(width)).flatten()
        return tensor.index_select(axis, rows)

    sizes = {"num_attention_heads": each * kept, "num_key_value_heads": kept, "head_dim": head_dim}
    return stored.changed(change, **sizes)


def sparsify(stored: Stored, share: float) -> Stored:
    """The smallest weights of every matrix inside a layer are zero."""

    def change(name: str, tensor: Tensor) -> Tensor:
        if not is_projection(name, tensor):
            return tensor
        bound = tensor.abs().flatten().kthvalue(max(1, round(share * tensor.numel()))).values
        return torch.where(tensor.abs() > bound, tensor, torch.zeros(()))

    return stored.changed(change)


def upcycle(stored: Stored, experts: int, noise: float, seed: int) -> Stored:
    """Sparse up-cycling (arXiv 2212.05055): a dense Llama as a Mixtral whose experts are copies of its feed-forward.

    Args:
        noise: added to every copy but the first, in standard deviations of the matrix, so that experts differ.
        seed: of the noise and of the router, N(0, 0.02^2).
    """
    dice = torch.Generator().manual_seed(seed)
    renamed = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    tensors: dict[str, Tensor] = {}
    for name, tensor in sorted(stored.tensors.items()):
        found = re.fullmatch(r"(.+)\.mlp\.(\w+)\.weight", name)
        if not found:
            tensors[name] = tensor
            continue
        for e in range(experts):
            extra = noise * tensor.std() * torch.randn(tensor.shape, generator=dice) if e else 0.0
            tensors[f"{found[1]}.block_sparse_moe.experts.{e}.{renamed[found[2]]}.weight"] = tensor + extra
        if found[2] == "gate_proj":
            router = 0.02 * torch.randn(experts, tensor.shape[1], generator=dice)
            tensors[f"{found[1]}.block_sparse_moe.gate.weight"] = router
    changes: dict[str, Any] = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral"}
    changes |= {"num_local_experts": experts, "num_experts_per_tok": 2, "sliding_window": None}
    return Stored(tensors, {**stored.config, **changes}, stored.tokenizer)


def _axis(name: str, table: Mapping[str, int]) -> int | None:
    return next((axis for end, axis in table.items() if name.endswith(f".{end}")), None)


def _unit(name: str) -> str:
    """The feed-forward that a matrix belongs to: a layer's, or an expert's."""
    expert = re.search(r"\.experts\.(\d+)\.", name)
    return f"{layer_of(name)}/{expert[1] if expert else ''}"


def _best(scores: Tensor, n: int) -> Tensor:
    """Indices of the n best, in rising order."""
    return scores.topk(max(1, n)).indices.sort().values
