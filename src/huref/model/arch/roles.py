"""The closed list of canonical tensors: what each is called, and its shape in symbols.

A *module role* such as `q` owns a weight (`layers.3.q`) and may own a bias (`layers.3.q_bias`). A *fused*
role stands for one stored matrix that holds several module roles.
"""

from __future__ import annotations

from dataclasses import dataclass

from huref.model.arch.canonical import Experts, Geometry

GLOBAL_ROLES: dict[str, tuple[str, ...]] = {
    "embedding": ("vocab", "embed"),
    "position": ("any", "model"),  # learned positions, a row each
    "embedding_norm": ("model",),
    "project_in": ("model", "embed"),  # OPT-350m: embeddings narrower than the residual stream
    "project_out": ("embed", "model"),
    "final_norm": ("model",),
    "unembedding": ("vocab", "embed"),
}

LAYER_ROLES: dict[str, tuple[str, ...]] = {
    "attention_norm": ("model",),
    "q": ("query", "model"),
    "k": ("key", "model"),
    "v": ("key", "model"),
    "q_norm": ("query norm",),
    "k_norm": ("key norm",),
    "o": ("model", "query"),
    "post_attention_norm": ("model",),  # on the attention's output, before it joins the residual stream
    "feed_forward_norm": ("model",),
    "gate": ("ff", "model"),
    "up": ("ff", "model"),
    "down": ("model", "ff"),
    "post_feed_forward_norm": ("model",),
    "router": ("experts", "model"),
    "shared_router": ("one", "model"),  # how much of the shared expert: a sigmoid of its product with x
}

NEURON_ROLES = ("gate", "up", "down")
"""The roles that a mixture of experts has once per expert; canonical is their union."""

ROUTER_ROLES = ("router", "shared_router")
"""The roles that only a sparse layer has."""

FUSED_ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "qkv": {"concat": ("q", "k", "v"), "grouped": ("q", "k", "v")},
    "gate_up": {"gate_first": ("gate", "up"), "up_first": ("up", "gate")},
}
"""Fused role -> split -> the module roles in stored order.

`concat`: all query rows, then all key rows, then all value rows.
`grouped`: `(g, h/g + 2, e)`: for each KV group its query heads, its key, its value. With g = h this is the
per-head interleaving of GPT-NeoX and Bloom; with g = 1 it equals `concat` (Falcon-7B).
"""


@dataclass(frozen=True)
class Widths:
    """The numbers behind the symbols of the two tables above; `dense_ff` is the width of a dense layer."""

    geometry: Geometry
    embed: int
    experts: Experts
    dense_ff: int

    def sizes(self, symbol: str) -> tuple[int, ...]:
        """Acceptable sizes for one symbol; empty means any."""
        g = self.geometry
        table: dict[str, tuple[int, ...]] = {
            "any": (),
            "vocab": (g.vocab_size,),
            "embed": (self.embed,),
            "model": (g.d_model,),
            "query": (g.n_heads * g.head_dim,),
            "key": (g.n_kv_heads * g.head_dim,),
            "query norm": (g.head_dim, g.n_heads * g.head_dim),
            "key norm": (g.head_dim, g.n_kv_heads * g.head_dim),
            "ff": (self.dense_ff,),
            "experts": (self.experts.n,),
            "one": (1,),
        }
        return table[symbol]


def symbols_of(role: str) -> tuple[str, ...]:
    """The symbolic shape of a canonical role without its layer, `q` or `q_bias`."""
    table = GLOBAL_ROLES | LAYER_ROLES
    if role.endswith("_bias"):
        return table[role.removesuffix("_bias")][:1]
    return table[role]
