"""One layer's feed-forward neurons and heads as rows in the residual stream, ready to be compared with others.

Norm gains are folded into what reads the stream, gains behind a branch into what writes it, and a LayerNorm's mean
subtraction is projected out of both, so that every row turns with the residual stream and with nothing else
(docs/explanation/method.md). Rows have unit length: the scale of a neuron is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.written import require_written
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.rows import row_products

_LEAST_LENGTH = 1e-20


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer.

    Attributes:
        acts: (n, d) unit rows that the activation sees: the gate, or `up` where there is no gate.
        ups: (n, d) unit rows of `up` in a gated block, else None.
        downs: (n, d) unit rows: what each neuron writes into the stream.
        n_copies: how many experts the neurons are spread over; 1 in a dense block.
    """

    acts: Floats
    ups: Floats | None
    downs: Floats
    n_copies: int = 1

    def __len__(self) -> int:
        return len(self.acts)

    def take(self, rows: NDArray[np.int64]) -> Neurons:
        """Some of the neurons."""
        return Neurons(self.acts[rows], None if self.ups is None else self.ups[rows], self.downs[rows], self.n_copies)

    @property
    def is_live(self) -> NDArray[np.bool_]:
        """(n,) bool: no row of the neuron is zero (a pruned or masked neuron has no direction)."""
        parts = (self.acts, self.downs) if self.ups is None else (self.acts, self.downs, self.ups)
        live: NDArray[np.bool_] = np.logical_and.reduce([row_products(part, part) > 0.5 for part in parts])
        return live


@dataclass(frozen=True)
class Heads:
    """The query heads of one layer as four matrices; a head's operators are `q^T k` and `o v`.

    Attributes:
        q: (h, e, d), norm gains folded.
        k: (h, e, d), each head with its group's.
        v: (h, u, d), likewise.
        o: (h, u, d): row i of a head is what its i-th value writes.
    """

    q: Floats
    k: Floats
    v: Floats
    o: Floats


def read_neurons(weights: CanonicalWeights, layer: int) -> Neurons:
    """Read one layer's neurons.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    if not weights.has(layer, "down"):
        none = np.zeros((0, weights.geometry.d_model), np.float32)
        return Neurons(none, none if weights.architecture.gated else None, none)
    block, at = weights.feed_forward(layer), f"layers.{layer}."
    for name, matrix in (("gate", block.gate), ("up", block.up)):
        if matrix is not None:
            require_written(matrix, f"{at}{name}", weights)
    gate = None if block.gate is None else _rows(weights, _finite(weights, f"{at}gate", block.gate), block.gain)
    up = _rows(weights, _finite(weights, f"{at}up", block.up), block.gain)
    behind = gain_behind(weights, f"{at}post_feed_forward_norm")
    downs = _rows(weights, _finite(weights, f"{at}down", block.down).T, behind)
    n_copies = weights.architecture.n_experts if f"{at}router" in weights else 1
    return Neurons(up if gate is None else gate, None if gate is None else up, downs, n_copies)


def read_heads(weights: CanonicalWeights, layer: int) -> Heads:
    """Read one layer's heads.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    if not weights.has(layer, "o"):
        none = np.zeros((0, 0, weights.geometry.d_model), np.float32)
        return Heads(none, none, none, none)
    block, at = weights.attention(layer), f"layers.{layer}."
    Wq, Wk, Wv, Wo = (_finite(weights, f"{at}{name}", getattr(block, f"W{name}")) for name in "qkvo")
    per_group = len(Wq) // len(Wk)
    q, k = _head_gain(Wq, block.q_gain), _head_gain(Wk, block.k_gain)
    behind = gain_behind(weights, f"{at}post_attention_norm")
    return Heads(
        q=_streamed(weights, q, block.gain),
        k=np.repeat(_streamed(weights, k, block.gain), per_group, axis=0),
        v=np.repeat(_streamed(weights, Wv, block.gain), per_group, axis=0),
        o=_streamed(weights, Wo.swapaxes(1, 2), behind),
    )


def _finite(weights: CanonicalWeights, name: str, stored: Array) -> Floats:
    """A stored matrix in float32."""
    values = float32(stored)
    require_finite(values, name, weights)
    return values


def _rows(weights: CanonicalWeights, matrix: Floats, gain: Array | None) -> Floats:
    """(n, d) unit rows; a row without length stays zero."""
    rows = _streamed(weights, matrix, gain)
    length = np.sqrt(row_products(rows, rows))[:, None]
    unit: Floats = rows * np.divide(1, length, out=np.zeros_like(length), where=length > _LEAST_LENGTH)
    return unit


def _streamed(weights: CanonicalWeights, matrix: Floats, gain: Array | None) -> Floats:
    """(..., d): a norm's gain folded, and without the direction that a LayerNorm subtracts."""
    rows = matrix if gain is None else matrix * float32(gain)
    if weights.architecture.norm == "layer":
        rows = rows - float32(rows.mean(axis=-1, keepdims=True, dtype=np.float64))
    return rows


def _head_gain(heads: Floats, gain: Array | None) -> Floats:
    """A query or key norm's gain; the scale it undoes is free, as a head's likeness has unit length."""
    return heads if gain is None else heads * float32(gain).reshape(-1, heads.shape[1], 1)


def gain_behind(weights: CanonicalWeights, name: str) -> Floats | None:
    """The gain on a branch's output, where the norm acts before the residual sum."""
    if name not in weights or weights.architecture.norm_after_residual:
        return None
    return float32(weights.read(name))
