"""What a plain Llama is: the tensors it has, their names in transformers, and what sets another structure apart."""

from __future__ import annotations

from collections.abc import Iterable

from huref.model.arch.canonical import Geometry
from huref.model.arch.weights import Architecture

EXPECTED = "a plain Llama: rms norms, gated silu, full rotations in halves, no biases"

HUGGING_FACE_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "unembedding": "lm_head.weight",
    "attention_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "feed_forward_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
"""Canonical role -> name in transformers' Llama, within its layer for layer roles."""


def unlike_llama(arch: Architecture, sizes: Geometry, names: Iterable[str]) -> str:
    """What a structure with these canonical tensors has that a plain Llama has not; empty for a plain Llama."""
    more = sorted({name.split(".", 2)[-1] for name in names} - set(HUGGING_FACE_NAMES))
    if more:
        return f"{arch.name} with {', '.join(more)}"
    is_plain = (
        arch.norm == "rms"
        and arch.gated
        and arch.activation == "silu"
        and arch.position == "rope_half"
        and arch.rotary_dim == sizes.head_dim
        and not arch.parallel
        and not arch.norm_after_residual
    )
    return "" if is_plain else f"{arch.name} with {arch.norm} norm, {arch.activation}, {arch.position}"
