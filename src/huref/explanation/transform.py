"""What was done to a model and what undoing it shows: frozen, of numpy and the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huref.kinship.recovery.transform import LayerTransform, ResidualTransform
from huref.text import printable, short

SCHEMA_VERSION = "huref.evidence/1.0"
"""Major: files that another major's reader refuses. Minor: additions a reader may ignore."""

TOLERANCE = 1e-3
"""Weights count as equal within this share of their tensor's root mean square."""


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
class UndoneModel:
    """B with the transform undone, as it was written.

    Attributes:
        out: the folder.
        model: what B is called.
        error: largest difference of the logits from B's over their range, as written and read back.
        tolerance: what the error had to stay below.
        n_layers: of B, and of the undone model.
        renumbered: tokens that have another number than in B.
        left: what was not undone, in words.
    """

    out: str
    model: str
    error: float
    tolerance: float
    n_layers: tuple[int, int]
    renumbered: int
    left: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; also kept in the folder (without `out`)."""
        return {
            "out": self.out,
            "model": self.model,
            "logits_error": self.error,
            "tolerance": self.tolerance,
            "n_layers": list(self.n_layers),
            "renumbered": self.renumbered,
            "not_undone": list(self.left),
        }


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
        undone: the undone model, where it was asked for and written.
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
    undone: UndoneModel | None = None

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
            "schema_version": "huref.explanation/1.1",
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
            "undone": None if self.undone is None else self.undone.to_dict(),
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
