"""What is said about a child's parents: frozen, numpy-free, one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from huref.text import printable, short

SCHEMA_VERSION = "huref.parents/1.1"
KINDS = ("linear", "per-layer", "sparse", "single parent", "none")


@dataclass(frozen=True)
class Candidate:
    """One candidate and its part in the child.

    Attributes:
        name: what the user called it.
        is_base: task vectors start from it.
        is_parent: the verdict counts it as a parent.
        cosine: of its layers' matrices with the child's.
        distance: from the child, relative to the length of the child's weights.
        direction: cosine of its task vector with the child's; None without a base, and for the base.
        weight: in the sparse non-negative fit, exactly 0 where it takes no part; the base has what remains to 1. Of a
            merge whose weights differ by layer or tensor, their mean by size.
        error: standard error of `weight`, by a jackknife over tensors; None where the weight is 0 or such a mean.
        share: of the held-out residual without it that goes when it takes part, with one set of weights.
        least_squares: weight in the fit over all relatives without any constraint; None for a stranger.
        simplex: weight in the fit over all relatives with weights of at least 0 and sum 1; None for a stranger.
    """

    name: str
    is_base: bool
    is_parent: bool
    cosine: float
    distance: float
    direction: float | None
    weight: float
    error: float | None
    share: float
    least_squares: float | None
    simplex: float | None


@dataclass(frozen=True)
class LayerFit:
    """The fit of one layer, or of one tensor outside the layers.

    Attributes:
        layer: the layer's number, or the tensor's name.
        weights: candidate -> weight; empty where all candidates are equal here.
        residual: what the fit misses, relative to the length of the child's weights here.
    """

    layer: str
    weights: Mapping[str, float]
    residual: float


@dataclass(frozen=True)
class SeenThrough:
    """A rearrangement that was undone before the fit.

    Attributes:
        reference: the candidate against which the child's map was recovered, and in whose order all are compared.
        candidates: candidates that were rearranged themselves, and undone.
        residual: kind of the map of the child's residual stream, as `huref explain` calls it.
        before, after: cosine of the layers' matrices of the child with the most alike candidate, as they are and
            undone.
        rounds: how often the map was fitted again, against the mixture that was found.
        not_undone: what of the rearrangement stays, in words.
    """

    reference: str
    candidates: tuple[str, ...]
    residual: str
    before: float
    after: float
    rounds: int
    not_undone: tuple[str, ...]


@dataclass(frozen=True)
class Parentage:
    """Who a child's parents are among candidates.

    Attributes:
        child: the model in question.
        base: the candidate that task vectors start from, or None: then weights themselves are fitted.
        base_source: `given`, `chosen` (the others lie round it) or `none`.
        verdict: one of `huref.kinship.VERDICTS`.
        kind: one of `KINDS`.
        parents: names, the largest weight first.
        candidates: everyone compared, in the order given. "The fit" below is the one that `kind` rests on: weights
            for each layer or tensor where they differ, else one set of weights.
        r2: share of the child's task vector that the fit explains on rows held out; without a base, of its
            weights. None where the child does not differ from the base.
        residual: what the fit misses on rows held out, relative to the length of the child's weights.
        gain: share of the squared distance to the nearest single candidate that the fit takes away.
        rounding: expected squared rounding error of the child's stored type as a share of that same distance.
        layers: fits of every layer and of every tensor outside them; empty for a single candidate.
        spread: largest standard deviation of a parent's weight over layers.
        sparse: shares of entries that are zero or one candidate's times a factor; None without a base.
        skipped: candidate -> why it was not compared.
        notes: reasons and caveats.
        undone: what was done to the child besides, where it was rearranged and the fit is of the undone weights.
    """

    child: str
    base: str | None
    base_source: str
    verdict: str
    kind: str
    parents: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    r2: float | None
    residual: float | None
    gain: float | None
    rounding: float | None
    layers: tuple[LayerFit, ...]
    spread: float | None
    sparse: Mapping[str, Any] | None
    skipped: Mapping[str, str]
    notes: tuple[str, ...]
    undone: SeenThrough | None = None

    def __str__(self) -> str:
        """What `huref parents` prints."""
        from huref.parentage.text import parentage_text

        return printable(parentage_text(self))

    def __repr__(self) -> str:
        more = f" and {len(self.parents) - 1} more" if len(self.parents) > 1 else ""
        made_of = f", from {short(self.parents[0])}{more}" if self.parents else ""
        return f"Parentage({short(self.child)}, {self.verdict}, {self.kind}{made_of})"

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        document["parents"] = list(self.parents)
        document["candidates"] = [asdict(item) for item in self.candidates]
        document["layers"] = [asdict(item) for item in self.layers]
        document["notes"] = list(self.notes)
        if self.undone is not None:
            lists = {name: list(getattr(self.undone, name)) for name in ("candidates", "not_undone")}
            document["undone"] = {**asdict(self.undone), **lists}
        return document

    def exit_code(self, expect: str | None = None) -> int:
        """0 a verdict, 1 another verdict than `expect`, 3 inconclusive."""
        if expect is not None:
            return 0 if self.verdict == expect else 1
        return 3 if self.verdict == "inconclusive" else 0
