"""The forward pass of a decoder in plain numpy, float64, from canonical weights alone.

It is the independent oracle for `huref.model.arch`: it knows no family names and no stored layouts. What a
configuration adds to the weights (epsilon, rotation base, scalings) comes in through `Settings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.demo.tensors import as_tensor
from huref.model.arch import CanonicalWeights

Array = np.ndarray


@dataclass(frozen=True)
class Settings:
    """Numbers that are not weights; the defaults are those of most families."""

    eps: float = 1e-5
    thetas: tuple[float, ...] = (10000.0,)  # per layer, or one for all
    rotates: tuple[int, ...] = (1,)  # per layer, or one for all
    activation: str = "silu"
    attention_scale: float | None = None  # None: 1 / sqrt(head size)
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_cap: float | None = None
    final_cap: float | None = None
    position_offset: int = 0
    scales_alibi: bool = False
    experts_per_token: int = 0
    renormalises_experts: bool = True  # the chosen experts' weights sum to 1


def settings_of(weights: CanonicalWeights, config: Mapping[str, Any]) -> Settings:
    """Settings from a transformers config.json."""
    model_type = config["model_type"]
    ropes = config.get("rope_parameters") or {}
    kinds = config.get("layer_types") or []
    thetas = [ropes[kind]["rope_theta"] for kind in kinds if kind in ropes]
    is_gemma = model_type.startswith("gemma")
    pre_scalar = config.get("query_pre_attn_scalar")
    return Settings(
        eps=_first(config, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", default=1e-5),
        thetas=tuple(thetas) or (ropes.get("rope_theta", 10000.0),),
        rotates=_rotates(config),
        activation=_first(
            config,
            "hidden_act",
            "hidden_activation",
            "activation_function",
            "activation",
            default=weights.architecture.activation,
        ),
        attention_scale=1.0
        if model_type == "gpt_neo"
        else pre_scalar**-0.5
        if pre_scalar
        else config.get("attention_multiplier"),
        embedding_scale=math.sqrt(config["hidden_size"]) if is_gemma else config.get("embedding_multiplier", 1.0),
        residual_scale=config.get("residual_multiplier", 1.0),
        logit_scale=config.get("logit_scale") or 1.0 / config.get("logits_scaling", 1.0),
        attention_cap=config.get("attn_logit_softcapping"),
        final_cap=config.get("final_logit_softcapping"),
        position_offset=2 if model_type == "opt" else 0,
        scales_alibi=model_type == "falcon",
        experts_per_token=config.get("num_experts_per_tok") or 0,
        renormalises_experts=config.get("norm_topk_prob", True),
    )


def _rotates(config: Mapping[str, Any]) -> tuple[int, ...]:
    if config["model_type"] == "cohere2":  # only its sliding layers rotate
        return tuple(int(kind == "sliding_attention") for kind in config["layer_types"])
    return tuple(config.get("no_rope_layers") or (1,))


def logits(weights: CanonicalWeights, ids: Array, settings: Settings) -> Array:
    """Logits (tokens, vocabulary) for one sequence of token ids."""
    return _Forward(weights, settings).logits(ids)


class _Forward:
    def __init__(self, weights: CanonicalWeights, settings: Settings) -> None:
        self.weights = weights
        self.arch = weights.architecture
        self.geometry = weights.geometry
        self.settings = settings

    def get(self, name: str) -> Array | None:
        if name not in self.weights:
            return None
        return as_tensor(self.weights.read(name)).double().numpy()

    def linear(self, name: str, x: Array) -> Array:
        W, b = self.get(name), self.get(f"{name}_bias")
        assert W is not None
        return x @ W.T + (0 if b is None else b)

    def norm(self, name: str, x: Array) -> Array:
        return self.normalise(x, self.get(name), self.get(f"{name}_bias"))

    def normalise(self, x: Array, gain: Array | None, bias: Array | None) -> Array:
        if self.arch.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.settings.eps)
        return x * (1 if gain is None else gain) + (0 if bias is None else bias)

    def logits(self, ids: Array) -> Array:
        s = self.settings
        x = as_tensor(self.weights.embedding(ids)).double().numpy() * s.embedding_scale
        if self.arch.position == "learned":
            table = self.get("position")
            assert table is not None
            x = x + table[np.arange(len(ids)) + s.position_offset]
        if "embedding_norm" in self.weights:
            x = self.norm("embedding_norm", x)
        for layer in range(self.geometry.n_layers):
            x = self.block(layer, x)
        # OLMo 1 has a final norm without parameters, OPT-350m has none at all.
        if not self.arch.norm_after_residual:
            x = self.norm("final_norm", x)
        if "project_out" in self.weights:
            x = self.linear("project_out", x)
        return _cap(self.linear("unembedding", x) * s.logit_scale, s.final_cap)

    def block(self, layer: int, x: Array) -> Array:
        at = f"layers.{layer}."
        scale = self.settings.residual_scale
        if self.arch.norm_after_residual:
            x = self.norm(f"{at}attention_norm", x + self.attention(layer, x))
            return self.norm(f"{at}feed_forward_norm", x + self.feed_forward(at, x))
        a = self.behind(f"{at}post_attention_norm", self.attention(layer, self.front(f"{at}attention_norm", x)))
        if self.arch.parallel:
            return x + a + self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        x = x + scale * a
        f = self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        return x + scale * self.behind(f"{at}post_feed_forward_norm", f)

    def front(self, name: str, x: Array) -> Array:
        """The norm in front of a branch: none in OLMo 2, one without parameters in OLMo 1."""
        if name not in self.weights and not self.arch.unit_norms:
            return x
        return self.norm(name, x)

    def behind(self, name: str, x: Array) -> Array:
        return self.norm(name, x) if name in self.weights else x

    def attention(self, layer: int, x: Array) -> Array:
        g, at = self.geometry, f"layers.{layer}."
        q = self.heads(f"{at}q", x, g.n_heads, layer)
        k = self.heads(f"{at}k", x, g.n_kv_heads, layer)
        v = self.linear(f"{at}v", x).reshape(len(x), g.n_kv_heads, g.head_dim)
        k, v = (np.repeat(part, g.n_heads // g.n_kv_heads, axis=1) for part in (k, v))
        scale = self.settings.attention_scale or g.head_dim**-0.5
        scores = np.einsum("thd,shd->hts", q, k) * scale
        if self.arch.position == "alibi":
            distance = np.arange(len(x))[None, :] - np.arange(len(x))[:, None]
            slopes = 2.0 ** (-8.0 * (np.arange(g.n_heads) + 1) / g.n_heads)
            scores = scores + slopes[:, None, None] * distance * (scale if self.settings.scales_alibi else 1)
        scores = _cap(scores, self.settings.attention_cap)
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        mixed = np.einsum("hts,shd->thd", _softmax(scores), v)
        return self.linear(f"{at}o", mixed.reshape(len(x), -1))

    def heads(self, name: str, x: Array, n: int, layer: int) -> Array:
        """Queries or keys (tokens, heads, e), normalised and rotated."""
        flat = self.linear(name, x)
        gain = self.get(f"{name}_norm")
        if gain is not None and gain.shape == flat.shape[1:] and gain.shape != (self.geometry.head_dim,):
            flat = self.normalise(flat, gain, self.get(f"{name}_norm_bias"))
        heads = flat.reshape(len(x), n, self.geometry.head_dim)
        if gain is not None and gain.shape != flat.shape[1:]:
            heads = self.normalise(heads, gain, None)
        rotates = self.settings.rotates[layer % len(self.settings.rotates)]
        return self.rotate(heads, layer) if rotates and self.arch.rotary_dim else heads

    def rotate(self, heads: Array, layer: int) -> Array:
        r = self.arch.rotary_dim
        theta = self.settings.thetas[layer % len(self.settings.thetas)]
        angle = np.arange(len(heads))[:, None] * theta ** (-np.arange(0, r, 2) / r)
        cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        out = heads.copy()
        halves = (slice(0, r // 2), slice(r // 2, r))
        first, second = (slice(0, r, 2), slice(1, r, 2)) if self.arch.position == "rope_interleaved" else halves
        out[..., first] = heads[..., first] * cos - heads[..., second] * sin
        out[..., second] = heads[..., second] * cos + heads[..., first] * sin
        return out

    def feed_forward(self, at: str, x: Array) -> Array:
        act = ACTIVATIONS[self.settings.activation]
        up = self.linear(f"{at}up", x)
        inner = act(self.linear(f"{at}gate", x)) * up if self.arch.gated else act(up)
        if f"{at}router" in self.weights:
            inner = inner * self.neuron_weights(at, x)
        return self.linear(f"{at}down", inner)

    def neuron_weights(self, at: str, x: Array) -> Array:
        """How much each neuron of the union counts for each token: its expert's weight, mostly 0."""
        share = _softmax(self.linear(f"{at}router", x))
        chosen = np.argsort(-share, axis=-1)[:, : self.settings.experts_per_token]
        kept = np.zeros_like(share)
        np.put_along_axis(kept, chosen, np.take_along_axis(share, chosen, -1), -1)
        if self.settings.renormalises_experts:
            kept = kept / kept.sum(-1, keepdims=True)
        each = np.repeat(kept, self.arch.expert_width, axis=1)
        if not self.arch.shared_width:
            return each
        shared = 1 / (1 + np.exp(-self.linear(f"{at}shared_router", x)))
        return np.concatenate([each, np.repeat(shared, self.arch.shared_width, axis=1)], axis=1)


def _first(config: Mapping[str, Any], *keys: str, default: Any) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), default)


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _cap(x: Array, cap: float | None) -> Array:
    return x if cap is None else cap * np.tanh(x / cap)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_tanh": _gelu_tanh,
}
