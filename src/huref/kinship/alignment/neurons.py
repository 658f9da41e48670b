"""One layer's feed-forward neurons and heads as rows in the residual stream, ready to be compared with others.

Norm gains are folded into what reads the stream, gains behind a branch into what writes it, and a LayerNorm's mean
subtraction is projected out of both, so that every row turns with the residual stream and with nothing else
(docs/explanation/method.md). Rows have unit length: the scale of a neuron is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.numerics.arrays import Array, float32
from huref.numerics.tensors import float_tensor

Criterion = tuple[Tensor, ...]
"""Matrices (n, d) whose rows belong to the same neurons: likeness is the product of the rows' cosines."""


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer.

    Attributes:
        acts: (n, d) unit rows that the activation sees: the gate, or `up` where there is no gate.
        ups: (n, d) unit rows of `up` in a gated block, else None.
        downs: (n, d) unit rows: what each neuron writes into the stream.
        n_copies: how many experts the neurons are spread over; 1 in a dense block.
    """

    acts: Tensor
    ups: Tensor | None
    downs: Tensor
    n_copies: int = 1

    def __len__(self) -> int:
        return self.acts.shape[0]

    def take(self, rows: Tensor) -> Neurons:
        """Some of the neurons."""
        return Neurons(self.acts[rows], None if self.ups is None else self.ups[rows], self.downs[rows], self.n_copies)

    @property
    def is_live(self) -> Tensor:
        """(n,) bool: no row of the neuron is zero (a pruned or masked neuron has no direction)."""
        rows = [self.acts, self.downs] + ([] if self.ups is None else [self.ups])
        return torch.stack([r.square().sum(1) > 0.5 for r in rows]).all(0)


@dataclass(frozen=True)
class Heads:
    """The query heads of one layer as four matrices; a head's operators are `q^T k` and `o v`.

    Attributes:
        q: (h, e, d), norm gains folded.
        k: (h, e, d), each head with its group's.
        v: (h, e, d), likewise.
        o: (h, e, d): row i of a head is what its i-th value writes.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def read_neurons(weights: CanonicalWeights, layer: int) -> Neurons:
    """Read one layer's neurons.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    block = weights.feed_forward(layer)
    parts = {"gate": block.gate, "up": block.up, "down": block.down}
    for name, tensor in parts.items():
        if tensor is not None:
            require_finite(float32(tensor), f"layers.{layer}.{name}", weights)
    behind = _gain_behind(weights, f"layers.{layer}.post_feed_forward_norm")
    down = float_tensor(block.down).T
    downs = _rows(weights, down if behind is None else down * behind, None)
    up = _rows(weights, float_tensor(block.up), block.gain)
    gate = None if block.gate is None else _rows(weights, float_tensor(block.gate), block.gain)
    n_copies = weights.architecture.n_experts if f"layers.{layer}.router" in weights else 1
    return Neurons(up if gate is None else gate, None if gate is None else up, downs, n_copies)


def read_heads(weights: CanonicalWeights, layer: int) -> Heads:
    """Read one layer's heads.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    block = weights.attention(layer)
    for name, tensor in (("q", block.Wq), ("k", block.Wk), ("v", block.Wv), ("o", block.Wo)):
        require_finite(float32(tensor), f"layers.{layer}.{name}", weights)
    per_group = block.Wq.shape[0] // block.Wk.shape[0]
    behind = _gain_behind(weights, f"layers.{layer}.post_attention_norm")
    q = _head_gain(float_tensor(block.Wq), block.q_gain)
    k = _head_gain(float_tensor(block.Wk), block.k_gain).repeat_interleave(per_group, 0)
    v = float_tensor(block.Wv).repeat_interleave(per_group, 0)
    o = float_tensor(block.Wo).transpose(1, 2)
    o = o if behind is None else o * behind
    return Heads(
        *(_streamed(weights, m, g) for m, g in ((q, block.gain), (k, block.gain), (v, block.gain), (o, None)))
    )


def _rows(weights: CanonicalWeights, matrix: Tensor, gain: Array | None) -> Tensor:
    """(n, d) unit rows; a row without length stays zero."""
    rows = _streamed(weights, matrix, gain)
    length = rows.norm(dim=1, keepdim=True)
    unit: Tensor = torch.where(length > 1e-20, rows / length.clamp_min(1e-20), torch.zeros_like(rows))
    return unit


def _streamed(weights: CanonicalWeights, matrix: Tensor, gain: Array | None) -> Tensor:
    rows = matrix if gain is None else matrix * float_tensor(gain)
    if weights.architecture.norm == "layer":
        rows = rows - rows.mean(dim=-1, keepdim=True)
    return rows


def _head_gain(heads: Tensor, gain: Array | None) -> Tensor:
    """A query or key norm's gain; the scale it undoes is free, as a head's likeness has unit length."""
    return heads if gain is None else heads * float_tensor(gain).reshape(-1, heads.shape[1], 1)


def _gain_behind(weights: CanonicalWeights, name: str) -> Tensor | None:
    """The gain on a branch's output, where the norm acts before the residual sum."""
    if name not in weights or weights.architecture.norm_after_residual:
        return None
    return float_tensor(weights.read(name))
