"""What huref produces: recipes, fingerprints, comparisons. Frozen, numpy and the standard library only.

Everything that shaped a result is recorded in it, so that the result can be computed again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import UsageError

SCHEMA_VERSION = "huref.fingerprint/1.0"
"""Major: files that cannot be compared with others. Minor: additions a reader may ignore."""

VECTOR_LENGTH = 512
"""Numbers in a fingerprint vector: the latent size of the image generator."""

NO_WEIGHTS = (
    "a saved fingerprint holds no neurons to pair, and a similarity is not a verdict: compare the models themselves"
)
VERDICTS = ("identical", "requantised", "derived", "merged", "independent", "inconclusive")
METHODS = ("all", "pcs", "ics", "aligned", "agreement")
RECIPES = ("canonical", "paper")
ENCODERS = ("sketch", "mean", "cnn")


@dataclass(frozen=True)
class Recipe:
    """Every choice that decides a fingerprint. Two fingerprints compare only under equal recipes.

    Attributes:
        name: `canonical` (gains folded, terms centred over tokens, gate-down feed-forward term) or
            `paper` (HuRef, NeurIPS 2024, section 4: raw weights, gate * up).
        encoder: `sketch`, `mean` (the official mean pooling; paper recipe, last two layers only) or `cnn` (a trained
            network; last two layers only).
        layers: `last2`, `all`, or a comma-separated list of indices, negative ones from the end.
        n_tokens: how many vocabulary rows are asked for (K).
        ranking: sha256 of the token ranking file, or empty: the recipe's own choice of tokens.
        seed: public seed of the sketch's signs.
        sketch_rows: rows m of each side of a term's sketch, which has m * m numbers.
        encoder_weights: sha256 of the weights file of `cnn`, or empty: not chosen yet, or another encoder.
    """

    name: str = "canonical"
    encoder: str = "sketch"
    layers: str = "last2"
    n_tokens: int = 4096
    ranking: str = ""
    seed: str = "huref/1"
    sketch_rows: int = 64
    encoder_weights: str = ""

    def __post_init__(self) -> None:
        _require(self.name in RECIPES, "unknown recipe", "--recipe", " or ".join(RECIPES), self.name)
        _require(self.encoder in ENCODERS, "unknown encoder", "--encoder", " or ".join(ENCODERS), self.encoder)
        _require(self.n_tokens >= 256, "too few tokens asked for", "n_tokens", "at least 256", str(self.n_tokens))
        _require(
            self.sketch_rows in range(8, 513, 4),
            "sketch size",
            "sketch_rows",
            "8 to 512, in steps of 4",
            str(self.sketch_rows),
        )
        if self.encoder == "mean":
            _require(
                self.name == "paper" and self.layers == "last2",
                "mean pooling is defined for the paper recipe on the last two layers",
                "--encoder mean",
                "--recipe paper --layers last2 (centred terms have zero row means)",
                f"--recipe {self.name} --layers {self.layers}",
            )
        self._require_encoder()

    def _require_encoder(self) -> None:
        weights = self.encoder_weights
        if self.encoder != "cnn":
            _require(not weights, "weights for another encoder", "--encoder-weights", "--encoder cnn", self.encoder)
            return
        is_digest = not weights or bool(re.fullmatch("[0-9a-f]{64}", weights))
        _require(is_digest, "no sha256", "encoder_weights", "64 hexadecimal digits", weights[:80])
        is_possible = self.layers == "last2" and self.n_tokens % 256 == 0
        _require(
            is_possible,
            "the CNN encoder takes the last two layers and a multiple of 256 tokens",
            "--encoder cnn",
            "--layers last2 --n-tokens 1024",
            f"--layers {self.layers} --n-tokens {self.n_tokens}",
        )

    @property
    def is_canonical(self) -> bool:
        """Whether norm gains are folded and terms centred over the tokens."""
        return self.name == "canonical"

    def layer_indices(self, n_layers: int) -> tuple[int, ...]:
        """The layers used in a model of `n_layers`, ascending, without repeats.

        Raises:
            UsageError: the list is not a list of integers, or names a layer the model lacks.
        """
        if self.layers == "all":
            return tuple(range(n_layers))
        if self.layers == "last2":
            return tuple(range(max(0, n_layers - 2), n_layers))
        try:
            asked = [int(part) for part in self.layers.split(",")]
        except ValueError:
            asked = []
        _require(bool(asked), "unreadable layer list", "--layers", "last2, all, or 0,5,-1", self.layers)
        inside = all(-n_layers <= index < n_layers for index in asked)
        _require(inside, "no such layer", "--layers", f"-{n_layers} to {n_layers - 1}", self.layers)
        return tuple(sorted({index % n_layers for index in asked}))

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, for JSON; the digest of encoder weights only where there is one."""
        values = asdict(self)
        return values if self.encoder_weights else {k: v for k, v in values.items() if k != "encoder_weights"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`; unknown keys are refused."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        _require(not unknown, "unknown key in a recipe", "recipe", ", ".join(sorted(known)), ", ".join(unknown))
        return cls(**values)


@dataclass(frozen=True)
class Fingerprint:
    """A model's public fingerprint.

    Attributes:
        model: what the user called the model; only its last part, never a path.
        architecture: the family's name.
        recipe: how it was made.
        vector: (512,) float32, root mean square 1; the generator's latent.
        sketches: per term, keyed `LAYER.KIND`, (m, m) float32, root mean square 1. Empty for `mean` and `cnn`.
        tokens: what `TokenSelection.describe` says: method, counts and digests.
        geometry: the decoder's sizes.
        weights: size and name of each weight file that was opened, format, and bytes read of how many.
        notes: what the reader should know: fewer tokens than asked for, tensors left out.
        version: the huref that made it.
    """

    model: str
    architecture: str
    recipe: Recipe
    vector: np.ndarray
    sketches: Mapping[str, np.ndarray]
    tokens: Mapping[str, Any]
    geometry: Mapping[str, int]
    weights: Mapping[str, Any]
    notes: tuple[str, ...]
    version: str

    def header(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON and for the files' metadata."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "architecture": self.architecture,
            "recipe": self.recipe.to_dict(),
            "encoder": self.recipe.encoder,
            "tokens": dict(self.tokens),
            "geometry": dict(self.geometry),
            "weights": dict(self.weights),
            "notes": list(self.notes),
            "version": self.version,
        }

    def similarity(self, other: Fingerprint) -> float:
        """Cosine of the two vectors, in [-1, 1]; the expected value under `sketch` is the ICS."""
        return cosine(self.vector, other.vector)


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
        aligned: mean over matched layers and kinds of the cosine after alignment (METHOD.md, section 4).
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

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document; layer pairs of `table` that were not tried are null."""
        document = {"schema_version": "huref.comparison/1.1", **asdict(self)}
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
        _require(self.method in METHODS, "unknown method", "--method", " or ".join(METHODS), self.method)
        is_verdict = self.expect is None or self.expect in VERDICTS
        _require(is_verdict, "unknown verdict", "--expect", " or ".join(VERDICTS), str(self.expect))
        Recipe(layers=self.layers, n_tokens=self.n_tokens)

    def exit_code(self, found: Comparison) -> int:
        """0 a verdict, 1 another verdict than `expect`, 3 inconclusive."""
        if self.expect is not None:
            return 0 if found.verdict == self.expect else 1
        return 3 if found.verdict == "inconclusive" else 0


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Cosine of two arrays of equal shape, flattened, in double precision; 0 when either is zero."""
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0


def canonical_json(document: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal documents give equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _require(is_right: bool, what: str, where: str, expected: str, got: str) -> None:
    if not is_right:
        raise UsageError(what, where=where, expected=expected, got=got, next_step="see --help of the command")
