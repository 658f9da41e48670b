"""What was done to a model, as numbers: frozen, of numpy and the standard library.

A is the reference and B is explained: every array goes from B's parts to the parts of A that they came from. Shapes
use the letters of `huref.model.arch.canonical`, with `_a` and `_b` for the two models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from huref.text import printable, short

SCHEMA_VERSION = "huref.evidence/1.0"
"""Major: files that another major's reader refuses. Minor: additions a reader may ignore."""

TOLERANCE = 1e-3
"""Weights count as equal within this share of their tensor's root mean square."""

NONE = -1
"""In a map of integers: it came from nowhere in A."""

IDENTITY, SIGNED, ROTATION = "identity", "signed permutation", "rotation"
RESIDUAL_KINDS = (IDENTITY, "permutation", SIGNED, ROTATION)


@dataclass(frozen=True)
class Share:
    """How far the weights of one kind agree after undoing.

    Attributes:
        n: weights compared.
        n_equal: of these, equal within `TOLERANCE` of their tensor's root mean square.
        n_rounded: equal within that or four times what the two stored types round off.
        dot, square_a, square_b: sums of products, for the cosine.
    """

    n: int = 0
    n_equal: int = 0
    n_rounded: int = 0
    dot: float = 0.0
    square_a: float = 0.0
    square_b: float = 0.0

    def __add__(self, other: Share) -> Share:
        return Share(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def equal(self) -> float:
        """Share of the weights that are equal, in [0, 1]."""
        return self.n_equal / self.n if self.n else 0.0

    @property
    def rounded(self) -> float:
        """Share of the weights that are equal within rounding, in [0, 1]."""
        return self.n_rounded / self.n if self.n else 0.0

    @property
    def cosine(self) -> float:
        """Cosine of the two sets of weights."""
        scale = (self.square_a * self.square_b) ** 0.5
        return self.dot / scale if scale else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Counts and what they mean."""
        return {
            "n": self.n,
            "n_equal": self.n_equal,
            "equal": self.equal,
            "within_rounding": self.rounded,
            "cosine": self.cosine,
        }


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


@dataclass(frozen=True)
class Side:
    """One of the two models.

    Attributes:
        name: its last part, never a path.
        digest: see `huref.explanation.digests`.
        architecture: the family's name.
        n_layers, n_weights: layers, and weights in matrices.
    """

    name: str
    digest: str
    architecture: str
    n_layers: int
    n_weights: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Explanation:
    """What was done to A to make B, and what undoing it shows.

    Attributes:
        a, b: the reference and the explained model.
        residual: the map between their streams.
        layers: those of B that were looked at.
        shares: tensor kind by place -> agreement after undoing: `embedding`, `layers.3.q`, ... (B's numbers).
        gains: what became of the norms' gains: `same`, `trained`, `absorbed`, `traded` -> how many norms, and
            `ratio` of the traded ones.
        vocabulary: `shared` token strings, and how many of them are `renumbered`.
        before: the same with nothing undone, of what has a partner of equal shape by its number: for the cosine.
        notes: caveats, in the order they arose.
        version: of huref.
    """

    a: Side
    b: Side
    residual: ResidualTransform
    layers: tuple[LayerTransform, ...]
    shares: Mapping[str, Share]
    gains: Mapping[str, Any]
    vocabulary: Mapping[str, int]
    before: Mapping[str, Share]
    notes: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        """What `huref explain` prints."""
        from huref.explanation.text import explain_text

        return printable("\n".join(explain_text(self)))

    def __repr__(self) -> str:
        after = self.total.cosine
        return f"Explanation({short(self.b.name)} from {short(self.a.name)}, cosine {after:.4f} after undoing)"

    @property
    def total(self) -> Share:
        """Over all kinds and layers."""
        return _sum(self.shares)

    @property
    def total_before(self) -> Share:
        """The same with nothing undone."""
        return _sum(self.before)

    @property
    def kinds(self) -> dict[str, Share]:
        """Kind -> agreement over all layers."""
        found: dict[str, Share] = {}
        for name, share in self.shares.items():
            kind = name.rsplit(".", 1)[-1]
            found[kind] = found.get(kind, Share()) + share
        return found

    @property
    def agreement(self) -> float:
        """Share of B's neurons, in explained layers, whose partner two criteria agree on."""
        explained = [layer for layer in self.layers if layer.feed_forward >= 0]
        n = sum(len(layer.neurons) for layer in explained)
        return sum(int(layer.is_agreed.sum()) for layer in explained) / n if n else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.explanation/1.0",
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "residual": self.residual.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
            "dropped": list(dropped_layers(self)),
            "agreement": self.agreement,
            "tolerance": TOLERANCE,
            "kinds": {kind: share.to_dict() for kind, share in self.kinds.items()},
            "total": self.total.to_dict(),
            "pcs_before": self.total_before.cosine if self.before else None,
            "pcs_after": self.total.cosine,
            "gains": dict(self.gains),
            "vocabulary": dict(self.vocabulary),
            "notes": list(self.notes),
            "version": self.version,
        }


def _sum(shares: Mapping[str, Share]) -> Share:
    """By ascending name, so that a file that was read back gives the same sum to the last digit."""
    return sum((shares[name] for name in sorted(shares)), Share())


def dropped_layers(found: Explanation) -> tuple[int, ...]:
    """Layers of A that nothing of B came from; none where only some layers of B were looked at."""
    if len(found.layers) < found.b.n_layers:
        return ()
    used = {layer.feed_forward for layer in found.layers} | {layer.attention for layer in found.layers}
    return tuple(i for i in range(found.a.n_layers) if i not in used)


@dataclass(frozen=True)
class Claim:
    """One claim of an evidence file, looked at again.

    Attributes:
        name: what is claimed, in a few words.
        holds: whether the weights say so.
        detail: what was found.
    """

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Checked:
    """Every claim that was looked at.

    Attributes:
        claims: in order.
        unchecked: what the file says besides, which was not looked at.
        seconds: how long it took.
    """

    claims: tuple[Claim, ...]
    unchecked: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        """What `huref explain --check` prints."""
        from huref.explanation.text import checked_text

        return printable("\n".join(checked_text(self)))

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.explanation-check/1.0",
            "holds": self.holds,
            "claims": [vars(claim) for claim in self.claims],
            "unchecked": list(self.unchecked),
            "seconds": self.seconds,
        }
