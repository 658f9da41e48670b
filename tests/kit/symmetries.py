"""Function-preserving rearrangements of a decoder, written on canonical weights in float64.

Each function takes `ArrayWeights` and a numpy generator and returns new `ArrayWeights` whose model computes the
same function (HuRef, section 4.1, and beyond it). They are written from the definitions, not from huref.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from huref.model.arch.canonical import Attention, Geometry

Layer = dict[str, Tensor | None]


@dataclass(frozen=True)
class ArrayWeights:
    """What the invariants read of a model, held in memory; one dictionary a layer.

    Layer keys: Wq (h, e, d), Wk, Wv (g, e, d), Wo (h, d, e), gate (f, d) or None, up (f, d), down (d, f), and the
    gains attention_gain, ffn_gain (d,) or None, q_gain, k_gain or None.
    """

    X: Tensor
    layers: tuple[Layer, ...]
    norm: str = "rms"

    @property
    def architecture(self) -> SimpleNamespace:
        gated = self.layers[0]["gate"] is not None
        return SimpleNamespace(norm=self.norm, gated=gated, norm_after_residual=False, name="memory")

    @property
    def checkpoint(self) -> SimpleNamespace:
        return SimpleNamespace(reference="memory")

    def has(self, layer: int, role: str) -> bool:
        return role in ("o", "down")

    @property
    def geometry(self) -> Geometry:
        Wq, Wk, up = (self.layers[0][key] for key in ("Wq", "Wk", "up"))
        h, e, d = Wq.shape
        return Geometry(len(self.layers), d, h, Wk.shape[0], e, up.shape[0], self.X.shape[0])

    def embedding(self, rows: np.ndarray | None = None) -> np.ndarray:
        return np.array(self.X.numpy() if rows is None else self.X.numpy()[rows])

    def attention(self, layer: int) -> Attention:
        w = {key: None if part is None else part.numpy() for key, part in self.layers[layer].items()}
        return Attention(w["Wq"], w["Wk"], w["Wv"], w["Wo"], w["attention_gain"], w["q_gain"], w["k_gain"])

    def __contains__(self, name: str) -> bool:
        return name.startswith("layers.") and self._get(name) is not None

    def read(self, name: str, rows: object = None) -> np.ndarray:
        return self._get(name).numpy()

    def _get(self, name: str) -> Tensor | None:
        _, layer, part = name.split(".")
        return self.layers[int(layer)].get({"feed_forward_norm": "ffn_gain"}.get(part, part))

    def map_layers(self, change: Callable[[Layer], Layer]) -> ArrayWeights:
        return replace(self, layers=tuple({**layer, **change(layer)} for layer in self.layers))


def random_weights(
    seed: int, *, gated: bool = True, norm: str = "rms", heads: tuple[int, int] = (4, 2), n_layers: int = 2
) -> ArrayWeights:
    """A random decoder: K = 300 tokens, d = 24, e = 6, f = 40, gains around 1."""
    dice = np.random.default_rng(seed)
    (h, g), d, e, f = heads, 24, 6, 40

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(dice.normal(size=shape))

    def layer() -> Layer:
        return {
            "Wq": normal(h, e, d),
            "Wk": normal(g, e, d),
            "Wv": normal(g, e, d),
            "Wo": normal(h, d, e),
            "gate": normal(f, d) if gated else None,
            "up": normal(f, d),
            "down": normal(d, f),
            "attention_gain": 1 + 0.3 * normal(d),
            "ffn_gain": 1 + 0.3 * normal(d),
            "q_gain": None,
            "k_gain": None,
        }

    return ArrayWeights(normal(300, d) + 0.5 * normal(d), tuple(layer() for _ in range(n_layers)), norm)


def map_queries_and_keys(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """Wq <- C Wq, Wk <- C^-T Wk for each KV group; with rotary positions C is one of those that commute."""

    def change(w: Layer) -> Layer:
        h, g = w["Wq"].shape[0], w["Wk"].shape[0]
        C = _invertible(dice, g, w["Wq"].shape[1])
        per_head = C.repeat_interleave(h // g, 0)
        return {"Wq": per_head @ w["Wq"], "Wk": torch.linalg.inv(C).transpose(1, 2) @ w["Wk"]}

    return weights.map_layers(change)


def map_values_and_output(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """Wv <- C Wv, Wo <- Wo C^-1 for each KV head."""

    def change(w: Layer) -> Layer:
        h, g = w["Wq"].shape[0], w["Wk"].shape[0]
        C = _invertible(dice, g, w["Wv"].shape[1])
        return {"Wv": C @ w["Wv"], "Wo": w["Wo"] @ torch.linalg.inv(C).repeat_interleave(h // g, 0)}

    return weights.map_layers(change)


def permute_heads(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """KV groups in another order, and the query heads of each group too."""

    def change(w: Layer) -> Layer:
        h, g = w["Wq"].shape[0], w["Wk"].shape[0]
        groups = dice.permutation(g)
        queries = np.concatenate([k * (h // g) + dice.permutation(h // g) for k in groups])
        return {"Wq": w["Wq"][queries], "Wo": w["Wo"][queries], "Wk": w["Wk"][groups], "Wv": w["Wv"][groups]}

    return weights.map_layers(change)


def permute_neurons(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """Feed-forward neurons in another order."""

    def change(w: Layer) -> Layer:
        order = dice.permutation(w["up"].shape[0])
        gate = None if w["gate"] is None else w["gate"][order]
        return {"gate": gate, "up": w["up"][order], "down": w["down"][:, order]}

    return weights.map_layers(change)


def scale_neurons(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """up <- S up, down <- down S^-1, S > 0: for gated blocks (and for ReLU ones)."""

    def change(w: Layer) -> Layer:
        S = torch.from_numpy(np.exp(dice.normal(size=w["up"].shape[0])))
        return {"up": w["up"] * S[:, None], "down": w["down"] / S}

    return weights.map_layers(change)


def permute_residual(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """Residual dimensions in another order, on both sides of every matrix and in the gains."""
    d = weights.X.shape[1]
    P = torch.eye(d, dtype=torch.float64)[dice.permutation(d)]
    return _map_residual(weights, P, gains=True)


def absorb_gains(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """W <- W diag(gamma), gamma <- 1."""

    def change(w: Layer) -> Layer:
        attention, ffn = w["attention_gain"], w["ffn_gain"]
        return {
            **{key: w[key] * attention for key in ("Wq", "Wk", "Wv")},
            "gate": None if w["gate"] is None else w["gate"] * ffn,
            "up": w["up"] * ffn,
            "attention_gain": torch.ones_like(attention),
            "ffn_gain": torch.ones_like(ffn),
        }

    return weights.map_layers(change)


def rotate_residual(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """A rotation of the residual stream, after folding; with LayerNorm one that keeps the all-ones direction."""
    d = weights.X.shape[1]
    Q = torch.from_numpy(np.linalg.qr(dice.normal(size=(d, d)))[0])
    if weights.norm == "layer":
        ones = torch.from_numpy(np.linalg.qr(np.column_stack([np.ones(d), dice.normal(size=(d, d - 1))]))[0])
        small = torch.block_diag(
            torch.ones(1, 1, dtype=torch.float64),
            torch.from_numpy(np.linalg.qr(dice.normal(size=(d - 1, d - 1)))[0]),
        )
        Q = ones @ small @ ones.T
    return _map_residual(absorb_gains(weights, dice), Q, gains=False)


def scale_residual(weights: ArrayWeights, dice: np.random.Generator) -> ArrayWeights:
    """The whole residual stream times a constant, which the norms undo."""
    c = float(np.exp(dice.normal()))
    changed = weights.map_layers(lambda w: {"Wo": w["Wo"] * c, "down": w["down"] * c})
    return replace(changed, X=weights.X * c)


SYMMETRIES = (
    map_queries_and_keys,
    map_values_and_output,
    permute_heads,
    permute_neurons,
    scale_neurons,
    permute_residual,
    absorb_gains,
    rotate_residual,
    scale_residual,
)


def _map_residual(weights: ArrayWeights, Q: Tensor, *, gains: bool) -> ArrayWeights:
    """x -> Q x in the residual stream."""

    def change(w: Layer) -> Layer:
        inputs = {key: w[key] @ Q.T for key in ("Wq", "Wk", "Wv", "gate", "up") if w[key] is not None}
        norms = {key: w[key] @ Q.T for key in ("attention_gain", "ffn_gain") if gains and w[key] is not None}
        return {**inputs, **norms, "Wo": Q @ w["Wo"], "down": Q @ w["down"]}

    return replace(weights.map_layers(change), X=weights.X @ Q.T)


def _invertible(dice: np.random.Generator, n: int, size: int) -> Tensor:
    """n well-conditioned (size, size) matrices: rotation, scale, rotation."""
    left, right = (np.linalg.qr(dice.normal(size=(n, size, size)))[0] for _ in range(2))
    scales = np.exp(dice.uniform(-0.7, 0.7, size=(n, 1, size)))
    return torch.from_numpy(left * scales @ right)
