"""Terms as factors, `M = U V^T` with U, V (K, r); the K x K matrix is formed only where that is cheaper.

Their products are large: where the machine multiplies bfloat16 faster, torch takes them (`huref.numerics.products`).
"""

from __future__ import annotations

from dataclasses import dataclass

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import Bilinear, feed_forward_gain, scaled
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Floats
from huref.numerics.products import product


@dataclass(frozen=True)
class Factors:
    """A term in factor form, `M = U V^T`; U and V are (K, r) float32."""

    layer: int
    kind: str
    U: Floats
    V: Floats


def factors(term: Bilinear, X: Floats) -> Factors:
    """U and V of a bilinear term, (K, r) each."""
    U = scaled(product(scaled(X, term.left_gain), term.left.T), term.inner)
    V = product(scaled(X, term.right_gain), term.right.T)
    return Factors(term.layer, term.kind, U, V)


def exact_ffn(weights: CanonicalWeights, layer: int, X: Floats, recipe: Recipe) -> Factors:
    """The gated feed-forward term that a residual rotation leaves alone; X is not centred, U and V are."""
    X_scaled = scaled(X, feed_forward_gain(weights, layer, recipe))
    gate, up, down = (weights.read(f"layers.{layer}.{name}") for name in ("gate", "up", "down"))
    U = product(X_scaled, gate.T) * product(X_scaled, up.T)
    V = product(X, down)
    if recipe.is_canonical:
        U -= U.mean(axis=0, keepdims=True)
        V -= V.mean(axis=0, keepdims=True)
    return Factors(layer, "ffn_exact", U, V)
