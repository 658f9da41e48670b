"""A model as comparisons see it: what belongs to it alone is read and computed once, whatever it is compared with."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from huref.fingerprints.codes import CodeRecipe, LayerCodes
from huref.fingerprints.coding import Projection, code_tokens, dual_projection, encode_layer, encode_neurons
from huref.fingerprints.dual_terms import see
from huref.fingerprints.recipe import RIDGE, Recipe
from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.sketching import Sketched, sketch_model
from huref.fingerprints.terms import Part, part_terms, token_embeddings
from huref.kinship.memory import Memory
from huref.model.finite import require_finite
from huref.model.layers import Neurons, read_neurons
from huref.model.model import Model, open_model
from huref.model.tokens import TokenSelection
from huref.numerics.arrays import Floats
from huref.progress import Report

T = TypeVar("T")


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

    def __init__(self, model: Model, memory: Memory | None = None) -> None:
        self.model = model
        self._memory, self._name = Memory() if memory is None else memory, object()

    @cached_property
    def n_layers(self) -> int:
        """Its depth."""
        return self.model.weights.geometry.n_layers

    def frame(self, tokens: TokenSelection, recipe: Recipe) -> Frame:
        """Of the embedding rows of tokens, those that a recipe centres without their mean."""

        def made() -> Frame:
            ridge = RIDGE if recipe.is_dual else None
            return Frame.of(self._rows(tokens, recipe), is_centred=recipe.is_canonical, ridge=ridge)

        return self._kept(made, _Sample(tokens, recipe), "frame")

    def terms(self, tokens: TokenSelection, recipe: Recipe, layer: int, part: Part) -> Mapping[str, ResidualTerm]:
        """The terms of one part of a layer by kind.

        Raises:
            NotFiniteError: NaN or infinity in one.
        """

        def made() -> Mapping[str, ResidualTerm]:
            frame, weights = self.frame(tokens, recipe), self.model.weights
            if recipe.is_dual:
                seen = see(weights, layer, part, frame.R, frame.R).terms.items()
                terms = {kind: ResidualTerm.of_sides(U, V, frame.n_tokens) for kind, (U, V) in seen}
            else:
                terms = {term.kind: ResidualTerm.of(term, frame) for term in part_terms(weights, layer, part, recipe)}
            for kind, term in terms.items():
                self._require_finite(term, layer, kind)
            return terms

        return self._kept(made, _Sample(tokens, recipe), "terms", layer, part)

    def sketches(self, tokens: TokenSelection, recipe: Recipe, report: Report | None = None) -> Sketched:
        """`sketch_model`."""
        return self._kept(
            lambda: sketch_model(self.model, tokens, recipe, report), _Sample(tokens, recipe), "sketches"
        )

    def term_sketches(
        self, tokens: TokenSelection, recipe: Recipe, report: Report | None = None
    ) -> Mapping[str, np.ndarray]:
        """`sketch_model` of the terms as they are correlated: the paper's less the mean of their entries only."""

        def made() -> Mapping[str, np.ndarray]:
            return sketch_model(self.model, tokens, recipe, report, is_centred=recipe.is_canonical).terms

        return self._kept(made, _Sample(tokens, recipe), "term sketches")

    def neurons(self, layer: int) -> Neurons:
        """`read_neurons`."""
        return self._kept(lambda: read_neurons(self.model.weights, layer), "neurons", layer)

    def code_tokens(self, recipe: CodeRecipe) -> TokenSelection:
        """`huref.fingerprints.codes.code_tokens`."""
        return self._kept(lambda: code_tokens(self.model, recipe), "code tokens", recipe)

    def projection(self, recipe: CodeRecipe) -> Projection:
        """Of the model's own tokens."""
        return self._kept(lambda: dual_projection(self.model, self.code_tokens(recipe), recipe), "projection", recipe)

    def codes(self, layer: int, projection: Projection, recipe: CodeRecipe, *, has_heads: bool = True) -> LayerCodes:
        """`encode_layer`, or `encode_neurons` where heads are not wanted."""

        def made() -> LayerCodes:
            encode = encode_layer if has_heads else encode_neurons
            return encode(self.model.weights, layer, projection, recipe)

        return self._kept(made, "codes", layer, projection, recipe)

    def _rows(self, tokens: TokenSelection, recipe: Recipe) -> Floats:
        def read() -> Floats:
            return token_embeddings(self.model.weights, tokens.ids, recipe)

        return self._kept(read, _Sample(tokens, recipe), "rows")

    def _require_finite(self, term: ResidualTerm, layer: int, kind: str) -> None:
        require_finite(np.array(term.length, np.float32), f"layer {layer}, {kind}", self.model.weights)

    def _kept(self, make: Callable[[], T], *key: Hashable) -> T:
        return self._memory.get((self._name, *key), make)


@contextlib.contextmanager
def prepared(
    reference: str | Path,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    *,
    memory: Memory | None = None,
    name: str = "",
) -> Iterator[Prepared]:
    """Open a model for comparisons.

    Args:
        memory: shared with other models; one of its own otherwise.

    Raises:
        InputError: it cannot be read.
    """
    model = open_model(reference, arch_file, tokenizer, name)
    with model.weights.checkpoint:
        yield Prepared(model, memory)


class OpenModels:
    """Models that stay open from pair to pair, with what was computed of each; the longest unused of many goes.

    Use as a context manager, or close it.
    """

    def __init__(
        self,
        arch_file: Path | None = None,
        tokenizer: Path | None = None,
        *,
        most: int | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._names = names or {}
        self._files, self._most, self._memory = (arch_file, tokenizer), most, Memory()
        self._models: OrderedDict[str, Prepared] = OrderedDict()

    def get(self, reference: str | Path) -> Prepared:
        """A model, opened where it is not yet.

        Raises:
            InputError: it cannot be read.
        """
        key = str(reference)
        if key not in self._models:
            self._models[key] = Prepared(open_model(reference, *self._files, self._names.get(key, "")), self._memory)
        self._models.move_to_end(key)
        while self._most is not None and len(self._models) > max(2, self._most):  # the two of a pair stay
            _, unused = self._models.popitem(last=False)
            unused.model.weights.checkpoint.close()
        return self._models[key]

    def close(self) -> None:
        """Close all of them."""
        while self._models:
            self._models.popitem()[1].model.weights.checkpoint.close()

    def __enter__(self) -> OpenModels:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
