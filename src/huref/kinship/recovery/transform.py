"""What was done to a model, as numbers: frozen, of numpy and the standard library.

A is the reference and B is the other: every array goes from B's parts to the parts of A that they came from. Shapes
use the letters of `huref.model.arch.canonical`, with `_a` and `_b` for the two models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

NONE = -1
"""In a map of integers: it came from nowhere in A."""

IDENTITY, SIGNED, ROTATION = "identity", "signed permutation", "rotation"
RESIDUAL_KINDS = (IDENTITY, "permutation", SIGNED, ROTATION)


@dataclass(frozen=True)
class ResidualTransform:
    """The map between the two residual streams.

    Attributes:
        kind: one of `RESIDUAL_KINDS`.
        d_a, d_b: widths.
        axis: (d_b,) int32, the axis of A behind every axis of B, for the two permutations; else None.
        sign: (d_b,) int8, 1 or -1, 0 where there is no axis; with `axis`.
        rotation: (d_a, d_b) float32 with orthonormal rows or columns, for `rotation`; else None.
        scale: B's stream is so many times as long as A's.
        method: what the map was first found by: `identity`, `embeddings`, `weights`.
        embeddings: cosine of the embedding rows of shared tokens after the map, or None.
    """

    kind: str
    d_a: int
    d_b: int
    axis: np.ndarray | None = None
    sign: np.ndarray | None = None
    rotation: np.ndarray | None = None
    scale: float = 1.0
    method: str = "identity"
    embeddings: float | None = None

    @property
    def n_flipped(self) -> int:
        """Axes with the other sign."""
        return 0 if self.sign is None else int((self.sign < 0).sum())

    @property
    def n_moved(self) -> int:
        """Axes with another number."""
        return 0 if self.axis is None else int((self.axis != np.arange(self.d_b)).sum())

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the arrays are in the evidence file."""
        return {
            "kind": self.kind,
            "d_a": self.d_a,
            "d_b": self.d_b,
            "axes_moved": self.n_moved,
            "axes_flipped": self.n_flipped,
            "scale": self.scale,
            "method": self.method,
            "embeddings": self.embeddings,
        }


def _nothing(kind: str) -> np.ndarray:
    return np.zeros(0, kind)


@dataclass(frozen=True)
class LayerTransform:
    """One layer of B.

    Attributes:
        layer: its number.
        feed_forward, attention: the layers of A that its two branches came from, or -1.
        silent: the branches that write nothing: `feed_forward`, `attention`.
        neurons: (f_b,) int32, the neuron of A behind each of B's, or -1; empty where there is no layer of A.
        first, second: (f_b,) int32, the best of all candidates by what opens a neuron, and by what it reads and
            writes.
        scales: (f_b,) float32, `up` of B over `up` of A, negative where both `up` and `down` changed sign; 0 without
            a partner.
        experts: (n experts of B,) int32, the expert of A that most of its neurons came from, or -1; a dense block is
            one expert.
        heads: (h_b,) int32, the query head of A behind each of B's, or -1; empty where there is no layer of A.
        heads_first, heads_second: (h_b,) int32, the best candidates by queries and keys, and by values and outputs.
        groups: (g_b,) int32, likewise for KV heads.
        qk: (g_b, e, e) float32 `C` with `Wq_b = C Wq_a`, `Wk_b = C^-T Wk_a`; None for the identity.
        vo: (g_b, e, e) float32 `C` with `Wv_b = C Wv_a`, `Wo_b = Wo_a C^-1`; None for the identity.
        commutes: how far `qk` is from commuting with the rotary positions, as a share of its size; 0 where maps that
            do served as well as any; None where the family has none.
    """

    layer: int
    feed_forward: int = NONE
    attention: int = NONE
    silent: tuple[str, ...] = ()
    neurons: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    first: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    second: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    scales: np.ndarray = field(default_factory=lambda: _nothing("<f4"))
    experts: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    heads: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    heads_first: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    heads_second: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    groups: np.ndarray = field(default_factory=lambda: _nothing("<i4"))
    qk: np.ndarray | None = None
    vo: np.ndarray | None = None
    commutes: float | None = None

    @property
    def is_agreed(self) -> np.ndarray:
        """(f_b,) bool: both criteria name the partner."""
        agreed: np.ndarray = (self.neurons >= 0) & (self.first == self.neurons) & (self.second == self.neurons)
        return agreed

    @property
    def heads_agreed(self) -> np.ndarray:
        """(h_b,) bool: both criteria name the partner."""
        agreed: np.ndarray = (self.heads >= 0) & (self.heads_first == self.heads) & (self.heads_second == self.heads)
        return agreed

    def to_dict(self) -> dict[str, Any]:
        """For JSON: what the arrays amount to."""
        factors = np.abs(self.scales[self.neurons >= 0])
        return {
            "layer": self.layer,
            "feed_forward": self.feed_forward,
            "attention": self.attention,
            "silent": list(self.silent),
            "neurons": len(self.neurons),
            "matched": int((self.neurons >= 0).sum()),
            "agreed": int(self.is_agreed.sum()),
            "moved": int(((self.neurons >= 0) & (self.neurons != np.arange(len(self.neurons)))).sum()),
            "flipped": int((self.scales < 0).sum()),
            "scales": [float(factors.min()), float(factors.max())] if len(factors) else None,
            "experts": self.experts.tolist(),
            "heads": self.heads.tolist(),
            "heads_agreed": int(self.heads_agreed.sum()),
            "groups": self.groups.tolist(),
            "qk": "identity" if self.qk is None else "map",
            "vo": "identity" if self.vo is None else "map",
            "commutes": self.commutes,
        }
