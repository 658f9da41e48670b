"""Rearrangements that a family allows, on its canonical tensors by name, biases and positions included.

Unlike `symmetries.py`, which is the algebra alone, every function here must leave a real model's logits as they
are: the test runs the numpy forward pass before and after. A function returns None where the family does not
allow the rearrangement, and the reason stands beside the condition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from huref.demo.tensors import as_tensor
from huref.model.arch import CanonicalWeights
from huref.model.arch.canonical import Attention

Tensors = dict[str, Tensor]
_NORMED = ("attention_norm", "feed_forward_norm")
_BIASED = (*_NORMED, "q", "k", "v", "o", "gate", "up", "down")
_OTHERS = ("q_norm", "k_norm", "post_attention_norm", "post_feed_forward_norm")
_ROUTERS = ("router", "shared_router")
LAYER = (*_BIASED, *(f"{part}_bias" for part in _BIASED), *_OTHERS, *_ROUTERS)
_ENDS = ("embedding_norm", "final_norm", "unembedding")
GLOBAL = ("embedding", "position", "project_in", "project_out", *_ENDS, *(f"{name}_bias" for name in _ENDS))


class Changed:
    """Canonical weights with other numbers in them, float64, where every name stands alone."""

    def __init__(self, base: CanonicalWeights, tensors: Tensors | None = None) -> None:
        names = [*GLOBAL, *(f"layers.{i}.{part}" for i in range(base.geometry.n_layers) for part in LAYER)]
        self.base, self.checkpoint = base, base.checkpoint
        self.architecture, self.geometry = base.architecture, base.geometry
        self.tensors = tensors or {name: as_tensor(base.read(name)).double() for name in names if name in base}

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def read(self, name: str, rows: Any = None) -> np.ndarray:
        return self.tensors[name].numpy().copy()

    def embedding(self, rows: Any = None) -> np.ndarray:
        X = self.tensors["embedding"] if rows is None else self.tensors["embedding"][torch.as_tensor(rows)]
        return (X @ self.tensors["project_in"].T if "project_in" in self.tensors else X.clone()).numpy()

    def attention(self, layer: int) -> Attention:
        sizes = self.geometry
        h, g, e, d = sizes.n_heads, sizes.n_kv_heads, sizes.head_dim, sizes.d_model
        T = {part: self.tensors.get(f"layers.{layer}.{part}") for part in LAYER}
        gains = [None if T[key] is None else T[key] if T[key].numel() == e else T[key].reshape(-1, e) for key in QK]
        front = None if self.architecture.norm_after_residual else T["attention_norm"]
        Wq, Wk, Wv = T["q"].reshape(h, e, d), T["k"].reshape(g, e, d), T["v"].reshape(g, e, d)
        parts = (Wq, Wk, Wv, T["o"].reshape(d, h, e).permute(1, 0, 2), front, *gains)
        return Attention(*(None if part is None else part.numpy() for part in parts))

    def with_layers(self, change: Any) -> Changed:
        """`change(T, i)` gives the new tensors of layer i from all its old ones, by part."""
        new = dict(self.tensors)
        for i in range(self.geometry.n_layers):
            old = {part: self.tensors.get(f"layers.{i}.{part}") for part in LAYER}
            new.update({f"layers.{i}.{part}": t for part, t in change(old, i).items() if old[part] is not None})
        return Changed(self.base, new)


QK = ("q_norm", "k_norm")


def permute_neurons(w: Changed, dice: np.random.Generator) -> Changed | None:
    def change(T: dict[str, Any], i: int) -> Tensors:
        order = torch.cat([block[dice.permutation(len(block))] for block in _blocks(w, T)])
        rows = {part: T[part][order] for part in ("gate", "gate_bias", "up", "up_bias") if T[part] is not None}
        return {**rows, "down": T["down"][:, order]}

    return w.with_layers(change)


def permute_experts(w: Changed, dice: np.random.Generator) -> Changed | None:
    """With the router's rows; a shared expert stays where it is."""
    if not w.architecture.n_experts:
        return None

    def change(T: dict[str, Any], i: int) -> Tensors:
        if T["router"] is None:
            return {}
        experts, blocks = dice.permutation(w.architecture.n_experts), _blocks(w, T)
        order = torch.cat([*(blocks[expert] for expert in experts), *blocks[len(experts) :]])
        rows = {part: T[part][order] for part in ("gate", "up")}
        return {**rows, "down": T["down"][:, order], "router": T["router"][experts]}

    return w.with_layers(change)


def flip_neurons(w: Changed, dice: np.random.Generator) -> Changed | None:
    """Signs of up and down together. `gate_down` does not survive it: it leaves up out, and its terms change sign."""
    if not w.architecture.gated:
        return None

    def change(T: dict[str, Any], i: int) -> Tensors:
        S = torch.from_numpy(dice.choice([-1.0, 1.0], size=T["up"].shape[0]))
        bias = {} if T["up_bias"] is None else {"up_bias": T["up_bias"] * S}
        return {**bias, "up": T["up"] * S[:, None], "down": T["down"] * S}

    return w.with_layers(change)


def scale_neurons(w: Changed, dice: np.random.Generator) -> Changed | None:
    if not w.architecture.gated:
        return None  # an activation stands between up and down

    def change(T: dict[str, Any], i: int) -> Tensors:
        S = torch.from_numpy(np.exp(dice.normal(size=T["up"].shape[0])))
        bias = {} if T["up_bias"] is None else {"up_bias": T["up_bias"] * S}
        return {**bias, "up": T["up"] * S[:, None], "down": T["down"] / S}

    return w.with_layers(change)


def map_values(w: Changed, dice: np.random.Generator) -> Changed | None:
    h, g, e = w.geometry.n_heads, w.geometry.n_kv_heads, w.geometry.head_dim

    def change(T: dict[str, Any], i: int) -> Tensors:
        C = torch.from_numpy(dice.normal(size=(g, e, e)) / e**0.5 + np.eye(e))
        inverse = torch.linalg.inv(C).repeat_interleave(h // g, 0)
        o = torch.einsum("dhe,hef->dhf", T["o"].reshape(-1, h, e), inverse).reshape(-1, h * e)
        bias = {} if T["v_bias"] is None else {"v_bias": (C @ T["v_bias"].reshape(g, e, 1)).flatten()}
        return {**bias, "v": (C @ T["v"].reshape(g, e, -1)).flatten(0, 1), "o": o}

    return w.with_layers(change)


def map_queries(w: Changed, dice: np.random.Generator) -> Changed | None:
    """Any C without rotation; with it, turns and scales of the pairs that rotate together."""
    if any(f"layers.0.{name}" in w for name in QK):
        return None  # a norm stands between the projection and the product
    h, g, e = w.geometry.n_heads, w.geometry.n_kv_heads, w.geometry.head_dim

    def change(T: dict[str, Any], i: int) -> Tensors:
        C = torch.stack([_commuting(w, dice) for _ in range(g)])
        D = torch.linalg.inv(C).transpose(1, 2)
        per_query = C.repeat_interleave(h // g, 0)
        new = {"q": _by_head(per_query, T["q"], h, e), "k": _by_head(D, T["k"], g, e)}
        if T["q_bias"] is not None:
            new["q_bias"] = _by_head(per_query, T["q_bias"][:, None], h, e).flatten()
            new["k_bias"] = _by_head(D, T["k_bias"][:, None], g, e).flatten()
        return new

    return w.with_layers(change)


def permute_heads(w: Changed, dice: np.random.Generator) -> Changed | None:
    if w.architecture.position == "alibi":
        return None  # each head has a slope of its own
    h, g, e = w.geometry.n_heads, w.geometry.n_kv_heads, w.geometry.head_dim

    def change(T: dict[str, Any], i: int) -> Tensors:
        groups = dice.permutation(g)
        heads = np.concatenate([k * (h // g) + dice.permutation(h // g) for k in groups])
        new = {"o": T["o"].reshape(-1, h, e)[:, heads].flatten(1)}
        for part, order in (("q", heads), ("k", groups), ("v", groups)):
            for name in (part, f"{part}_bias", f"{part}_norm"):
                tensor = T.get(name)
                if tensor is not None and tensor.numel() != e:
                    new[name] = tensor.reshape(len(order), e, -1)[order].reshape(tensor.shape)
        return new

    return w.with_layers(change)


def permute_residual(w: Changed, dice: np.random.Generator) -> Changed | None:
    d = w.geometry.d_model
    return _map_residual(w, torch.eye(d, dtype=torch.float64)[dice.permutation(d)], with_gains=True)


def absorb_gains(w: Changed, dice: np.random.Generator) -> Changed | None:
    if w.architecture.norm_after_residual:
        return None  # the gain acts on the residual stream itself

    def change(T: dict[str, Any], i: int) -> Tensors:
        new: Tensors = {}
        for norm, readers in (("attention_norm", ("q", "k", "v")), ("feed_forward_norm", ("gate", "up", *_ROUTERS))):
            gain = T[norm]
            if gain is None:
                continue
            new |= {part: T[part] * gain for part in readers if T[part] is not None}
            new[norm] = torch.ones_like(gain)
            if T[f"{norm}_bias"] is not None:
                new[f"{norm}_bias"] = T[f"{norm}_bias"] / gain
        return new

    changed = w.with_layers(change)
    if "final_norm" in w:
        gain = w.tensors["final_norm"]
        changed.tensors["unembedding"] = w.tensors["unembedding"] * gain
        changed.tensors["final_norm"] = torch.ones_like(gain)
        if "final_norm_bias" in w:
            changed.tensors["final_norm_bias"] = w.tensors["final_norm_bias"] / gain
    return changed


def rotate_residual(w: Changed, dice: np.random.Generator) -> Changed | None:
    """After absorbing gains; where the mean is subtracted, a rotation that keeps the all-ones direction."""
    behind = ("post_attention_norm", "post_feed_forward_norm")
    if "embedding_norm" in w or any(f"layers.0.{part}" in w for part in behind):
        return None  # a gain acts on the residual stream itself
    absorbed = absorb_gains(w, dice)
    if absorbed is None:
        return None
    d = w.geometry.d_model
    Q = torch.from_numpy(np.linalg.qr(dice.normal(size=(d, d)))[0])
    if w.architecture.norm == "layer":
        basis = np.linalg.qr(np.column_stack([np.ones(d), dice.normal(size=(d, d - 1))]))[0]
        inner = np.eye(d)
        inner[1:, 1:] = np.linalg.qr(dice.normal(size=(d - 1, d - 1)))[0]
        Q = torch.from_numpy(basis @ inner @ basis.T)
    return _map_residual(absorbed, Q, with_gains=False)


SYMMETRIES = (
    permute_neurons,
    permute_experts,
    scale_neurons,
    flip_neurons,
    map_values,
    map_queries,
    permute_heads,
    permute_residual,
    absorb_gains,
    rotate_residual,
)


def _map_residual(w: Changed, Q: Tensor, *, with_gains: bool) -> Changed | None:
    """x -> Q x everywhere in the residual stream."""
    if "project_in" in w:
        inner = {"project_in": Q @ w.tensors["project_in"], "project_out": w.tensors["project_out"] @ Q.T}
    else:
        inner = {name: w.tensors[name] @ Q.T for name in ("embedding", "unembedding")}
    vectors = ["attention_norm_bias", "feed_forward_norm_bias", "o_bias", "down_bias"]
    ends = ["final_norm_bias", "embedding_norm_bias"]
    if with_gains:
        vectors += ["attention_norm", "feed_forward_norm", "post_attention_norm", "post_feed_forward_norm"]
        ends += ["final_norm", "embedding_norm"]

    def change(T: dict[str, Any], i: int) -> Tensors:
        readers = ("q", "k", "v", "gate", "up", *_ROUTERS)
        new = {part: T[part] @ Q.T for part in readers if T[part] is not None}
        new |= {part: Q @ T[part] for part in ("o", "down")}
        return new | {part: Q @ T[part] for part in vectors if T[part] is not None}

    changed = w.with_layers(change)
    changed.tensors |= inner
    changed.tensors |= {name: Q @ w.tensors[name] for name in ends if name in w}
    if "position" in w:
        changed.tensors["position"] = w.tensors["position"] @ Q.T
    return changed


def _blocks(w: Changed, T: dict[str, Any]) -> list[Tensor]:
    """The neurons of each expert, a shared one's last; in a dense layer all neurons in one."""
    neurons, arch = torch.arange(T["up"].shape[0]), w.architecture
    if T["router"] is None:
        return [neurons]
    cut = arch.n_experts * arch.expert_width
    return [*neurons[:cut].split(arch.expert_width), *([neurons[cut:]] if arch.shared_width else [])]


def _by_head(C: Tensor, matrix: Tensor, n_heads: int, head_dim: int) -> Tensor:
    return (C @ matrix.reshape(n_heads, head_dim, -1)).flatten(0, 1)


def _commuting(w: Changed, dice: np.random.Generator) -> Tensor:
    """A head map that commutes with the family's rotation."""
    e, r = w.geometry.head_dim, w.architecture.rotary_dim
    if not w.architecture.position.startswith("rope"):
        return torch.from_numpy(dice.normal(size=(e, e)) / e**0.5 + np.eye(e))
    C = np.zeros((e, e))
    C[r:, r:] = dice.normal(size=(e - r, e - r)) / e**0.5 + np.eye(e - r)
    for pair in range(r // 2):
        i, j = (pair, pair + r // 2) if w.architecture.position == "rope_half" else (2 * pair, 2 * pair + 1)
        angle, scale = dice.uniform(0, 6.28), np.exp(0.5 * dice.normal())
        C[[i, j, i, j], [i, j, j, i]] = scale * np.array([np.cos(angle)] * 2 + [-np.sin(angle), np.sin(angle)])
    return torch.from_numpy(C)
