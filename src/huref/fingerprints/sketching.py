"""Sketches of a model's terms: of the layers that a recipe names, or of those that do something."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from huref.errors import CorruptFileError
from huref.fingerprints.dual import DualFrame
from huref.fingerprints.dual_terms import Seen, see
from huref.fingerprints.recipe import RIDGE, Recipe
from huref.fingerprints.sketch import split_key, token_signs, unit_rms
from huref.fingerprints.terms import (
    ATTENTION_KINDS,
    DUAL_KINDS,
    PARTS,
    Bilinear,
    Part,
    has_part,
    layer_terms,
    sketch_term,
    token_embeddings,
)
from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.model import Model
from huref.model.tokens import TokenSelection
from huref.numerics.arrays import Floats, quietly
from huref.numerics.rows import inner_product
from huref.progress import Progress, Report

T = TypeVar("T")

_LEAST_SIZE = 0.02
"""Of what a block adds, over the embeddings: the blocks of SmolLM2, of Gemma 3 and of the zoo add 0.5 to 275,000."""

_ROLES: Mapping[Part, tuple[str, ...]] = {
    "attention": ("attention_norm", "q", "k", "v", "o"),
    "feed_forward": ("feed_forward_norm", "gate", "up", "down"),
}

_SHOWN = 8
"""Layers that a note lists."""


@dataclass(frozen=True)
class Sketched:
    """Sketches of a model's terms.

    Attributes:
        terms: keyed `LAYER.KIND`, (m, m) float32 each, root mean square 1, or zeros where a term is zero.
        notes: which layers add nothing, and what the tokens do not show of the stream.
    """

    terms: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()


@quietly
def sketch_model(
    model: Model,
    tokens: TokenSelection,
    recipe: Recipe,
    report: Report | None = None,
    *,
    is_centred: bool = True,
) -> Sketched:
    """Sketches of every term of the recipe's layers; under canonical-2 blocks that add next to nothing have none.

    Args:
        is_centred: over the tokens; else terms lose the mean of their entries alone, as Pearson's correlation does.

    Raises:
        CorruptFileError: under canonical-2, where no block adds anything.
    """
    weights, n_layers = model.weights, model.weights.geometry.n_layers
    sketch = _Sketcher.of(weights, tokens, recipe, is_centred=is_centred)

    def told(done: int, total: int) -> None:
        if report:
            report(Progress(f"sketching {model.name}", done, total, "layer"))

    if not recipe.is_dual:
        layers = recipe.layer_indices(n_layers)
        found: dict[str, np.ndarray] = {}
        for done, layer in enumerate(layers):
            told(done, len(layers))
            for term in layer_terms(weights, layer, recipe):
                found[term.key] = sketch(term)
        return Sketched(found, _silent_notes(found))
    parts = {}
    for place, part in enumerate(PARTS):
        told(place, len(PARTS))
        parts[part] = sketch.live_parts(part, sketch.unit)
    found = _in_order(weights, recipe, parts)
    return Sketched(found, (*sketch.notes, *_passed_notes(found, recipe, weights)))


@quietly
def dual_factors(
    model: Model, tokens: TokenSelection, recipe: Recipe, report: Report | None = None
) -> Iterator[tuple[str, Floats, Floats]]:
    """The terms of canonical-2 as factors between tokens: `M = X left^T right X^T`, of the blocks of a sketch.

    `left` and `right` are the rows of the layer's matrices times `G^-1` of the frame, heads and neurons multiplied by
    the lengths that the sketch gives them, heads of a group summed.

    Yields:
        `LAYER.KIND`, left (r, d) and right (r, d) float32, in the order of layers and kinds.

    Raises:
        CorruptFileError: no block adds anything.
    """
    weights = model.weights
    sketch = _Sketcher.of(weights, tokens, recipe, is_centred=True)
    shares = {part: sketch.live_parts(part, lambda _, seen: seen.shares) for part in PARTS}
    layers = sorted({layer for part in shares.values() for layer in part})
    if not layers:
        raise _nothing_added(weights, recipe)
    inverse = DualFrame.of(token_embeddings(weights, tokens.ids, recipe), RIDGE).inverse(RIDGE)
    for done, layer in enumerate(layers):
        if report:
            report(Progress(f"reading {model.name}", done, len(layers), "layer"))
        for part in PARTS:
            if layer in shares[part]:
                seen = see(weights, layer, part, inverse, inverse, shares[part][layer])
                for kind, (U, V) in seen.terms.items():
                    yield f"{layer}.{kind}", U.T, V.T


def live(recipe: Recipe, n_layers: int, make: Callable[[int], T | None]) -> dict[int, T]:
    """Of one part of layers under canonical-2, what is made of those that do something, ascending.

    Args:
        make: of a layer; None where it adds nothing.
    """
    layers, most = recipe.searched(n_layers)
    found: dict[int, T] = {}
    for layer in layers:
        made = make(layer)
        if made is not None:
            found[layer] = made
        if len(found) == most:
            break
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class _Sketcher:
    """Two-sided sketches of a model's terms over some tokens.

    Attributes:
        first, second: (m, d) what the signs see of the stream's directions: S1 X and S2 X, or S1 D and S2 D.
        mean: (1, d) the mean row of X and the sums of the signs, where terms lose the mean of their entries alone.
        size: root mean square of the centred embeddings.
        notes: what the tokens do not show of the stream.
    """

    weights: CanonicalWeights
    recipe: Recipe
    first: Floats
    second: Floats
    mean: tuple[Floats, NDArray[np.float64]] | None = None
    size: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, weights: CanonicalWeights, tokens: TokenSelection, recipe: Recipe, *, is_centred: bool) -> _Sketcher:
        X = token_embeddings(weights, tokens.ids, recipe)
        weights.announce(read_next(weights, recipe))
        S = np.concatenate(token_signs(tokens.strings, recipe.sketch_rows, recipe.seed))
        mean = None
        if recipe.is_dual:
            frame = DualFrame.of(X, RIDGE)
            first, second = np.split(frame.seen_by(S), 2)
            return cls(weights, recipe, first, second, None, frame.size, frame.notes(S))
        if is_centred:  # the signs instead: (S - S 1 1^T / K) X = S (X - 1 1^T X / K), and S is the smaller
            seen = (S - S.mean(axis=1, keepdims=True)) @ X
        else:
            seen = S @ X
            mean = X.mean(axis=0, dtype=np.float64)[None].astype(np.float32), S.sum(axis=1, dtype=np.float64)
        first, second = np.split(seen, 2)
        return cls(weights, recipe, first, second, mean)

    def __call__(self, term: Bilinear) -> np.ndarray:
        """(m, m), root mean square 1, or zeros.

        Raises:
            NotFiniteError: NaN or infinity in it.
        """
        Y = sketch_term(term, self.first, self.second)
        if self.mean is not None:
            rows, sums = self.mean
            average = float(sketch_term(term, rows, rows)[0, 0])
            Y = (Y - average * np.outer(*np.split(sums, 2))).astype(np.float32)
        require_finite(Y, f"layer {term.layer}, {term.kind}", self.weights)
        return unit_rms(Y)

    def live_parts(self, part: Part, keep: Callable[[int, Seen], T]) -> dict[int, T]:
        """What is kept of one part of the layers that do something; or else of those that do next to nothing."""
        n_layers = self.weights.geometry.n_layers
        made = (partial(self._of_part, part, keep=keep, least=least) for least in (_LEAST_SIZE, 0.0))
        return next((found for make in made if (found := live(self.recipe, n_layers, make))), {})

    def _of_part(self, part: Part, layer: int, keep: Callable[[int, Seen], T], least: float) -> T | None:
        """None where it adds no more than `least` of the embeddings' size."""
        if not has_part(self.weights, layer, part):
            return None
        seen = see(self.weights, layer, part, self.first, self.second)
        return keep(layer, seen) if self._added(seen, part) > least else None

    def unit(self, layer: int, seen: Seen) -> dict[str, np.ndarray]:
        """By kind, the sketches of one part of a layer.

        Raises:
            NotFiniteError: NaN or infinity in one.
        """
        found = {kind: U @ V.T for kind, (U, V) in seen.terms.items()}
        for kind, Y in found.items():
            require_finite(Y, f"layer {layer}, {kind}", self.weights)
        return {kind: unit_rms(Y) for kind, Y in found.items()}

    def _added(self, seen: Seen, part: Part) -> float:
        """What a part adds to the stream, over the embeddings' size, of inputs of size 1, which norms make.

        A norm behind it undoes its scale; that norm's gain says what is added.
        """
        if seen.gain is not None and seen.size:
            return math.sqrt(float(np.square(seen.gain).mean())) / self.size
        length = math.sqrt(inner_product(self.first, self.first) / self.first.size)  # of what D makes of length 1
        factors = 3 if part == "feed_forward" and self.weights.architecture.gated else 2
        return seen.size / length**factors / math.sqrt(self.first.shape[1]) / self.size


def read_next(weights: CanonicalWeights, recipe: Recipe) -> Iterator[str]:
    """What is read after the embeddings, unless layers turn out to do nothing."""
    n_layers = weights.geometry.n_layers
    if recipe.is_dual:
        layers, most = recipe.searched(n_layers)
    else:
        layers, most = recipe.layer_indices(n_layers), n_layers
    for part in PARTS:
        for layer in layers[:most]:
            yield from (f"layers.{layer}.{role}" for role in _ROLES[part])


def _in_order(
    weights: CanonicalWeights, recipe: Recipe, parts: Mapping[Part, Mapping[int, Mapping[str, np.ndarray]]]
) -> dict[str, np.ndarray]:
    """Sketches by key, layer by layer."""
    layers = sorted({layer for part in parts.values() for layer in part})
    if not layers:
        raise _nothing_added(weights, recipe)
    return {
        f"{layer}.{kind}": sketch
        for layer in layers
        for part in parts.values()
        for kind, sketch in part.get(layer, {}).items()
    }


def _nothing_added(weights: CanonicalWeights, recipe: Recipe) -> CorruptFileError:
    return CorruptFileError(
        "no layer that was asked for adds anything that the tokens show",
        where=f"{weights.checkpoint.reference}, --layers {recipe.layers}",
        expected="output matrices (o, down) that write where the embeddings have numbers",
        got="zeros",
        next_step="ask for other layers, or fetch the file again",
    )


def _silent_notes(sketches: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Which layers add nothing: inserted ones, as block expansion (LLaMA Pro) leaves them."""
    silent = sorted({split_key(key)[0] for key, sketch in sketches.items() if not sketch.any()})
    if not silent:
        return ()
    return (f"terms of layer {_listed(silent)} are zero: such layers add nothing, and weigh nothing here",)


def _passed_notes(sketches: Mapping[str, np.ndarray], recipe: Recipe, weights: CanonicalWeights) -> tuple[str, ...]:
    """Which blocks of the layers that were looked at add nothing."""
    layers, most = recipe.searched(weights.geometry.n_layers)
    passed: dict[str, list[int]] = {}
    for part in PARTS:
        kinds = ATTENTION_KINDS if part == "attention" else DUAL_KINDS[2:]
        used = {layer for layer, kind in map(split_key, sketches) if kind in kinds}
        there = [layer for layer in layers if has_part(weights, layer, part)]
        looked_at = [layer for layer in there if len(used) < most or layer >= min(used)]
        passed[part.replace("_", "-")] = sorted(set(looked_at) - used)
    attention, feed_forward = passed.values()
    if attention == feed_forward:
        passed = {"all": attention}
    return tuple(
        f"{part} of layer {_listed(silent)} adds next to nothing, and is passed over"
        for part, silent in passed.items()
        if silent
    )


def _listed(layers: Sequence[int]) -> str:
    shown = ", ".join(map(str, layers[:_SHOWN]))
    return shown if len(layers) <= _SHOWN else f"{shown} and {len(layers) - _SHOWN} more"
