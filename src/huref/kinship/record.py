"""What `compare` is asked, and what it found."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from huref import extras
from huref.choices import option, take_texts_for_paths
from huref.files.atomic import write_atomically
from huref.fingerprints.recipe import Recipe, require
from huref.kinship.drift import Drift, drift_of
from huref.kinship.linkage import Merge, average_linkage
from huref.text import percent, printable, short

NO_WEIGHTS = (
    "without neuron codes in both fingerprints there are no neurons to pair, and a similarity is not a verdict: "
    "fingerprint with --codes, or compare the models themselves"
)
FROM_CODES = (
    "from saved codes: a copy and other storage of the same weights read as derived; a replaced tokenizer together "
    "with a turned stream is not looked for"
)
VERDICTS = ("identical", "requantised", "derived", "merged", "independent", "inconclusive")
ICS_OF = {"canonical-2": "ics_canonical_2", "canonical": "ics_canonical"}
"""Where the ICS of a recipe stands, the paper's beside it under `ics`."""

METHODS = ("all", "pcs", "ics", "aligned", "agreement")


@dataclass(frozen=True)
class FrameRule:
    """What agreement in a frame means.

    Attributes:
        accused_from: agreement that a verdict of kinship asks for: three to four times the highest of any unrelated
            pair measured.
        excess: agreeing neurons of unrelated models for each that blind choice would give, about twice the most
            measured.
        first_weights: agreement below which first weights in common would explain it: trainings from the same random
            weights, with other text or in another order, kept up to 0.76 by tokens and 0.68 dimension by dimension;
            by whole rows up to 0.996, so that there the question stays open.
    """

    accused_from: float
    excess: float
    first_weights: float = 0.9


FRAMES: Mapping[str, FrameRule] = {
    "tokens": FrameRule(0.05, 8),
    "identity": FrameRule(0.05, 8),
    "shared tokens": FrameRule(0.05, 8),
    "rows": FrameRule(0.15, 40, first_weights=1.01),
    "weights": FrameRule(0.08, 16),
}
"""Where neurons are compared (`huref.kinship.frames`). Whole rows and a fitted map see more of what the same text
teaches than signs do (docs/explanation/verdict.md)."""


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
        agreement: share of the tested neurons whose best partners by two independent criteria are one, in [0, 1]:
            by the witness that agrees most over all matched layers.
        chance: what blind choice gives, 1 / (neurons of the smaller side).
        n_neurons: neurons tested.
        heads: the same share over query heads, or None where there are too few to say anything.
        in_place: share of the agreeing neurons that stand at the same place in both layers.
        aligned: kind -> aligned score of the two layers, in [-1, 1].
        witnesses: by pairing (`up|down`), the agreement of each.
    """

    layer_a: int
    layer_b: int
    agreement: float
    chance: float
    n_neurons: int
    heads: float | None = None
    in_place: float | None = None
    aligned: Mapping[str, float] = field(default_factory=dict)
    witnesses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found about two models. Scores are in [-1, 1], or None with the reason in `notes`.

    Attributes:
        a, b: the two models, as the user called them.
        pcs: parameters' cosine similarity.
        ics: the paper's invariant terms' cosine similarity.
        ics_canonical_2: the same over the terms of canonical-2.
        ics_canonical: over those of canonical, where it was asked for.
        vectors: cosine of the two fingerprint vectors.
        aligned: mean over matched layers and kinds of the cosine after alignment (docs/explanation/method.md).
        agreement: pairing agreement, the mean over matched layers, of the witness that agrees most; the verdict rests
            on it.
        witnesses: by pairing (`up|down`), the mean over matched layers of each.
        layers: the matched layers behind both.
        table: (L_a, L_b) pairing agreement of every pair of layers that was tried, NaN elsewhere; or None.
        alignment: in which frame neurons were compared: method, shared_tokens, tried, is_complete.
        self_null: mean, std, n, max of the agreement of this pair's mismatched layers.
        terms: every term's own score behind `ics` (names `paper/…`) and the other ICS.
        background: score, mean, std, n, max, nearest, values, matched, calibration: unrelated pairs like this one.
        z: distance of the agreement from the background's mean in its standard deviations.
        p_value: finite-sample (conformal): the share of unrelated pairs that agree as much, this pair counted in.
        verdict: one of `VERDICTS`.
        derivation: kind, strength, direction, reasons; None where the verdict says no more.
        read: of A and of B: architecture, format, files (name to bytes), bytes_read, bytes_total; empty where no
            weights were opened.
        arithmetic: in what matrix products were computed: `float32`, or what large ones took else.
        count: neurons tested in the matched layers, agreeing, expected by chance, and the binomial p-value.
        errors: of scores that were estimated, by name, the standard error.
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
    witnesses: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    count: Mapping[str, Any] | None = None
    ics_canonical_2: float | None = None

    def __str__(self) -> str:
        """What `huref compare` prints."""
        from huref.kinship.text import comparison_text

        return printable(comparison_text(self))

    def __repr__(self) -> str:
        return f"Comparison({short(self.a)} ~ {short(self.b)}, agreement {percent(self.agreement)}, {self.verdict})"

    def _repr_html_(self) -> str:
        from huref.kinship.text import comparison_html

        return comparison_html(self)

    @property
    def invariant_ics(self) -> float | None:
        """The ICS of canonical-2, or of canonical where that was asked for."""
        return self.ics_canonical if self.ics_canonical_2 is None else self.ics_canonical_2

    def with_ics(self, recipe: str, value: float | None) -> Comparison:
        """The same with the ICS of a recipe, one of `ICS_OF`."""
        if recipe == "canonical":
            return replace(self, ics_canonical=value)
        return replace(self, ics_canonical_2=value)

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document; layer pairs of `table` that were not tried are null."""
        document = {"schema_version": "huref.comparison/1.4", **asdict(self)}
        document["terms"] = [asdict(term) for term in self.terms]
        document["layers"] = [asdict(layer) for layer in self.layers]
        if self.table is not None:
            rows = self.table.tolist()
            document["table"] = [[None if math.isnan(value) else value for value in row] for row in rows]
        document["notes"] = list(self.notes)
        return document


@dataclass(frozen=True)
class Matrix:
    """All pairs of some models.

    Attributes:
        names: the models, in the order given.
        score: which of `SCORES`.
        values: (n, n) float64, symmetric, ones on the diagonal; NaN where a pair has no such score.
        notes: reasons for missing values, and what else the reader should know.
        verdicts: n rows of n words, symmetric, `identical` on the diagonal; None where what was asked for gives none.
        clusters: names of models that verdicts of kinship connect, each with one another or by way of others;
            largest first, and models without kin left out.
    """

    names: tuple[str, ...]
    score: str
    values: np.ndarray
    notes: tuple[str, ...]
    verdicts: tuple[tuple[str | None, ...], ...] = ()
    clusters: tuple[tuple[str, ...], ...] = ()

    @property
    def tree(self) -> tuple[Merge, ...]:
        """Average linkage on the scores: which models, then groups, lie nearest."""
        return average_linkage(self.values)

    @property
    def drift(self) -> Drift | None:
        """How the scores go along a run, where three or more models are its checkpoints by their names."""
        return drift_of(self.names, self.values)

    def __str__(self) -> str:
        """What `huref matrix` prints."""
        from huref.kinship.text import matrix_text

        return printable(matrix_text(self))

    def __repr__(self) -> str:
        return f"Matrix({len(self.names)} models, {self.score}, {len(self.clusters)} clusters of kin)"

    def _repr_html_(self) -> str:
        from huref.kinship.text import matrix_html

        return matrix_html(self)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The scores as CSV, names in the first row and column; written to `path` too, where there is one.

        Raises:
            OutputError: the file cannot be written.
        """
        from huref.kinship.text import csv_text

        text = csv_text(self.names, self.values)
        if path is not None:
            write_atomically(Path(path), f"{text}\n".encode())
        return text

    def to_frame(self) -> Any:
        """The scores as a `pandas.DataFrame`, names as index and as columns, NaN where a pair has none.

        Raises:
            UsageError: pandas is not installed.
        """
        extras.require("pandas", "Matrix.to_frame")
        return importlib.import_module("pandas").DataFrame(self.values, index=self.names, columns=self.names)


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and over which tokens and layers.

    Attributes:
        method: one of `METHODS`.
        layers: as in a recipe.
        n_tokens: vocabulary rows, chosen from the strings that both models have.
        tokens_file: token ranking, used for the paper's ICS where both vocabularies are equal.
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or a GGUF file whose tokenizer to take for models that have none of their own.
        expect: the verdict a policy wants, or None.
        encoder_weights: the weights that a saved fingerprint of the CNN encoder was made with.
        is_exact: PCS of every weight and ICS of whole terms, also of models so large that samples and sketches would
            stand for them.
        recipe: `canonical-2`, which is the usual one, or `canonical`: whose ICS is computed beside the paper's.
    """

    method: str = "all"
    layers: str = "last2"
    n_tokens: int = 4096
    tokens_file: Path | None = None
    arch_file: Path | None = None
    expect: str | None = None
    encoder_weights: Path | None = None
    is_exact: bool = False
    recipe: str | None = None
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "tokens_file", "arch_file", "encoder_weights", "tokenizer")
        require(self.method in METHODS, "unknown method", option("method"), " or ".join(METHODS), self.method)
        require(self.ics_recipe in ICS_OF, "unknown recipe", option("recipe"), " or ".join(ICS_OF), self.ics_recipe)
        is_verdict = self.expect is None or self.expect in VERDICTS
        require(is_verdict, "unknown verdict", option("expect"), " or ".join(VERDICTS), str(self.expect))
        Recipe(name=self.ics_recipe, layers=self.layers, n_tokens=self.n_tokens)

    @property
    def ics_recipe(self) -> str:
        """The recipe that was asked for, or the usual one."""
        return self.recipe or Recipe().name

    def exit_code(self, found: Comparison) -> int:
        """0 a verdict, 1 another verdict than `expect`, 3 inconclusive."""
        if self.expect is not None:
            return 0 if found.verdict == self.expect else 1
        return 3 if found.verdict == "inconclusive" else 0
