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
    "token_types": ("any", "model"),  # which of two texts a token is of (BERT)
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
    "v": ("value", "model"),
    "q_norm": ("query norm",),
    "k_norm": ("key norm",),
    "q_a": ("any", "model"),  # latent queries, normed, then `q_b` (DeepSeek-V2, arXiv 2405.04434)
    "q_a_norm": ("any",),
    "q_b": ("query", "any"),
    "kv_a": ("any", "model"),  # latent keys and values, and behind them the key dimensions that rotate
    "kv_a_norm": ("any",),
    "kv_b": ("latent", "any"),  # per head: the key dimensions that do not rotate, then the value
    "attention_gate": ("any", "model"),  # multiplies what heads write, by dimension or by head
    "sinks": ("heads",),  # a score per head that takes attention and writes nothing
    "attention_inner_norm": ("written",),  # on what heads write, in front of `o` (BitNet)
    "o": ("model", "written"),
    "post_attention_norm": ("model",),  # on the attention's output, before it joins the residual stream
    "feed_forward_norm": ("model",),
    "gate": ("ff", "model"),
    "up": ("ff", "model"),
    "feed_forward_inner_norm": ("any",),
    "down": ("model", "ff"),
    "post_feed_forward_norm": ("model",),
    "router": ("experts", "model"),
    "router_correction": ("experts",),  # added to a score when experts are chosen, not when they are weighed
    "expert_down_bias": ("experts", "model"),
    "shared_router": ("one", "model"),  # how much of the shared expert: a sigmoid of its product with x
}

NEURON_ROLES = ("gate", "up", "down")
"""The roles that a mixture of experts has once per expert; canonical is their union."""

ROUTER_ROLES = ("router", "router_correction", "expert_down_bias", "shared_router")
"""The roles that only a sparse layer has."""

ATTENTION_ROLES = (
    "attention_norm",
    *("q", "k", "v", "q_norm", "k_norm", "q_a", "q_a_norm", "q_b", "kv_a", "kv_a_norm", "kv_b"),
    *("attention_gate", "sinks", "attention_inner_norm", "o", "post_attention_norm", "qkv", "q_gate"),
)
FEED_FORWARD_ROLES = (
    "feed_forward_norm",
    *NEURON_ROLES,
    "gate_up",
    "feed_forward_inner_norm",
    *ROUTER_ROLES,
    "post_feed_forward_norm",
)

FUSED_ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "qkv": {"concat": ("q", "k", "v"), "grouped": ("q", "k", "v"), "four_blocks": ("q", "v", "k")},
    "gate_up": {"gate_first": ("gate", "up"), "up_first": ("up", "gate")},
    "q_gate": {"by_head": ("q", "attention_gate")},
}
"""Fused role -> split -> the module roles in stored order.

`concat`: all query rows, then all key rows, then all value rows.
`grouped`: `(g, h/g + 2, e)`: for each KV group its query heads, its key, its value. With g = h this is the
per-head interleaving of GPT-NeoX and Bloom; with g = 1 it equals `concat` (Falcon-7B). `by_head`: for each head its
query, then what gates its output. `four_blocks`: a quarter of the queries, of the values, of the keys, four times.
"""

ORDER = (
    "embedding",
    "position",
    "token_types",
    "embedding_norm",
    "project_in",
    "final_norm",
    "project_out",
    "unembedding",
)
"""Of the global roles; the layers stand in front of the final norm."""


@dataclass(frozen=True)
class Widths:
    """The numbers behind the symbols of the two tables above.

    Attributes:
        dense_ff: width of a dense layer.
        value: of one head.
        nope: dimensions of a latent key that do not rotate; 0 where keys are not latent.
        other: dimensions of a head and KV heads in layers of another kind, or zeros.
    """

    geometry: Geometry
    embed: int
    experts: Experts
    dense_ff: int
    value: int = 0
    nope: int = 0
    other: tuple[int, int] = (0, 0)

    def sizes(self, symbol: str) -> tuple[int, ...]:
        """Acceptable sizes for one symbol; empty means any."""
        g, value = self.geometry, self.value or self.geometry.head_dim
        e, n = (own or usual for own, usual in zip(self.other, (g.head_dim, g.n_kv_heads), strict=True))
        keys = tuple(dict.fromkeys((g.n_kv_heads * g.head_dim, n * e)))
        table: dict[str, tuple[int, ...]] = {
            "any": (),
            "vocab": (g.vocab_size,),
            "embed": (self.embed,),
            "model": (g.d_model,),
            "query": tuple(dict.fromkeys((g.n_heads * g.head_dim, g.n_heads * e))),
            "key": keys,
            "value": keys if value == g.head_dim else tuple(dict.fromkeys((g.n_kv_heads * value, n * value))),
            "written": (g.n_heads * value, *((g.n_heads * e,) if e != value == g.head_dim else ())),
            "latent": (g.n_heads * (self.nope + value),),
            "heads": (g.n_heads,),
            "query norm": (g.head_dim, g.n_heads * g.head_dim, e),
            "key norm": (g.head_dim, g.n_kv_heads * g.head_dim, e),
            "ff": (self.dense_ff,),
            "experts": (self.experts.n,),
            "one": (1,),
        }
        return table[symbol]


def symbols_of(role: str) -> tuple[str, ...]:
    """The symbolic shape of a canonical role without its layer, `q` or `q_bias`."""
    table = GLOBAL_ROLES | LAYER_ROLES
    if role.endswith("_bias") and role not in table:
        return table[role.removesuffix("_bias")][:1]
    return table[role]
