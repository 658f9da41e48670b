"""The forward pass of a decoder: logits and the loss of next tokens, differentiable in the weights.

One pass serves every family and both uses: attacks compare its logits in float64, training goes back through it in
float32 or bfloat16.

Shapes: `b` sequences of `n` tokens, and the letters of `huref.model.arch.canonical`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from huref.forward.decoder import ACTIVATIONS, Decoder


def logits(decoder: Decoder, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Next-token logits.

    Args:
        ids: (b, n) int64.
        dtype: type to compute in, weights converted as they are used; None computes in their own.

    Returns:
        (b, n, v).
    """
    return _Pass(decoder, dtype or decoder.dtype, ids.shape[1]).logits(ids)


def next_token_loss(decoder: Decoder, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Mean cross-entropy in nats of each token given those before it, a scalar in float32 or wider."""
    scores = _widened(logits(decoder, ids[:, :-1], dtype))
    return functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())


class _Pass:
    """One forward pass; `x` is (b, n, d) throughout."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype, n_tokens: int) -> None:
        self.decoder = decoder
        self.arch = decoder.architecture
        self.sizes = decoder.geometry
        self.settings = decoder.settings
        self.dtype = dtype
        self.turns = [_rotary_table(each, n_tokens, dtype) for each in decoder.settings.frequencies]

    def get(self, name: str) -> Tensor | None:
        tensor = self.decoder.tensors.get(name)
        return None if tensor is None else tensor.to(self.dtype)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.decoder.tensors[name].to(self.dtype), self.get(f"{name}_bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return self.normalise(x, self.get(name), self.get(f"{name}_bias"))

    def normalise(self, x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
        """Means are taken in float32 or wider."""
        wide = _widened(x)
        if self.arch.norm == "layer":
            wide = wide - wide.mean(-1, keepdim=True)
        x = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.settings.eps)).to(self.dtype)
        x = x if gain is None else x * gain
        return x if bias is None else x + bias

    def logits(self, ids: Tensor) -> Tensor:
        x = functional.embedding(ids, self.decoder.tensors["embedding"]).to(self.dtype)
        if "project_in" in self.decoder:
            x = self.linear("project_in", x)
        x = _scaled(x, self.settings.embedding_scale)
        if self.arch.position == "learned":
            start = self.settings.position_offset
            x = x + self.decoder.tensors["position"][start : start + ids.shape[1]].to(self.dtype)
        if "embedding_norm" in self.decoder:
            x = self.norm("embedding_norm", x)
        for layer in self.decoder.layers:
            x = self.block(layer, x)
        # OLMo 1 has a final norm without parameters, OPT-350m has none at all.
        if not self.arch.norm_after_residual:
            x = self.norm("final_norm", x)
        if "project_out" in self.decoder:
            x = self.linear("project_out", x)
        scores = functional.linear(x, self.decoder.unembedding.to(self.dtype), self.get("unembedding_bias"))
        return _capped(_scaled(scores, self.settings.logit_scale), self.settings.final_cap)

    def block(self, layer: int, x: Tensor) -> Tensor:
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

    def front(self, name: str, x: Tensor) -> Tensor:
        """The norm in front of a branch: none in OLMo 2, one without parameters in OLMo 1."""
        return self.norm(name, x) if name in self.decoder or self.arch.unit_norms else x

    def behind(self, name: str, x: Tensor) -> Tensor:
        return self.norm(name, x) if name in self.decoder else x

    def attention(self, layer: int, x: Tensor) -> Tensor:
        g, at = self.sizes, f"layers.{layer}."
        origin = self.decoder.layer_origins[layer]
        q, k = self.heads(f"{at}q", x, g.n_heads, origin), self.heads(f"{at}k", x, g.n_kv_heads, origin)
        v = self.split(self.linear(f"{at}v", x), g.n_kv_heads)
        k, v = (part.repeat_interleave(g.n_heads // g.n_kv_heads, dim=1) for part in (k, v))
        mixed = self.mix(q, k, v)
        return self.linear(f"{at}o", mixed.transpose(1, 2).flatten(2))  # (b, h, n, e) -> (b, n, h e)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What each token takes of the values up to its own; everything is (b, h, n, e)."""
        scale = self.settings.attention_scale or self.sizes.head_dim**-0.5
        if self.arch.position != "alibi" and self.settings.attention_cap is None:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        scores = q @ k.transpose(-1, -2) * scale  # (b, h, n, n)
        if self.arch.position == "alibi":
            scores = scores + self.alibi(q.shape[2]) * (scale if self.settings.scales_alibi else 1)
        scores = _capped(scores, self.settings.attention_cap)
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v

    def alibi(self, n: int) -> Tensor:
        """(h, n, n), Press et al. 2022, for a number of heads that is a power of two."""
        heads = self.sizes.n_heads
        slopes = 2.0 ** (-8.0 * (torch.arange(heads, dtype=self.dtype) + 1) / heads)
        places = torch.arange(n, dtype=self.dtype)
        return slopes[:, None, None] * (places[None, :] - places[:, None])

    def heads(self, name: str, x: Tensor, n: int, origin: int) -> Tensor:
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

    def split(self, flat: Tensor, n: int) -> Tensor:
        """(b, n, heads e) -> (b, heads, n, e)."""
        return flat.view(*flat.shape[:2], n, self.sizes.head_dim).transpose(1, 2)

    def rotate(self, heads: Tensor, origin: int) -> Tensor:
        """Turn each rotary pair by its position's angle; dimensions behind the rotary ones stay."""
        r = self.arch.rotary_dim
        if r < heads.shape[-1]:
            return torch.cat((self.rotate(heads[..., :r], origin), heads[..., r:]), dim=-1)
        cos, sin = self.turns[origin % len(self.turns)]
        if self.arch.position == "rope_interleaved":
            first, second = heads[..., ::2], heads[..., 1::2]
            return torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1).flatten(-2)
        first, second = heads.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def feed_forward(self, at: str, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.settings.activation]
        up = self.linear(f"{at}up", x)
        inner = act(self.linear(f"{at}gate", x)) * up if self.arch.gated else act(up)
        if f"{at}router" in self.decoder:
            inner = inner * self.neuron_weights(at, x)
        return self.linear(f"{at}down", inner)

    def neuron_weights(self, at: str, x: Tensor) -> Tensor:
        """How much each neuron of the union counts for each token, (b, n, f): its expert's weight, mostly 0."""
        share = self.linear(f"{at}router", x).softmax(-1)
        kept = share.topk(self.settings.experts_per_token, dim=-1)
        weights = torch.zeros_like(share).scatter(-1, kept.indices, kept.values)
        if self.settings.renormalises_experts:
            weights = weights / weights.sum(-1, keepdim=True)
        each = weights.repeat_interleave(self.arch.expert_width, dim=-1)
        if not self.arch.shared_width:
            return each
        shared = self.linear(f"{at}shared_router", x).sigmoid().expand(*x.shape[:2], self.arch.shared_width)
        return torch.cat([each, shared], dim=-1)


def _rotary_table(frequencies: tuple[float, ...], n_tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (n, r / 2) each, computed in float64 (Su et al. 2021, arXiv 2104.09864)."""
    angles = torch.outer(torch.arange(n_tokens, dtype=torch.float64), torch.tensor(frequencies, dtype=torch.float64))
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else x * factor


def _capped(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * torch.tanh(x / cap)
