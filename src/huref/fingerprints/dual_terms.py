"""The terms of canonical-2, `M = U V^T`, from what rows of a dual frame see of a layer's matrices.

With D the dual frame (`huref.fingerprints.dual`), query head h, its group's key and value head, and neuron i:

    qk         sum_h |D v_h^T o_h D^T| D q_h^T k_h D^T
    vo         sum_h D v_h^T o_h D^T
    up_down    sum_i |D gate_i| (D up_i) (D down_i)^T          without a gate: 1 in place of |D gate_i|

A head's queries and keys count by what the head writes, a neuron by the length of its gate. So no free change touches
a term: scales and signs that cancel inside a head or a neuron do so here; a head or neuron that is never active, or
writes nothing, does not count; one that is split in two counts as before; and what no token shows of the stream is
not seen. Norm gains are folded in, in front and behind; a frame of rows without a mean does not see a LayerNorm's.

`U` and `V` are whatever rows see: `S1 D` and `S2 D` for a sketch, then the lengths above are estimates; or all of D,
in coordinates of its own span, for exact terms; or `G^-1`, with the lengths that other rows saw: then `U^T` and `V^T`
are the factors of `M = X U V^T X^T`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import Part, feed_forward_gain, scaled
from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.layers import gain_behind
from huref.model.written import require_written
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.projection import project_rows


@dataclass(frozen=True)
class Seen:
    """One part of a layer as rows of the frame see it.

    Attributes:
        terms: kind -> U (a, r) and V (b, r), float32, of `M = U V^T`.
        size: root of the sum over heads or neurons of their squared share in M, over the number of rows: what the
            part adds, as far as nothing in it cancels.
        gain: (d,) of the norm behind it, which undoes its scale, or None.
        shares: by what queries, keys and neurons were multiplied: (h, 1, e), (g, 1, e) and (f,) or 1.
    """

    terms: dict[str, tuple[Floats, Floats]]
    size: float
    gain: Floats | None
    shares: Mapping[str, Floats]


def see(
    weights: CanonicalWeights,
    layer: int,
    part: Part,
    left: Floats,
    right: Floats,
    shares: Mapping[str, Floats] | None = None,
) -> Seen:
    """One part of a layer, by rows (a, d) and (b, d) of a dual frame.

    Args:
        shares: those that other rows found; None to find them.

    Raises:
        NotFiniteError: NaN or infinity in a matrix.
        CorruptFileError: a matrix of zeros that no network works with.
    """
    return (_attention if part == "attention" else _feed_forward)(weights, layer, left, right, shares)


def _attention(
    weights: CanonicalWeights, layer: int, left: Floats, right: Floats, shares: Mapping[str, Floats] | None
) -> Seen:
    block, behind = weights.attention(layer), gain_behind(weights, f"layers.{layer}.post_attention_norm")
    front = None if block.gain is None else float32(block.gain)
    for name, matrix in (("q", block.Wq), ("k", block.Wk), ("v", block.Wv)):
        require_written(matrix, f"layers.{layer}.{name}", weights)
    q = _heads(weights, layer, "qk", scaled(left, front), block.Wq)
    k = _heads(weights, layer, "qk", scaled(right, front), block.Wk)
    v = _heads(weights, layer, "vo", scaled(left, front), block.Wv)
    o = _heads(weights, layer, "vo", scaled(right, behind), block.Wo.transpose(0, 2, 1))
    n_groups, per_group = len(k), len(q) // len(k)
    written = np.sqrt(np.maximum(0, (np.repeat(_gram(v), per_group, 0) * _gram(o)).sum((1, 2))))
    if shares is None:
        lengths = float32(written / max(float(written.max()), 1e-300))[:, None, None]
        shares = {"q": lengths * _norm(q, block.q_gain), "k": _norm(k, block.k_gain)}
    summed = [part.reshape(n_groups, per_group, *part.shape[1:]).sum(1) for part in (q * shares["q"], o)]
    terms = {"qk": (_flat(summed[0]), _flat(k * shares["k"])), "vo": (_flat(v), _flat(summed[1]))}
    size = float(np.sqrt(np.square(written).sum() / (len(left) * len(right))))
    return Seen(terms, size, behind, shares)


def _feed_forward(
    weights: CanonicalWeights, layer: int, left: Floats, right: Floats, shares: Mapping[str, Floats] | None
) -> Seen:
    behind = gain_behind(weights, f"layers.{layer}.post_feed_forward_norm")
    reads = scaled(left, feed_forward_gain(weights, layer, Recipe()))

    def seen(name: str) -> Floats:
        matrix = weights.read(f"layers.{layer}.{name}")
        require_written(matrix, f"layers.{layer}.{name}", weights)
        return _finite(weights, layer, "up_down", project_rows(reads, matrix))

    up = seen("up")
    written = project_rows(scaled(right, behind), weights.read(f"layers.{layer}.down").T)
    down = _finite(weights, layer, "up_down", written)
    if shares is None:
        is_gated = weights.architecture.gated
        shares = {"up": float32(_lengths(seen("gate")) / math.sqrt(len(up))) if is_gated else np.ones(1, np.float32)}
    up = up * shares["up"]
    size = float(np.sqrt(np.square(_lengths(up) * _lengths(down)).sum() / (len(left) * len(right))))
    return Seen({"up_down": (up, down)}, size, behind, shares)


def _heads(weights: CanonicalWeights, layer: int, kind: str, rows: Floats, matrix: Array) -> Floats:
    """(h, a, e) of a matrix (h, e, d)."""
    n_heads, e, d = matrix.shape
    seen = _finite(weights, layer, kind, project_rows(rows, matrix.reshape(-1, d)))
    return seen.reshape(len(rows), n_heads, e).transpose(1, 0, 2)


def _finite(weights: CanonicalWeights, layer: int, kind: str, seen: Floats) -> Floats:
    require_finite(seen, f"layer {layer}, {kind}", weights)
    return seen


def _gram(heads: Floats) -> NDArray[np.float64]:
    """(h, e, e) of (h, a, e)."""
    wide = heads.astype(np.float64)
    return wide.transpose(0, 2, 1) @ wide


def _norm(heads: Floats, gain: Array | None) -> Floats:
    """What a query or key norm does to (h, a, e): undoes the scale of what it spans, a head or all; then its gain."""
    if gain is None:
        return np.ones((1, 1, 1), np.float32)
    axes = (1, 2) if gain.size == heads.shape[2] else None
    scale = np.sqrt(np.square(heads, dtype=np.float64).sum(axis=axes, keepdims=True))
    normed: Floats = float32(gain).reshape(-1, 1, heads.shape[2]) / float32(np.maximum(scale, 1e-30))
    return normed


def _lengths(seen: Floats) -> NDArray[np.float64]:
    """(f,) of the columns of (a, f); of numbers that float32 cannot square too."""
    found: NDArray[np.float64] = np.sqrt(np.einsum("af,af->f", seen, seen, dtype=np.float64))
    return found


def _flat(heads: Floats) -> Floats:
    """(h, a, e) -> (a, h e)."""
    return heads.transpose(1, 0, 2).reshape(heads.shape[1], -1)
