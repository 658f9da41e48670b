"""A Llama decoder in one file, in PyTorch: configuration, weights, forward pass.

The lab needs to run models: to train an offspring, and to check that a rearranged copy still computes the same
function. Weights carry canonical names and orientation (`huref.model.arch`), so one forward pass serves Hugging Face
and GGUF checkpoints alike. Root-mean-square norms, rotary positions in halves, grouped-query attention, SwiGLU
(Touvron et al. 2023, arXiv 2302.13971; Ainslie et al. 2023, arXiv 2305.13245).

Shapes: `b` sequences of `n` tokens, and the letters of `huref.model.arch.canonical`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from huref.errors import ArchitectureError
from huref.model.arch.canonical import Geometry
from huref.model.arch.weights import CanonicalWeights

LAYER_ROLES = ("attention_norm", "q", "k", "v", "o", "feed_forward_norm", "gate", "up", "down")
GLOBAL_ROLES = ("embedding", "final_norm", "unembedding")

_CHANGES_THE_FUNCTION = (
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "no_rope_layers",
)
"""Settings of Llama-shaped families (Granite, SmolLM3) that the forward pass below does not know."""


@dataclass(frozen=True)
class LlamaConfig:
    """What the forward pass needs beside the weights.

    Attributes:
        geometry: the sizes.
        rope_theta: base of the rotary frequencies.
        norm_eps: added to the mean square inside every norm.
    """

    geometry: Geometry
    rope_theta: float
    norm_eps: float


@dataclass(frozen=True)
class Llama:
    """A decoder's weights by canonical name, all of one floating type. Functions return new ones.

    Attributes:
        config: sizes and constants.
        tensors: `embedding` (v, d), `layers.3.q` (h e, d), ..., `final_norm` (d,); `unembedding` (v, d) only
            where it is not the embedding.
    """

    config: LlamaConfig
    tensors: Mapping[str, Tensor]

    @property
    def is_tied(self) -> bool:
        """Whether embedding and unembedding are one matrix."""
        return "unembedding" not in self.tensors

    @property
    def unembedding(self) -> Tensor:
        """(v, d)."""
        return self.tensors["embedding" if self.is_tied else "unembedding"]

    def layer(self, index: int) -> dict[str, Tensor]:
        """One layer's tensors by role."""
        return {role: self.tensors[f"layers.{index}.{role}"] for role in LAYER_ROLES}

    def to(self, dtype: torch.dtype) -> Llama:
        """The same weights in another floating type."""
        return Llama(self.config, {name: tensor.to(dtype) for name, tensor in self.tensors.items()})


def load_llama(weights: CanonicalWeights, dtype: torch.dtype = torch.float32) -> Llama:
    """Read a whole model into memory.

    Raises:
        ArchitectureError: the model is not a plain Llama: biases, query norms, scaled or partial rotations.
    """
    _check_structure(weights)
    tensors = {name: weights.read(name).to(dtype) for name in weights.names()}
    return Llama(read_config(weights), tensors)


def read_config(weights: CanonicalWeights) -> LlamaConfig:
    """The rotary base and the norm's epsilon, from config.json or GGUF key-values.

    Raises:
        ArchitectureError: one of them is missing, or rotations are scaled.
    """
    checkpoint = weights.checkpoint
    if checkpoint.format == "gguf":
        prefix = str(checkpoint.metadata.get("general.architecture", "llama"))
        theta = checkpoint.metadata.get(f"{prefix}.rope.freq_base", 10000.0)
        eps = checkpoint.metadata.get(f"{prefix}.attention.layer_norm_rms_epsilon")
        scaling = checkpoint.metadata.get(f"{prefix}.rope.scaling.type", "none")
    else:
        rope = _rope(checkpoint.config)
        theta = rope.get("rope_theta", checkpoint.config.get("rope_theta", 10000.0))
        eps = checkpoint.config.get("rms_norm_eps")
        scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling not in ("none", "default") or eps is None:
        _refuse(weights, "unscaled rotations and a norm epsilon", f"rotations {scaling}, epsilon {eps}")
    return LlamaConfig(weights.geometry, float(theta), float(eps or 0.0))


def logits(model: Llama, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Next-token logits.

    Args:
        ids: (b, n) int64.
        dtype: type to compute in; None computes in the weights' own.

    Returns:
        (b, n, v).
    """
    hidden = hidden_states(model, ids, dtype)
    return hidden @ model.unembedding.to(hidden.dtype).T


def next_token_loss(model: Llama, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Mean cross-entropy in nats of each token given those before it, a scalar in float32 or wider."""
    scores = logits(model, ids[:, :-1], dtype)
    scores = scores.float() if scores.dtype == torch.bfloat16 else scores
    return functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())


def hidden_states(model: Llama, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What the unembedding sees: (b, n, d), after the final norm."""
    config = model.config
    x = functional.embedding(ids, model.tensors["embedding"])
    x = x if dtype is None else x.to(dtype)
    turns = rotary_table(config, ids.shape[1], x.dtype)
    for index in range(config.geometry.n_layers):
        layer = {role: tensor.to(x.dtype) for role, tensor in model.layer(index).items()}
        x = x + attend(layer, rms_norm(x, layer["attention_norm"], config.norm_eps), config.geometry, turns)
        x = x + feed_forward(layer, rms_norm(x, layer["feed_forward_norm"], config.norm_eps))
    return rms_norm(x, model.tensors["final_norm"].to(x.dtype), config.norm_eps)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Each row over its root mean square, times the gain; the mean is taken in float32 or wider."""
    wide = x.float() if x.dtype == torch.bfloat16 else x
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return normed.to(x.dtype) * gain


def rotary_table(config: LlamaConfig, n_tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (n, e / 2) each, computed in float64 (Su et al. 2021, arXiv 2104.09864)."""
    half = config.geometry.head_dim // 2
    frequencies = config.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(n_tokens, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (j, j + e / 2) of (b, heads, n, e) by its position's angle."""
    cos, sin = turns
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def attend(layer: Mapping[str, Tensor], x: Tensor, sizes: Geometry, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Causal grouped-query attention of normed `x` (b, n, d)."""
    # (b, n, heads e) -> (b, heads, n, e), and back at the end
    q, k, v = (_split_heads(x @ layer[role].T, sizes.head_dim) for role in ("q", "k", "v"))
    per_group = sizes.n_heads // sizes.n_kv_heads
    k, v = (part.repeat_interleave(per_group, dim=1) for part in (rotate(k, turns), v))
    mixed = functional.scaled_dot_product_attention(rotate(q, turns), k, v, is_causal=True)
    return mixed.transpose(1, 2).flatten(2) @ layer["o"].T


def feed_forward(layer: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """SwiGLU of normed `x` (b, n, d)."""
    return (functional.silu(x @ layer["gate"].T) * (x @ layer["up"].T)) @ layer["down"].T


def _split_heads(rows: Tensor, head_dim: int) -> Tensor:
    b, n, _ = rows.shape
    return rows.view(b, n, -1, head_dim).transpose(1, 2)


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary section: `rope_parameters` since transformers 5, `rope_scaling` before."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _check_structure(weights: CanonicalWeights) -> None:
    """Refuse what the forward pass above would compute wrongly, instead of ignoring it."""
    arch, sizes = weights.architecture, weights.geometry
    roles = {name.split(".", 2)[-1] for name in weights.names()}
    unknown = sorted(roles - set(LAYER_ROLES) - set(GLOBAL_ROLES))
    unknown += [key for key in _CHANGES_THE_FUNCTION if key in weights.checkpoint.config]
    is_plain = (
        arch.norm == "rms"
        and arch.gated
        and arch.activation == "silu"
        and arch.position == "rope_half"
        and arch.rotary_dim == sizes.head_dim
        and not arch.parallel
        and not arch.norm_after_residual
    )
    if unknown or not is_plain:
        got = f"{arch.name} with {', '.join(unknown) or f'{arch.norm} norm, {arch.activation}, {arch.position}'}"
        _refuse(weights, "a plain Llama: rms norms, gated silu, full rotations in halves, no biases", got)


def _refuse(weights: CanonicalWeights, expected: str, got: str) -> None:
    raise ArchitectureError(
        "the lab can run only models built like Llama",
        where=weights.checkpoint.reference,
        expected=expected,
        got=got,
        next_step="choose a Llama, Mistral or SmolLM checkpoint; huref fingerprint takes every family",
    )
