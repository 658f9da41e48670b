"""A model as comparisons see it: what belongs to it alone is read and computed once, whatever it is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from huref.fingerprints.pipeline import sketch_model
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.residual import Frame, ResidualTerm, RotationProofTerm
from huref.fingerprints.terms import layer_terms, token_embeddings
from huref.model.finite import require_finite
from huref.model.model import Model, open_model
from huref.model.tokens import TokenSelection
from huref.numerics.arrays import Floats
from huref.progress import Report

_KEPT_SAMPLES, _KEPT_LAYERS = 4, 16
"""Choices of tokens, and layers of each, that are kept: partners of other tokenizers share other tokens."""


@dataclass(frozen=True)
class _Sample:
    """What a model's terms are over: tokens, told apart by their strings, under a recipe."""

    tokens: TokenSelection
    recipe: Recipe

    @property
    def _key(self) -> tuple[str, Recipe]:
        return self.tokens.digest, self.recipe

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sample) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class Prepared:
    """An opened model with what was already computed of it.

    Attributes:
        model: its weights and vocabulary.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._rows = lru_cache(_KEPT_SAMPLES)(self._read_rows)
        self._frames = lru_cache(_KEPT_SAMPLES)(self._made_frame)
        self._terms = lru_cache(_KEPT_LAYERS)(self._made_terms)
        self._proof = lru_cache(_KEPT_LAYERS)(self._made_proof)
        self._sketched = lru_cache(_KEPT_SAMPLES)(self._made_sketches)
        self._report: Report | None = None

    @cached_property
    def n_layers(self) -> int:
        """Its depth."""
        return self.model.weights.geometry.n_layers

    def frame(self, tokens: TokenSelection, recipe: Recipe) -> Frame:
        """Of the embedding rows of tokens, those that a recipe centres without their mean."""
        return self._frames(_Sample(tokens, recipe))

    def terms(self, tokens: TokenSelection, recipe: Recipe, layer: int) -> Mapping[str, ResidualTerm]:
        """The terms of a layer by kind."""
        return self._terms(_Sample(tokens, recipe), layer)

    def rotation_proof(self, tokens: TokenSelection, recipe: Recipe, layer: int) -> RotationProofTerm:
        """The feed-forward term that a rotation leaves alone, of a layer with a gate."""
        return self._proof(_Sample(tokens, recipe), layer)

    def sketches(
        self, tokens: TokenSelection, recipe: Recipe, report: Report | None = None
    ) -> Mapping[str, np.ndarray]:
        """`sketch_model`."""
        self._report = report
        return self._sketched(_Sample(tokens, recipe))

    def _read_rows(self, sample: _Sample) -> Floats:
        return token_embeddings(self.model.weights, sample.tokens.ids, sample.recipe)

    def _made_frame(self, sample: _Sample) -> Frame:
        return Frame.of(self._rows(sample), is_centred=sample.recipe.is_canonical)

    def _made_terms(self, sample: _Sample, layer: int) -> Mapping[str, ResidualTerm]:
        frame, weights = self._frames(sample), self.model.weights
        terms = {term.kind: ResidualTerm.of(term, frame) for term in layer_terms(weights, layer, sample.recipe)}
        for kind, term in terms.items():
            require_finite(np.array(term.length, np.float32), f"layer {layer}, {kind}", weights)
        return terms

    def _made_proof(self, sample: _Sample, layer: int) -> RotationProofTerm:
        weights, rows, frame = self.model.weights, self._rows(sample), self._frames(sample)
        term = RotationProofTerm.of(weights, layer, rows, frame, sample.recipe)
        require_finite(np.array(term.length, np.float32), f"layer {layer}, ffn_exact", weights)
        return term

    def _made_sketches(self, sample: _Sample) -> Mapping[str, np.ndarray]:
        return sketch_model(self.model, sample.tokens, sample.recipe, self._report)


@contextlib.contextmanager
def prepared(reference: str | Path, arch_file: Path | None = None) -> Iterator[Prepared]:
    """Open a model for comparisons.

    Raises:
        InputError: it cannot be read.
    """
    model = open_model(reference, arch_file)
    with model.weights.checkpoint:
        yield Prepared(model)
