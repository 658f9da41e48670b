"""A decoder of any known family in one file, in PyTorch: weights by canonical name, and a forward pass.

The attacks need it: they change canonical tensors, and must show that the logits stayed. It knows no family
names and no stored layouts; `huref.model.arch` says what the structure is, `Settings` what the configuration adds.
It is written for being right, not for speed. Training uses `huref.forward.llama`.

Shapes: `b` sequences of `n` tokens, and the letters of `huref.model.arch.canonical`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from huref.errors import ArchitectureError
from huref.forward.llama import Llama, LlamaConfig
from huref.forward.settings import Settings, read_settings, rotary_frequencies
from huref.model.arch.canonical import Geometry
from huref.model.arch.roles import GLOBAL_ROLES, LAYER_ROLES
from huref.model.arch.weights import Architecture, CanonicalWeights

LayerChange = Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]]
"""A layer's tensors by role, and its number -> those that change."""

_WRAPPERS = ("text_config", "vision_config", "audio_config", "visual")
"""Sections that only the config.json of a model of several senses has."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "relu": functional.relu,
    "gelu": functional.gelu,
    **{name: lambda x: functional.gelu(x, approximate="tanh") for name in ("gelu_new", "gelu_fast", "gelu_tanh")},
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}


@dataclass(frozen=True)
class Decoder:
    """A decoder's weights by canonical name. Functions return new ones.

    Attributes:
        architecture: the structure, from the family's file.
        geometry: the sizes; `n_layers` follows the layers that are there.
        settings: what the configuration adds.
        tensors: `embedding`, `layers.3.q`, `layers.3.q_bias`, ...; `unembedding` only where it is not the embedding.
        layer_origins: for every layer, the layer of the checkpoint whose stored names and per-layer settings it has.
        token_order: new token id -> old; None as long as nobody has renumbered the vocabulary.
        renumberable: token ids that the tokenizer's files allow to renumber; empty without such files.
        is_wrapped: the checkpoint holds tensors beside the decoder's that read or write its residual stream.
    """

    architecture: Architecture
    geometry: Geometry
    settings: Settings
    tensors: Mapping[str, Tensor]
    layer_origins: tuple[int, ...]
    token_order: Tensor | None = None
    renumberable: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    is_wrapped: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    @property
    def is_tied(self) -> bool:
        """Whether embedding and unembedding are one matrix."""
        return "unembedding" not in self.tensors

    @property
    def unembedding(self) -> Tensor:
        """(v, d), or (v, embed) where embeddings are narrower than the residual stream."""
        return self.tensors["embedding" if self.is_tied else "unembedding"]

    @property
    def layers(self) -> range:
        """The numbers of its layers."""
        return range(self.geometry.n_layers)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.tensors["embedding"].dtype

    def layer(self, index: int) -> dict[str, Tensor]:
        """One layer's tensors by role."""
        start = f"layers.{index}."
        roles = (f"{role}{suffix}" for role in LAYER_ROLES for suffix in ("", "_bias"))
        return {role: self.tensors[start + role] for role in roles if start + role in self.tensors}

    def has(self, role: str) -> bool:
        """Whether any layer has this role."""
        return any(f"layers.{i}.{role}" in self.tensors for i in self.layers)

    def changed(self, tensors: Mapping[str, Tensor]) -> Decoder:
        """With some tensors replaced or added."""
        return replace(self, tensors={**self.tensors, **tensors})

    def with_tokens(self, renumberable: Tensor) -> Decoder:
        """Knowing which token ids can be renumbered."""
        return replace(self, renumberable=renumberable)

    def with_layers(self, change: LayerChange) -> Decoder:
        """With every layer changed."""
        new = dict(self.tensors)
        for i in self.layers:
            new.update({f"layers.{i}.{role}": tensor for role, tensor in change(self.layer(i), i).items()})
        return replace(self, tensors=new)


def load_decoder(weights: CanonicalWeights, dtype: torch.dtype = torch.float64) -> Decoder:
    """Read a whole model into memory.

    Raises:
        ArchitectureError: the configuration asks for what the forward pass does not know.
    """
    if weights.checkpoint.format == "gguf":
        from huref.forward.llama import load_llama

        return from_llama(load_llama(weights, dtype))
    settings = read_settings(weights)
    if settings.activation not in ACTIVATIONS:
        raise ArchitectureError(
            "the lab does not know this activation",
            where=weights.checkpoint.reference,
            expected=", ".join(ACTIVATIONS),
            got=settings.activation,
        )
    each = [f"{role}{suffix}" for role in LAYER_ROLES for suffix in ("", "_bias")]
    names = [f"{role}{suffix}" for role in GLOBAL_ROLES for suffix in ("", "_bias")]
    names += [f"layers.{i}.{role}" for i in range(weights.geometry.n_layers) for role in each]
    if weights.architecture.is_tied:
        names.remove("unembedding")
    tensors = {name: _read(weights, name, dtype) for name in names if name in weights}
    return Decoder(
        weights.architecture,
        weights.geometry,
        settings,
        tensors,
        tuple(range(weights.geometry.n_layers)),
        is_wrapped=any(section in weights.checkpoint.config for section in _WRAPPERS),
    )


def _read(weights: CanonicalWeights, name: str, dtype: torch.dtype) -> Tensor:
    """One canonical tensor; 1 is added to a stored gamma in the wide type, so that taking it off again is exact."""
    role = weights.role(name)
    if role.adds_one:
        return weights.checkpoint.read(role.pieces[0].stored).to(dtype) + 1
    return weights.read(name).to(dtype)


def from_llama(model: Llama) -> Decoder:
    """The lab's Llama as a decoder of the general kind; the tensors are shared."""
    sizes = model.config.geometry
    architecture = Architecture(
        name="llama",
        norm="rms",
        gated=True,
        activation="silu",
        position="rope_half",
        rotary_dim=sizes.head_dim,
        parallel=False,
        norm_after_residual=False,
        unit_norms=False,
        is_tied=model.is_tied,
    )
    frequencies = rotary_frequencies(model.config.rope_theta, sizes.head_dim)
    settings = Settings(eps=model.config.norm_eps, eps_key="rms_norm_eps", frequencies=(frequencies,))
    return Decoder(architecture, sizes, settings, model.tensors, tuple(range(sizes.n_layers)))


def to_llama(decoder: Decoder, rope_theta: float) -> Llama:
    """The way back from `from_llama`."""
    return Llama(LlamaConfig(decoder.geometry, rope_theta, decoder.settings.eps), decoder.tensors)


def logits(decoder: Decoder, ids: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Next-token logits.

    Args:
        ids: (b, n) int64.
        dtype: type to compute in; weights are converted as they are used.

    Returns:
        (b, n, v).
    """
    with torch.no_grad():
        return _Forward(decoder, dtype).logits(ids)


class _Forward:
    """One forward pass; `x` is (b, n, d) throughout."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype) -> None:
        self.decoder = decoder
        self.arch = decoder.architecture
        self.sizes = decoder.geometry
        self.settings = decoder.settings
        self.dtype = dtype

    def get(self, name: str) -> Tensor | None:
        tensor = self.decoder.tensors.get(name)
        return None if tensor is None else tensor.to(self.dtype)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.decoder.tensors[name].to(self.dtype), self.get(f"{name}_bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return self.normalise(x, self.get(name), self.get(f"{name}_bias"))

    def normalise(self, x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.arch.norm == "layer":
            x = x - x.mean(-1, keepdim=True)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.settings.eps)
        x = x if gain is None else x * gain
        return x if bias is None else x + bias

    def logits(self, ids: Tensor) -> Tensor:
        x = self.decoder.tensors["embedding"][ids].to(self.dtype)
        if "project_in" in self.decoder:
            x = self.linear("project_in", x)
        x = x * self.settings.embedding_scale
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
        return _cap(scores * self.settings.logit_scale, self.settings.final_cap)

    def block(self, layer: int, x: Tensor) -> Tensor:
        at, scale = f"layers.{layer}.", self.settings.residual_scale
        if self.arch.norm_after_residual:
            x = self.norm(f"{at}attention_norm", x + self.attention(layer, x))
            return self.norm(f"{at}feed_forward_norm", x + self.feed_forward(at, x))
        a = self.behind(f"{at}post_attention_norm", self.attention(layer, self.front(f"{at}attention_norm", x)))
        if self.arch.parallel:
            return x + a + self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        x = x + scale * a
        f = self.feed_forward(at, self.front(f"{at}feed_forward_norm", x))
        return x + scale * self.behind(f"{at}post_feed_forward_norm", f)

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
        scale = self.settings.attention_scale or g.head_dim**-0.5
        scores = q @ k.transpose(-1, -2) * scale  # (b, h, n, n)
        if self.arch.position == "alibi":
            scores = scores + self.alibi(x.shape[1]) * (scale if self.settings.scales_alibi else 1)
        scores = _cap(scores, self.settings.attention_cap)
        allowed = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        mixed = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        return self.linear(f"{at}o", mixed.transpose(1, 2).flatten(2))  # (b, h, n, e) -> (b, n, h e)

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
        r = self.arch.rotary_dim
        table = self.settings.frequencies
        frequencies = torch.tensor(table[origin % len(table)], dtype=torch.float64)
        angle = torch.arange(heads.shape[2], dtype=torch.float64)[:, None] * frequencies
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        is_interleaved = self.arch.position == "rope_interleaved"
        first, second = (slice(0, r, 2), slice(1, r, 2)) if is_interleaved else (slice(0, r // 2), slice(r // 2, r))
        out = heads.clone()
        out[..., first] = heads[..., first] * cos - heads[..., second] * sin
        out[..., second] = heads[..., second] * cos + heads[..., first] * sin
        return out

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


def _cap(x: Tensor, cap: float | None) -> Tensor:
    return x if cap is None else cap * torch.tanh(x / cap)
