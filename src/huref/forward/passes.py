"""The forward pass of a decoder: logits.

One pass serves every family and both uses: attacks compare its logits in float64, by numpy; training, which brings
operations on tensors (`huref.demo.differentiable`), goes back through it in float32 or bfloat16.

Shapes: `b` sequences of `n` tokens, and the letters of `huref.model.arch.canonical`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from huref.forward.decoder import Decoder
from huref.forward.operations import ACTIVATIONS, ARRAYS, Operations, Values


def logits(decoder: Decoder, ids: Values, dtype: Any = None, operations: Operations = ARRAYS) -> Values:
    """Next-token logits.

    Args:
        ids: (b, n) int64.
        dtype: type to compute in, weights converted as they are used; None computes in their own. Numpy computes
            well in float32 and float64 only.
        operations: those of whatever the decoder holds.

    Returns:
        (b, n, v).
    """
    return _Pass(decoder, operations, decoder.dtype if dtype is None else dtype, ids.shape[1]).logits(ids)


class _Pass:
    """One forward pass; `x` is (b, n, d) throughout."""

    def __init__(self, decoder: Decoder, operations: Operations, dtype: Any, n_tokens: int) -> None:
        self.decoder = decoder
        self.do = operations
        self.arch = decoder.architecture
        self.sizes = decoder.geometry
        self.settings = decoder.settings
        self.dtype = dtype
        self.turns = [self.rotary_table(each, n_tokens) for each in decoder.settings.frequencies]

    def rotary_table(self, frequencies: tuple[float, ...], n_tokens: int) -> tuple[Values, Values]:
        """Cosines and sines, (n, r / 2) each, computed in float64 (Su et al. 2021, arXiv 2104.09864)."""
        angles = np.outer(np.arange(n_tokens, dtype=np.float64), np.array(frequencies, dtype=np.float64))
        return self.do.constant(np.cos(angles), self.dtype), self.do.constant(np.sin(angles), self.dtype)

    def weight(self, name: str) -> Values:
        return self.do.cast(self.decoder.tensors[name], self.dtype)

    def get(self, name: str) -> Values | None:
        return self.weight(name) if name in self.decoder else None

    def linear(self, name: str, x: Values) -> Values:
        return _shifted(self.do.linear(x, self.weight(name)), self.get(f"{name}_bias"))

    def norm(self, name: str, x: Values) -> Values:
        return self.normalise(x, self.get(name), self.get(f"{name}_bias"))

    def normalise(self, x: Values, gain: Values | None, bias: Values | None) -> Values:
        """Means are taken in float32 or wider."""
        wide = self.do.widened(x)
        if self.arch.norm == "layer":
            wide = wide - wide.mean(-1, keepdims=True)
        x = self.do.cast(wide * ((wide**2).mean(-1, keepdims=True) + self.settings.eps) ** -0.5, self.dtype)
        return _shifted(x if gain is None else x * gain, bias)

    def logits(self, ids: Values) -> Values:
        x = self.do.cast(self.do.embedding(self.decoder.tensors["embedding"], ids), self.dtype)
        if "project_in" in self.decoder:
            x = self.linear("project_in", x)
        x = _scaled(x, self.settings.embedding_scale)
        if self.arch.position == "learned":
            start = self.settings.position_offset
            x = x + self.do.cast(self.decoder.tensors["position"][start : start + ids.shape[1]], self.dtype)
        if "embedding_norm" in self.decoder:
            x = self.norm("embedding_norm", x)
        for layer in self.decoder.layers:
            x = self.block(layer, x)
        # OLMo 1 has a final norm without parameters, OPT-350m has none at all.
        if not self.arch.norm_after_residual:
            x = self.norm("final_norm", x)
        if "project_out" in self.decoder:
            x = self.linear("project_out", x)
        scores = self.do.linear(x, self.do.cast(self.decoder.unembedding, self.dtype))
        scores = _shifted(scores, self.get("unembedding_bias"))
        return self.capped(_scaled(scores, self.settings.logit_scale), self.settings.final_cap)

    def block(self, layer: int, x: Values) -> Values:
        at, scale = f"layers.{layer}.", self.settings.residual_scale
        if self.arch.norm_after_residual:
            x = self.norm(f"{at}attention_norm", x + self.attention(layer, x))
            return self.norm(f"{at}feed_forward_norm", x + self.feed_forward(at, x))
        a = self.behind(f"{at}post_attention_norm", self.attention(layer, self.front(f"{at}attention_norm", x)))
        if self.arch.parallel:
            return x + a + self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        x = x + _scaled(a, scale)
        f = self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        return x + _scaled(self.behind(f"{at}post_feed_forward_norm", f), scale)

    def front(self, name: str, x: Values) -> Values:
        """The norm in front of a branch: none in OLMo 2, one without parameters in OLMo 1."""
        return self.norm(name, x) if name in self.decoder or self.arch.unit_norms else x

    def behind(self, name: str, x: Values) -> Values:
        return self.norm(name, x) if name in self.decoder else x

    def attention(self, layer: int, x: Values) -> Values:
        g, at = self.sizes, f"layers.{layer}."
        origin = self.decoder.layer_origins[layer]
        q, k = self.heads(f"{at}q", x, g.n_heads, origin), self.heads(f"{at}k", x, g.n_kv_heads, origin)
        v = self.split(self.linear(f"{at}v", x), g.n_kv_heads)
        k, v = (self.do.repeat(part, g.n_heads // g.n_kv_heads, axis=1) for part in (k, v))
        mixed = self.mix(q, k, v).swapaxes(1, 2)
        return self.linear(f"{at}o", mixed.reshape(*mixed.shape[:2], -1))  # (b, n, h, e) -> (b, n, h e)

    def mix(self, q: Values, k: Values, v: Values) -> Values:
        """What each token takes of the values up to its own; everything is (b, h, n, e)."""
        scale = self.settings.attention_scale or self.sizes.head_dim**-0.5
        scores = q @ k.swapaxes(-1, -2) * scale  # (b, h, n, n)
        if self.arch.position == "alibi":
            scores = scores + self.alibi(q.shape[2]) * (scale if self.settings.scales_alibi else 1)
        return self.do.causal_softmax(self.capped(scores, self.settings.attention_cap)) @ v

    def alibi(self, n: int) -> Values:
        """(h, n, n), Press et al. 2022, for a number of heads that is a power of two."""
        heads = self.sizes.n_heads
        slopes = 2.0 ** (-8.0 * (np.arange(heads) + 1) / heads)
        places = np.arange(n)
        return self.do.constant(slopes[:, None, None] * (places[None, :] - places[:, None]), self.dtype)

    def heads(self, name: str, x: Values, n: int, origin: int) -> Values:
        """Queries or keys (b, heads, n, e), normalised and rotated."""
        flat = self.linear(name, x)
        gain, bias = self.get(f"{name}_norm"), self.get(f"{name}_norm_bias")
        is_over_all = gain is not None and gain.shape == flat.shape[2:] and gain.shape != (self.sizes.head_dim,)
        if is_over_all:
            flat = self.normalise(flat, gain, bias)
        heads = self.split(flat, n)
        if gain is not None and not is_over_all:
            per_head = [None if t is None else t if t.ndim == 1 else t[:, None, :] for t in (gain, bias)]
            heads = self.normalise(heads, per_head[0], per_head[1])
        rotates = self.settings.rotates[origin % len(self.settings.rotates)]
        return self.rotate(heads, origin) if rotates and self.arch.rotary_dim else heads

    def split(self, flat: Values, n: int) -> Values:
        """(b, n, heads e) -> (b, heads, n, e)."""
        return flat.reshape(*flat.shape[:2], n, self.sizes.head_dim).swapaxes(1, 2)

    def rotate(self, heads: Values, origin: int) -> Values:
        """Turn each rotary pair by its position's angle; dimensions behind the rotary ones stay."""
        r = self.arch.rotary_dim
        if r < heads.shape[-1]:
            return self.do.join((self.rotate(heads[..., :r], origin), heads[..., r:]))
        cos, sin = self.turns[origin % len(self.turns)]
        if self.arch.position == "rope_interleaved":
            first, second = heads[..., ::2], heads[..., 1::2]
            return self.do.interleave(first * cos - second * sin, second * cos + first * sin)
        first, second = heads[..., : r // 2], heads[..., r // 2 :]
        return self.do.join((first * cos - second * sin, second * cos + first * sin))

    def feed_forward(self, at: str, x: Values) -> Values:
        act = getattr(self.do, ACTIVATIONS[self.settings.activation])
        up = self.linear(f"{at}up", x)
        inner = act(self.linear(f"{at}gate", x)) * up if self.arch.gated else act(up)
        if f"{at}router" in self.decoder:
            inner = inner * self.neuron_weights(at, x)
        return self.linear(f"{at}down", inner)

    def neuron_weights(self, at: str, x: Values) -> Values:
        """How much each neuron of the union counts for each token, (b, n, f): its expert's weight, mostly 0."""
        share = self.do.softmax(self.linear(f"{at}router", x))
        weights = self.do.largest(share, self.settings.experts_per_token)
        if self.settings.renormalises_experts:
            weights = weights / weights.sum(-1, keepdims=True)
        each = self.do.repeat(weights, self.arch.expert_width, axis=-1)
        if not self.arch.shared_width:
            return each
        shared = self.do.sigmoid(self.linear(f"{at}shared_router", x))  # (b, n, 1)
        return self.do.join((each, self.do.repeat(shared, self.arch.shared_width, axis=-1)))

    def capped(self, x: Values, cap: float | None) -> Values:
        return x if cap is None else cap * self.do.tanh(x / cap)


def _scaled(x: Values, factor: float) -> Values:
    return x if factor == 1.0 else x * factor


def _shifted(x: Values, bias: Values | None) -> Values:
    return x if bias is None else x + bias
