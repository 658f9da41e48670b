"""A model's parts as rows in the residual stream, with their lengths, gains folded: what undoing is done on.

Norm gains are folded into what reads the stream, gains behind a branch into what writes it, and a LayerNorm's mean
subtraction is projected out of both, as in `huref.model.layers`. A reader's bias is one more column:
with the norm's own bias carried through the matrix it does not change when gains are absorbed, and scales and maps
act on it as on a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.layers import gain_behind
from huref.model.rounding import packed_bounds
from huref.numerics.arrays import Array, Floats, float32, quietly
from huref.numerics.rounding import rounding_square
from huref.numerics.rows import row_products

_SAMPLED_ROWS = 64


@dataclass(frozen=True)
class FeedForwardRows:
    """The neurons of one layer.

    Attributes:
        acts: (f, d + 1) what the activation sees, bias last: the gate, or `up` where there is no gate.
        ups: (f, d + 1) `up` in a gated block, else None.
        downs: (f, d) what each neuron writes.
        down_bias: (d,).
        routers: (n, d + 1) a row per expert, or None.
        blocks: neurons of each expert in order, a shared expert last; one number in a dense block.
        has_norm_in_front: a norm undoes the length of what they read.
        has_norm_behind: a norm acts on what they write together, so that its length is free.
        rounding: kind -> root mean square of what the stored type rounds off, over that of the weights.
    """

    acts: Floats
    ups: Floats | None
    downs: Floats
    down_bias: Floats
    routers: Floats | None
    blocks: tuple[int, ...]
    has_norm_in_front: bool
    has_norm_behind: bool
    rounding: dict[str, float]

    @property
    def is_live(self) -> np.ndarray:
        """(f,) bool: no row of the neuron is zero."""
        rows = [self.acts[:, :-1], self.downs] + ([] if self.ups is None else [self.ups[:, :-1]])
        live: np.ndarray = np.all([row_products(part, part) > 1e-30 for part in rows], axis=0)
        return live

    @property
    def is_silent(self) -> bool:
        """Nothing is written."""
        return not bool(self.downs.any())


@dataclass(frozen=True)
class AttentionRows:
    """The heads of one layer.

    Attributes:
        q: (h, e, d + 1) with the query norm's gain, bias last.
        k: (g, e, d + 1) likewise.
        v: (g, e, d + 1).
        o: (h, e, d): row i of a head is what its i-th value writes.
        o_bias: (d,).
        has_norms: queries or keys are normed, so that the scale of each is free.
        has_norm_in_front, has_norm_behind: as above.
        rounding: as above.
    """

    q: Floats
    k: Floats
    v: Floats
    o: Floats
    o_bias: Floats
    has_norms: bool
    has_norm_in_front: bool
    has_norm_behind: bool
    rounding: dict[str, float]

    @property
    def is_silent(self) -> bool:
        """Nothing is written."""
        return not bool(self.o.any())

    @property
    def per_group(self) -> int:
        """Query heads of a KV group."""
        return len(self.q) // len(self.k)


Branch = FeedForwardRows | AttentionRows
"""One branch of a layer."""


@quietly
def read_feed_forward(weights: CanonicalWeights, layer: int) -> FeedForwardRows:
    """Read one layer's neurons.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    at = f"layers.{layer}."
    block = weights.feed_forward(layer)
    behind = gain_behind(weights, f"{at}post_feed_forward_norm")
    up = _reader(weights, f"{at}up", block.up, f"{at}feed_forward_norm", block.gain)
    gate = (
        None
        if block.gate is None
        else _reader(weights, f"{at}gate", block.gate, f"{at}feed_forward_norm", block.gain)
    )
    routers = None
    if f"{at}router" in weights:
        matrix = weights.read(f"{at}router")
        routers = _reader(weights, f"{at}router", matrix, f"{at}feed_forward_norm", block.gain)
    roles = ("up", "down", *(("gate",) if gate is not None else ()), *(("router",) if routers is not None else ()))
    return FeedForwardRows(
        acts=up if gate is None else gate,
        ups=None if gate is None else up,
        downs=_writer(weights, f"{at}down", float32(block.down).T, behind),
        down_bias=_written_bias(weights, f"{at}down_bias", behind),
        routers=routers,
        blocks=_blocks(weights, layer, len(up)),
        has_norm_in_front=block.gain is not None,
        has_norm_behind=behind is not None,
        rounding=_roundings(weights, at, roles),
    )


@quietly
def read_attention(weights: CanonicalWeights, layer: int) -> AttentionRows:
    """Read one layer's heads.

    Raises:
        NotFiniteError: NaN or infinity among them.
    """
    at = f"layers.{layer}."
    block = weights.attention(layer)
    behind = gain_behind(weights, f"{at}post_attention_norm")
    e = weights.geometry.head_dim

    def heads(role: str, stored: Array, gain: Array | None) -> Floats:
        flat = _reader(
            weights, f"{at}{role}", stored.reshape(-1, stored.shape[-1]), f"{at}attention_norm", block.gain
        )
        split = flat.reshape(-1, e, flat.shape[1])
        return split if gain is None else split * float32(gain).reshape(-1, e, 1)

    return AttentionRows(
        q=heads("q", block.Wq, block.q_gain),
        k=heads("k", block.Wk, block.k_gain),
        v=heads("v", block.Wv, None),
        o=_writer(weights, f"{at}o", float32(block.Wo).transpose(0, 2, 1), behind),
        o_bias=_written_bias(weights, f"{at}o_bias", behind),
        has_norms=block.q_gain is not None or block.k_gain is not None,
        has_norm_in_front=block.gain is not None,
        has_norm_behind=behind is not None,
        rounding=_roundings(weights, at, ("q", "k", "v", "o")),
    )


def neurons_reading(rows: FeedForwardRows, scale: float) -> FeedForwardRows:
    """What reads a stream so many times as long, for one of length 1: only a norm in front makes that no matter."""
    if rows.has_norm_in_front or scale == 1.0:
        return rows
    ups, routers = (None if part is None else _times(part, scale) for part in (rows.ups, rows.routers))
    return replace(rows, acts=_times(rows.acts, scale), ups=ups, routers=routers)


def heads_reading(rows: AttentionRows, scale: float) -> AttentionRows:
    """`neurons_reading` of heads."""
    if rows.has_norm_in_front or scale == 1.0:
        return rows
    return replace(rows, q=_times(rows.q, scale), k=_times(rows.k, scale), v=_times(rows.v, scale))


def is_silent(weights: CanonicalWeights, layer: int, role: str) -> bool:
    """Whether a branch writes nothing: `o` or `down` is zero, or not there."""
    return not weights.has(layer, role) or not bool(weights.read(f"layers.{layer}.{role}").any())


@quietly
def read_embedding(weights: CanonicalWeights, ids: np.ndarray) -> Floats:
    """(n, d) embedding rows, as they enter the stream."""
    rows = float32(weights.embedding(ids))
    require_finite(rows, "embedding", weights)
    return _projected(weights, rows)


@quietly
def read_unembedding(weights: CanonicalWeights, ids: np.ndarray) -> Floats:
    """(n, d + 1) output rows with the final norm's gain folded, its bias and the output's own in the last column."""
    rows = float32(weights.read("unembedding", ids))
    require_finite(rows, "unembedding", weights)
    if "project_out" in weights:
        rows = rows @ float32(weights.read("project_out"))
    bias = np.zeros(len(rows), np.float32)
    if not weights.architecture.norm_after_residual:
        if "final_norm_bias" in weights:
            bias = rows @ float32(weights.read("final_norm_bias"))
        if "final_norm" in weights:
            rows = rows * float32(weights.read("final_norm"))
    if "unembedding_bias" in weights:
        bias = bias + float32(weights.read("unembedding_bias"))[ids]
    return np.column_stack([_projected(weights, rows), bias])


@quietly
def read_positions(weights: CanonicalWeights) -> Floats | None:
    """(n, d) learned positions, or None."""
    if "position" not in weights:
        return None
    rows = float32(weights.read("position"))
    require_finite(rows, "position", weights)
    return _projected(weights, rows)


def rounding_of(weights: CanonicalWeights, name: str) -> float:
    """What a tensor's stored type rounds off, over its weights, both as root mean squares, from its first rows."""
    sample = slice(0, min(weights.shape(name)[0], _SAMPLED_ROWS))
    rows = float32(weights.read(name, sample))
    square = float(np.square(rows).mean())
    bounds = packed_bounds(weights, name, sample)
    squares = rounding_square(rows, weights.stored_dtype(name)) if bounds is None else np.square(bounds) / 3
    return float(squares.mean() / square) ** 0.5 if square else 0.0


def _reader(weights: CanonicalWeights, name: str, stored: Array, norm: str, gain: Array | None) -> Floats:
    """(n, d + 1): a matrix that reads the stream, gain folded, and its bias, the norm's own carried through it."""
    matrix = float32(stored)
    require_finite(matrix, name, weights)
    bias = np.zeros(len(matrix), np.float32)
    if f"{norm}_bias" in weights and not weights.architecture.norm_after_residual:
        bias = matrix @ float32(weights.read(f"{norm}_bias"))
    if f"{name}_bias" in weights:
        bias = bias + float32(weights.read(f"{name}_bias"))
    rows = matrix if gain is None else matrix * float32(gain)
    return np.column_stack([_projected(weights, rows), bias])


def _times(rows: Floats, scale: float) -> Floats:
    """Rows with a last column that is no axis."""
    times = rows.copy()
    times[..., :-1] *= scale
    return times


def _writer(weights: CanonicalWeights, name: str, rows: Floats, behind: Floats | None) -> Floats:
    rows = np.ascontiguousarray(rows)
    require_finite(rows, name, weights)
    return _projected(weights, rows if behind is None else rows * behind)


def _written_bias(weights: CanonicalWeights, name: str, behind: Floats | None) -> Floats:
    if name not in weights:
        return np.zeros(weights.geometry.d_model, np.float32)
    return _writer(weights, name, float32(weights.read(name)), behind)


def _projected(weights: CanonicalWeights, rows: Floats) -> Floats:
    """Without the direction that a LayerNorm subtracts."""
    return rows - rows.mean(axis=-1, keepdims=True) if weights.architecture.norm == "layer" else rows


def _blocks(weights: CanonicalWeights, layer: int, n_neurons: int) -> tuple[int, ...]:
    arch = weights.architecture
    if f"layers.{layer}.router" not in weights:
        return (n_neurons,)
    return (arch.expert_width,) * arch.n_experts + ((arch.shared_width,) if arch.shared_width else ())


def _roundings(weights: CanonicalWeights, at: str, roles: tuple[str, ...]) -> dict[str, float]:
    return {role: rounding_of(weights, f"{at}{role}") for role in roles}
