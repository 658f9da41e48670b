"""Neuron codes: the signs of what public directions see of every neuron, whatever the model's basis.

`docs/formats/codes-v1.md`. Let X (K, d) be the centred embedding rows of K tokens. A row r of the residual stream is
described by the weights with which the tokens make it, `D r` with the *dual frame*

    D = X (X^T X + lambda I)^-1,   lambda = ridge * trace(X^T X) / d

(ridge regression, Hoerl and Kennard 1970), and D r is cut down to the signs of some random directions that belong to
the token *strings* (random hyperplanes, Charikar 2002): `code = sign(S D r)`. A rotation of the stream turns X into
XR and r into R^T r and leaves D r alone; so two models are compared without a map between them, of other widths too.
Inner products `X r` would see mostly the few directions that the text decides and that all models of the text share;
least squares divides those out, and unrelated models meet at chance (docs/explanation/method.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from huref.fingerprints.codes import CodeRecipe, Codes, LayerCodes, Packed, kept_layers, packed
from huref.fingerprints.dual import DualFrame
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import token_signs
from huref.fingerprints.terms import token_embeddings
from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.layers import Neurons, gain_behind
from huref.model.model import Model
from huref.model.tokens import TokenSelection, common
from huref.model.tokens.common_strings import common_strings
from huref.model.written import require_written
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.projection import project_rows
from huref.numerics.threads import in_two
from huref.progress import Progress, Report

_LEAST_LENGTH = 1e-20
_ROWS_A_DIMENSION = 2
_MOST_WEIGHTS, _FEWEST_LAYERS = 1 << 27, 4
"""Feed-forward weights that are read of a model for its codes, and layers of a model of any size."""

_PLAIN_LAYERS = 4
"""Layers whose codes in the stream's own frame a file keeps."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What rows of a residual stream are multiplied with before the signs are taken.

    Attributes:
        P: (bits, d) float32.
        tokens: digest of the token strings that it rests on; empty where it rests on none.
    """

    P: Floats
    tokens: str = ""


def make_codes(
    model: Model, recipe: CodeRecipe | None = None, report: Report | None = None, *, has_plain: bool = False
) -> Codes:
    """The codes that a fingerprint file keeps of a model.

    Args:
        has_plain: of a few layers in the frame of the stream's own dimensions too.

    Raises:
        TokenizerError: fewer than 256 usable tokens.
        InputError: what is read of the model is damaged.
    """
    recipe = recipe or CodeRecipe()
    tokens, sizes = code_tokens(model, recipe), model.weights.geometry
    kept = coded_layers(model.weights)
    in_plain = [kept[i] for i in kept_layers(len(kept), _PLAIN_LAYERS)] if has_plain else []
    frames = dual_projection(model, tokens, recipe), plain_projection(sizes.d_model, recipe)

    def encode(layer: int) -> tuple[LayerCodes, LayerCodes | None]:
        if report:
            report(Progress(f"coding neurons of {model.name}", kept.index(layer), len(kept), "layer"))
        plain = encode_neurons(model.weights, layer, frames[1]) if layer in in_plain else None
        return encode_layer(model.weights, layer, frames[0], recipe), plain

    coded = dict(zip(kept, in_two(kept, encode), strict=True))
    chosen = frozenset(tokens.strings)
    return Codes(
        recipe=recipe,
        tokens=tokens.digest,
        n_tokens=len(tokens),
        listed=np.packbits([token in chosen for token in common_strings()], bitorder="little"),
        layers={layer: codes for layer, (codes, _) in coded.items()},
        plain={layer: codes for layer, (_, codes) in coded.items() if codes is not None},
        n_experts=model.weights.architecture.n_experts,
    )


def coded_layers(weights: CanonicalWeights) -> tuple[int, ...]:
    """The layers whose codes are made, unless the user names some: all of a small model, a few of a large one.

    In hybrids, of those that have neurons.
    """
    sizes = weights.geometry
    per_layer = 3 * sizes.d_ff * sizes.d_model
    layers = [layer for layer in range(sizes.n_layers) if weights.has(layer, "down")]
    kept = kept_layers(len(layers), max(_FEWEST_LAYERS, _MOST_WEIGHTS // max(1, per_layer)))
    return tuple(layers[place] for place in kept)


def code_tokens(model: Model, recipe: CodeRecipe) -> TokenSelection:
    """The tokens of a model's frame: strings that most vocabularies have come first.

    Raises:
        TokenizerError: fewer than 256 usable tokens.
    """
    k = max(recipe.n_tokens, _ROWS_A_DIMENSION * model.weights.geometry.d_model)
    return common(model.vocabulary, k, model.n_rows)


def dual_projection(model: Model, tokens: TokenSelection, recipe: CodeRecipe) -> Projection:
    """`S D` over a model's embedding rows of some tokens.

    Raises:
        NotFiniteError: NaN or infinity among the rows.
        CorruptFileError: rows of zeros only.
    """
    return Projection(dual_frame(model, tokens, recipe).seen_by(_signs(tokens, recipe)), tokens.digest)


def dual_frame(model: Model, tokens: TokenSelection, recipe: CodeRecipe) -> DualFrame:
    """The dual frame of a model's embedding rows of some tokens.

    Raises:
        NotFiniteError: NaN or infinity among the rows.
        CorruptFileError: rows of zeros only.
    """
    return DualFrame.of(token_embeddings(model.weights, tokens.ids, Recipe("canonical")), recipe.ridge)


def _signs(tokens: TokenSelection, recipe: CodeRecipe) -> Floats:
    """(bits, K)."""
    return np.concatenate(token_signs(tokens.strings, recipe.bits // 2, recipe.seed))


@cache
def plain_projection(width: int, recipe: CodeRecipe) -> Projection:
    """Random signs by dimension: the frame of a stream's own basis, for models that have kept it."""
    strings = tuple(str(i).encode() for i in range(width))
    return Projection(np.concatenate(token_signs(strings, recipe.bits // 2, f"{recipe.seed}/plain")))


def encode_layer(weights: CanonicalWeights, layer: int, projection: Projection, recipe: CodeRecipe) -> LayerCodes:
    """Read one layer and keep the signs of its projections; norm gains are folded in.

    Raises:
        NotFiniteError: NaN or infinity in the layer.
        CorruptFileError: a matrix of zeros that no network works with.
    """
    gate, up, down = _neurons(weights, layer, projection.P)
    none = np.zeros((recipe.side, recipe.side), np.float32)
    operators = {"qk": none, "vo": none}
    heads = _no_heads(projection), _no_heads(projection)
    if weights.has(layer, "o"):
        q, k, v, o = _heads(weights, layer, projection.P)
        operators |= {"qk": _operator(q, k, recipe.side), "vo": _operator(v, o, recipe.side)}
        heads = packed(_head_operators(q, k)), packed(_head_operators(v, o))
    operators["up_down"] = _operator(_unit(up), _unit(down), recipe.side)
    return _coded(weights, layer, (gate, up, down), heads, operators)


def encode_neurons(
    weights: CanonicalWeights, layer: int, projection: Projection, recipe: CodeRecipe | None = None
) -> LayerCodes:
    """`encode_layer` without heads, a third of the reading less.

    Args:
        recipe: for the operator of the feed-forward block; None for no operators.
    """
    none = _no_heads(projection)
    gate, up, down = _neurons(weights, layer, projection.P)
    operators = {} if recipe is None else {"up_down": _operator(_unit(up), _unit(down), recipe.side)}
    return _coded(weights, layer, (gate, up, down), (none, none), operators)


def whole_rows(
    neurons: Neurons, frame: DualFrame, tokens: TokenSelection, recipe: CodeRecipe, C: Floats | None
) -> LayerCodes:
    """Neurons by the rows that codes are signs of: inner products are cosines in the frame, but for a few percent.

    Args:
        C: carries rows into the other model's stream, or None.
    """
    P = frame.seen_by(_signs(tokens, recipe))

    def seen(rows: Floats) -> Floats:
        length = np.sqrt(np.square(rows @ P.T).mean(axis=1, keepdims=True))
        scale = np.divide(1, length, out=np.zeros_like(length), where=length > _LEAST_LENGTH)
        found: Floats = (rows if C is None else rows @ C) * scale
        return found

    none = np.zeros((0, len(P) // 8), np.uint8)
    up = None if neurons.ups is None else seen(neurons.ups)
    return LayerCodes(seen(neurons.acts), up, seen(neurons.downs), none, none, {}, neurons.n_copies)


def _coded(
    weights: CanonicalWeights,
    layer: int,
    neurons: tuple[Floats | None, Floats, Floats],
    heads: tuple[Packed, Packed],
    operators: Mapping[str, Floats],
) -> LayerCodes:
    gate, up, down = neurons
    opens, reads = (up, None) if gate is None else (gate, up)
    n_copies = weights.architecture.n_experts if f"layers.{layer}.router" in weights else 1
    codes = packed(opens), None if reads is None else packed(reads), packed(down)
    return LayerCodes(*codes, *heads, operators, n_copies)


def _no_heads(projection: Projection) -> Packed:
    return np.zeros((0, len(projection.P) // 8), np.uint8)


def _neurons(weights: CanonicalWeights, layer: int, P: Floats) -> tuple[Floats | None, Floats, Floats]:
    """Projections (bits, n) of a layer's gate, up and down rows."""
    if not weights.has(layer, "down"):
        none = np.zeros((len(P), 0), np.float32)
        return (none if weights.architecture.gated else None), none, none
    block, at = weights.feed_forward(layer), f"layers.{layer}."
    front, behind = _scaled(P, block.gain), _scaled(P, gain_behind(weights, f"{at}post_feed_forward_norm"))
    gate = None if block.gate is None else _seen(weights, f"{at}gate", front, block.gate)
    up = _seen(weights, f"{at}up", front, block.up)
    return gate, up, _seen(weights, f"{at}down", behind, block.down.T, may_be_zero=True)


def _seen(weights: CanonicalWeights, name: str, P: Floats, matrix: Array, *, may_be_zero: bool = False) -> Floats:
    """(bits, n) projections of the rows of a matrix (n, d)."""
    seen = project_rows(P, matrix)
    require_finite(seen, name, weights)
    if not may_be_zero and not seen.any():
        require_written(matrix, name, weights)
    return seen


def _heads(weights: CanonicalWeights, layer: int, P: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Projections of a layer's queries, keys, values and outputs, (bits, heads, e) each."""
    block, at = weights.attention(layer), f"layers.{layer}."
    front, behind = _scaled(P, block.gain), _scaled(P, gain_behind(weights, f"{at}post_attention_norm"))
    n_heads, d = len(block.Wq), block.Wq.shape[2]
    sides = ((f"{at}q", front, block.Wq), (f"{at}k", front, block.Wk), (f"{at}v", front, block.Wv))
    q, k, v = (_seen(weights, name, P_, W.reshape(-1, d)).reshape(len(P), *W.shape[:2]) for name, P_, W in sides)
    o = _seen(weights, f"{at}o", behind, weights.read(f"{at}o").T, may_be_zero=True).reshape(len(P), n_heads, -1)
    q, k = _with_head_gain(q, block.q_gain), _with_head_gain(k, block.k_gain)
    groups = n_heads // k.shape[1]
    return q, np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1), o


def _with_head_gain(seen: Floats, gain: Array | None) -> Floats:
    """A query or key norm undoes the scale of a head; then its gain acts."""
    if gain is None:
        return seen
    found = seen * float32(gain).reshape(-1, seen.shape[2])
    length = np.sqrt(np.square(found).sum(axis=(0, 2), keepdims=True))
    scaled: Floats = found / np.maximum(length, np.float32(_LEAST_LENGTH))
    return scaled


def _head_operators(left: Floats, right: Floats) -> Floats:
    """(bits, heads): each head's bilinear form between a direction of one half and one of the other."""
    half = len(left) // 2
    seen: Floats = np.einsum("bhe,bhe->bh", left, np.roll(right, half, axis=0))
    return seen


def _operator(left: Floats, right: Floats, side: int) -> Floats:
    """(side, side) of `S1 D (sum of outer products) D^T S2^T`, S1 and S2 the first rows of the two halves of S."""
    half = len(left) // 2
    a, b = left[:side].reshape(side, -1), right[half : half + side].reshape(side, -1)
    sketch: Floats = a @ b.T
    return sketch


def _unit(seen: Floats) -> Floats:
    """Projections (bits, n) of unit length: the scale of a neuron is free."""
    length = np.sqrt(np.square(seen).sum(axis=0))
    unit: Floats = seen * np.divide(1, length, out=np.zeros_like(length), where=length > _LEAST_LENGTH)
    return unit


def _scaled(P: Floats, gain: Array | None) -> Floats:
    return P if gain is None else P * float32(gain)
