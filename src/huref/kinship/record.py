"""What `compare` is asked, and what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from huref.fingerprints.recipe import Recipe, require

NO_WEIGHTS = (
    "a saved fingerprint holds no neurons to pair, and a similarity is not a verdict: compare the models themselves"
)
VERDICTS = ("identical", "requantised", "derived", "merged", "independent", "inconclusive")
METHODS = ("all", "pcs", "ics", "aligned", "agreement")


@dataclass(frozen=True)
class TermScore:
    """One invariant term of A against one of B: Pearson correlation, in [-1, 1]."""

    layer_a: int
    layer_b: int
    term: str
    score: float


@dataclass(frozen=True)
class LayerMatch:
    """A layer of A and the layer of B that it was matched with.

    Attributes:
        layer_a, layer_b: indices from 0.
        agreement: share of the tested neurons whose best partners by two independent criteria are one, in [0, 1].
        chance: what blind choice gives, 1 / (neurons of the side that partners are sought in).
        n_neurons: neurons tested.
        heads: the same share over query heads, or None where there are too few to say anything.
        in_place: share of the agreeing neurons that stand at the same place in both layers.
        aligned: kind -> aligned score of the two layers, in [-1, 1].
    """

    layer_a: int
    layer_b: int
    agreement: float
    chance: float
    n_neurons: int
    heads: float | None = None
    in_place: float | None = None
    aligned: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found about two models. Scores are in [-1, 1], or None with the reason in `notes`.

    Attributes:
        a, b: the two models, as the user called them.
        pcs: parameters' cosine similarity.
        ics: the paper's invariant terms' cosine similarity.
        ics_canonical: the same over canonical terms.
        vectors: cosine of the two fingerprint vectors.
        aligned: mean over matched layers and kinds of the cosine after alignment (docs/explanation/method.md).
        agreement: pairing agreement, the mean over matched layers; the verdict rests on it.
        layers: the matched layers behind both.
        table: (L_a, L_b) pairing agreement of every pair of layers that was tried, NaN elsewhere; or None.
        alignment: how the map between the two residual streams was found: method, shared_tokens, quality.
        self_null: mean, std, n, max of the agreement of this pair's mismatched layers.
        terms: every term's own score behind `ics` (names `paper/…`) and `ics_canonical`.
        background: score, mean, std, n, max, nearest, values, matched, calibration: unrelated pairs like this one.
        z: distance of the agreement from the background's mean in its standard deviations.
        p_value: finite-sample (conformal): the share of unrelated pairs that agree as much, this pair counted in.
        verdict: one of `VERDICTS`.
        derivation: kind, strength, direction, reasons; None where the verdict says no more.
        read: of A and of B: architecture, format, files (name to bytes), bytes_read, bytes_total; empty where no
            weights were opened.
        arithmetic: in what matrix products were computed: `float32`, or what large ones took else.
        notes: reasons and caveats, in the order they arose.
    """

    a: str
    b: str
    pcs: float | None
    ics: float | None
    ics_canonical: float | None
    vectors: float | None
    terms: tuple[TermScore, ...]
    verdict: str
    notes: tuple[str, ...]
    aligned: float | None = None
    agreement: float | None = None
    layers: tuple[LayerMatch, ...] = ()
    table: np.ndarray | None = None
    alignment: Mapping[str, Any] | None = None
    self_null: Mapping[str, Any] | None = None
    background: Mapping[str, Any] | None = None
    z: float | None = None
    p_value: float | None = None
    derivation: Mapping[str, Any] | None = None
    read: tuple[Mapping[str, Any], ...] = ()
    arithmetic: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document; layer pairs of `table` that were not tried are null."""
        document = {"schema_version": "huref.comparison/1.2", **asdict(self)}
        document["terms"] = [asdict(term) for term in self.terms]
        document["layers"] = [asdict(layer) for layer in self.layers]
        if self.table is not None:
            rows = self.table.tolist()
            document["table"] = [[None if math.isnan(value) else value for value in row] for row in rows]
        document["notes"] = list(self.notes)
        return document


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and over which tokens and layers.

    Attributes:
        method: one of `METHODS`.
        layers: as in a recipe.
        n_tokens: vocabulary rows, chosen from the strings that both models have.
        tokens_file: token ranking, used for the paper's ICS where both vocabularies are equal.
        arch_file: an architecture file of the user's own.
        expect: the verdict a policy wants, or None.
        encoder_weights: the weights that a saved fingerprint of the CNN encoder was made with.
    """

    method: str = "all"
    layers: str = "last2"
    n_tokens: int = 4096
    tokens_file: Path | None = None
    arch_file: Path | None = None
    expect: str | None = None
    encoder_weights: Path | None = None

    def __post_init__(self) -> None:
        require(self.method in METHODS, "unknown method", "--method", " or ".join(METHODS), self.method)
        is_verdict = self.expect is None or self.expect in VERDICTS
        require(is_verdict, "unknown verdict", "--expect", " or ".join(VERDICTS), str(self.expect))
        Recipe(layers=self.layers, n_tokens=self.n_tokens)

    def exit_code(self, found: Comparison) -> int:
        """0 a verdict, 1 another verdict than `expect`, 3 inconclusive."""
        if self.expect is not None:
            return 0 if found.verdict == self.expect else 1
        return 3 if found.verdict == "inconclusive" else 0
