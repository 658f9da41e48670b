"""In which frames two models' neurons are compared: the tokens', that of the stream itself, one found in the weights.

Codes in a model's own tokens' frame belong to that model alone and meet those of any other. Where they leave a doubt,
and weights are at hand, further frames are tried, cheapest first: the stream's own dimensions, which a replaced
tokenizer leaves as they were; the tokens' frame again, over the strings that both vocabularies have, and by whole
rows of the stream instead of their signs; at last one from neurons that look alike among their layer's, where the
tokenizer was replaced and the stream turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from huref.errors import TokenizerError
from huref.fingerprints.codes import CodeRecipe, LayerCodes, kept_layers
from huref.fingerprints.coding import (
    Projection,
    coded_layers,
    dual_frame,
    dual_projection,
    plain_projection,
    whole_rows,
)
from huref.kinship.alignment import outstanding, weights_map
from huref.kinship.prepared import Prepared
from huref.kinship.recognition import (
    CLEAR,
    NO_PARTNERS,
    TURNED_BY,
    Coded,
    Recognised,
    Recognition,
    best_of,
    recognise,
)
from huref.kinship.witnesses import MIN_NEURONS, examine
from huref.model.layers import Neurons, read_neurons
from huref.model.tokens import TokenSelection, shared
from huref.numerics.arrays import quietly
from huref.numerics.threads import Started
from huref.progress import Report

T = TypeVar("T")

_SHALLOW, _DOUBTED_LAYERS = 8, 4
"""Depth up to which every layer is read again for another frame, and how many of deeper models are."""

_MAPPED_NEURONS = 2048
"""Neurons that a map is sought by at least, in two layers or more and four at most."""

_WIDE = 2048
"""Streams up to this wide are compared by whole rows too where the signs of some directions leave a doubt."""

_ALIKE = 0.75
"""Share of two samples' strings that both have, from which on the samples' own frames are as good as a common one."""


@quietly
def recognise_models(
    a: Prepared, b: Prepared, asked: tuple[int, ...] | None = None, report: Report | None = None
) -> Recognised | str:
    """Compare two models' neurons in one frame after another, until one leaves no doubt.

    Args:
        asked: layers of A that the user named; None chooses them by what can be afforded.

    Returns:
        What was found, or why nothing can be.

    Raises:
        InputError: what is read of one of them is damaged.
    """
    if min(side.model.weights.geometry.d_ff for side in (a, b)) < MIN_NEURONS:
        return f"fewer than {MIN_NEURONS} feed-forward neurons in a layer"
    frames = _Frames(a, b, CodeRecipe(), asked)
    tried: dict[str, Recognition] = {}
    has_frame = False
    for method, sides in frames.each():
        has_frame = True
        found = recognise(*sides, method, asked, report)
        if found is None:
            continue
        tried[method] = found
        if found.agreement >= CLEAR:
            break
    if not tried:
        no_frame = "no frame for both models: other widths, too few tokens, no like neurons"
        return NO_PARTNERS if has_frame else no_frame
    best = best_of(tried)
    return replace(best, shared_tokens=frames.n_shared, is_turned=frames.is_turned(best.found))


class _Frames:
    """The frames of a pair of models, made when they are asked for."""

    def __init__(self, a: Prepared, b: Prepared, recipe: CodeRecipe, asked: tuple[int, ...] | None) -> None:
        self.sides, self.recipe, self.asked, self.n_shared = (a, b), recipe, asked, 0

    def each(self) -> Iterator[tuple[str, tuple[Coded, Coded]]]:
        """Frame by frame: its name, and both models in it."""
        samples = self._samples()
        strings = None if samples is None else [frozenset(sample.strings) for sample in samples]
        if samples is not None and strings is not None:
            self.n_shared = len(strings[0] & strings[1])
            yield "tokens", self._coded(self._both(lambda side: side.projection(self.recipe)))
        widths = [side.model.weights.geometry.d_model for side in self.sides]
        if widths[0] == widths[1]:
            yield "identity", self._coded([plain_projection(width, self.recipe) for width in widths], few=True)
        common = self._shared()
        self.n_shared = 0 if common is None else max(self.n_shared, len(common[0]))
        if common is not None:
            if max(widths) <= _WIDE:
                yield "rows", self._in_full(common)
            elif strings is None or self.n_shared < _ALIKE * min(map(len, strings)):
                frames = [dual_projection(x.model, y, self.recipe) for x, y in zip(self.sides, common, strict=True)]
                yield "shared tokens", self._coded(frames, few=True)
        yield from self._from_weights()

    def is_turned(self, found: Recognition) -> bool:
        """Whether the stream of one was turned: by the neurons of the two layers that agree most."""
        widths = {side.model.weights.geometry.d_model for side in self.sides}
        if found.method == "identity" or found.agreement < CLEAR or len(widths) > 1:
            return False
        match = max(found.layers, key=lambda layer: layer.agreement)
        plain = plain_projection(widths.pop(), self.recipe)
        x, y = (
            side.codes(layer, plain, self.recipe, has_heads=False)
            for side, layer in zip(self.sides, (match.layer_a, match.layer_b), strict=True)
        )
        return examine(x, y, TURNED_BY).best < CLEAR

    def _samples(self) -> tuple[TokenSelection, TokenSelection] | None:
        try:
            return self._both(lambda side: side.code_tokens(self.recipe))
        except TokenizerError:
            return None

    def _both(self, function: Callable[[Prepared], T]) -> tuple[T, T]:
        """Of A and of B, side by side."""
        first = Started(lambda: function(self.sides[0]))
        second = function(self.sides[1])
        return first.result(), second

    def _shared(self) -> tuple[TokenSelection, TokenSelection] | None:
        models = [side.model for side in self.sides]
        rows = models[0].n_rows, models[1].n_rows
        try:
            return shared(models[0].vocabulary, models[1].vocabulary, self.recipe.n_tokens, rows)
        except TokenizerError:
            return None

    def _coded(self, frames: Sequence[Projection], *, few: bool = False) -> tuple[Coded, Coded]:
        """Both models in a frame.

        Args:
            few: of models whose codes of the usual frame left a doubt, some layers only.
        """
        frame_of = dict(zip(self.sides, frames, strict=True))

        def coded(side: Prepared) -> Coded:
            def read(layer: int) -> LayerCodes:
                return side.codes(layer, frame_of[side], self.recipe, has_heads=not few)

            layers = self._layers(side, few=few)
            for layer in layers:  # made here, both models' side by side
                read(layer)
            return Coded(side.n_layers, layers, read)

        return self._both(coded)

    def _in_full(self, tokens: tuple[TokenSelection, TokenSelection]) -> tuple[Coded, Coded]:
        """Both models in the frame of the tokens they share, by whole rows instead of their signs.

        `D_a r` and `D_b s` have the inner product `r^T C s`, `C = W_a X_a^T X_b W_b`, W the inverse of a frame's G.
        """
        sample_of = dict(zip(self.sides, tokens, strict=True))
        frames = self._both(lambda side: dual_frame(side.model, sample_of[side], self.recipe))
        frame_of, C = dict(zip(self.sides, frames, strict=True)), frames[0].across(frames[1])

        def coded(side: Prepared) -> Coded:
            carry, layers = C if side is self.sides[0] else None, self._layers(side, few=True)
            rows = {
                layer: whole_rows(side.neurons(layer), frame_of[side], sample_of[side], self.recipe, carry)
                for layer in layers
            }
            return Coded(side.n_layers, layers, rows.__getitem__)

        return self._both(coded)

    def _layers(self, side: Prepared, *, few: bool) -> tuple[int, ...]:
        if self.asked is not None:
            asked = self.asked if side is self.sides[0] else range(side.n_layers)
            return tuple(layer for layer in asked if side.model.weights.has(layer, "down"))
        kept = coded_layers(side.model.weights)
        return _few(side, _DOUBTED_LAYERS) if few and len(kept) > _SHALLOW else kept

    def _from_weights(self) -> Iterator[tuple[str, tuple[Coded, Coded]]]:
        """A map found by neurons that look alike among their own, of layers that stand near the same places."""
        fewest = min(side.model.weights.geometry.d_ff for side in self.sides)
        n = min(4, max(2, -(-_MAPPED_NEURONS // fewest)))

        def some(side: Prepared) -> list[Neurons]:  # of wide layers few neurons are kept, and not the layers
            weights = side.model.weights
            return [outstanding(read_neurons(weights, layer)) for layer in _few(side, n)]

        found = weights_map(*self._both(some))
        if found is not None and found.R is not None:
            plain = plain_projection(found.R.shape[1], self.recipe)
            yield "weights", self._coded([Projection(plain.P @ found.R.T), plain], few=True)


def _few(side: Prepared, most: int) -> tuple[int, ...]:
    """At most so many layers that have neurons, at the same places from either end in models of any depth."""
    layers = [layer for layer in range(side.n_layers) if side.model.weights.has(layer, "down")]
    return tuple(layers[place] for place in kept_layers(len(layers), most))
