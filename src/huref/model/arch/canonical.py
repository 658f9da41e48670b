"""The one form in which weights leave `arch/`: heads unfused, storage order undone, KV groups known.

Shapes use: `d` residual width, `f` feed-forward neurons, `h` query heads, `g` key/value heads, `e` head size.
Row-vector convention, (out, in) storage: a projection is `x @ W.T`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from huref.numerics.arrays import Array


@dataclass(frozen=True)
class Geometry:
    """The sizes of a decoder.

    `d_ff` of a mixture of experts is that of a sparse layer's union; a dense layer's own is in its shapes.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int


@dataclass(frozen=True)
class Attention:
    """One layer's attention matrices, as stored (norm gains named, not folded).

    Attributes:
        Wq: (h, e, d).
        Wk: (g, e, d).
        Wv: (g, u, d), u the size of a value: mostly e.
        Wo: (h, d, u): output projection per query head; head i writes `Wo[i] @ value`.
        gain: (d,) of the norm in front, 1 + gamma already added where the family stores gamma, ones where
            the norm has no parameters; None where there is no norm in front.
        q_gain: (e,) or (h, e) of the query norm after projection, or None; k_gain likewise with g.
    Query head `i` belongs to KV head `i // (h // g)`.
    """

    Wq: Array
    Wk: Array
    Wv: Array
    Wo: Array
    gain: Array | None
    q_gain: Array | None
    k_gain: Array | None


@dataclass(frozen=True)
class FeedForward:
    """One layer's feed-forward matrices, as stored.

    A mixture of experts is the union of its neurons: expert after expert, a shared expert last. Which neurons
    act on a token is the router's business (`layers.3.router`, a row per expert).

    Attributes:
        gate: (f, d), or None for a plain (ungated) block.
        up: (f, d).
        down: (d, f).
        gain: (d,) of the norm in front, or None.
    """

    gate: Array | None
    up: Array
    down: Array
    gain: Array | None


@dataclass(frozen=True)
class RowMap:
    """Which stored rows make up a canonical tensor, and in which order.

    `groups` runs of `run` rows, the first at `offset`, `stride` rows apart. If `rope_head` is not 0, the rows
    of each head of that size were interleaved by llama.cpp's converter: stored row `2 j + t` of a head is
    row `t * rope_head / 2 + j`, where t is 0 or 1 for the two halves that rotate together.
    """

    groups: int
    stride: int
    offset: int
    run: int
    rope_head: int = 0

    @property
    def n_rows(self) -> int:
        """How many rows it takes."""
        return self.groups * self.run

    def index(self) -> slice | np.ndarray:
        """Stored rows in canonical order: a slice where they are contiguous, else int64 indices."""
        if self.groups == 1 and not self.rope_head:
            return slice(self.offset, self.offset + self.run)
        rows = (np.arange(self.groups)[:, None] * self.stride + self.offset + np.arange(self.run)).ravel()
        if self.rope_head:
            within = np.arange(self.rope_head).reshape(-1, 2).T.ravel()  # [0 2 4 ... 1 3 5 ...]
            rows = rows.reshape(-1, self.rope_head)[:, within].ravel()
        return rows


@dataclass(frozen=True)
class Experts:
    """The sizes of a sparse layer: `n` experts of `width` neurons each, then a shared one of `shared`, or 0.

    A dense family has none of them.
    """

    n: int = 0
    width: int = 0
    shared: int = 0

    @property
    def n_neurons(self) -> int:
        """Neurons of the union."""
        return self.n * self.width + self.shared


@dataclass(frozen=True)
class Piece:
    """What one stored tensor gives to a canonical one.

    Attributes:
        stored: its name.
        rows: which of its rows, after transposition.
        is_table: all its axes but the last count rows: a stack (experts, out, in) is read as
            (experts x out, in), a vector (in,) as (1, in).
        is_flat: all its axes count rows: the biases of a stack, (experts, out), are read as (experts x out,).
        turned: rows of the table that are turned round before `rows` are taken: an expert's of a stack
            (experts, in, out). None where the table is not cut.
    """

    stored: str
    rows: RowMap
    is_table: bool = False
    is_flat: bool = False
    turned: tuple[int, int] | None = None


@dataclass(frozen=True)
class TensorRole:
    """Where a canonical tensor comes from: which stored tensors, and the steps between.

    Attributes:
        name: canonical, such as `layers.3.q`.
        shape: canonical.
        pieces: what it is put together from: one, or several where experts are stored apart.
        axis: along which the pieces follow one another.
        is_transposed: stored (in, out) and turned round on reading.
        adds_one: 1 is added on reading, in float32.
        is_alias: another canonical tensor is this same data (tied unembedding, one norm for two branches).
    """

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    axis: int = 0
    is_transposed: bool = False
    adds_one: bool = False
    is_alias: bool = False


Roles = Mapping[str, TensorRole]
