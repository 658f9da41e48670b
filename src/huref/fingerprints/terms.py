"""The invariant terms of a decoder layer: products of weights that rearranging the weights does not change.

HuRef (NeurIPS 2024, arXiv 2312.04828), section 4, in row-vector convention with (out, in) storage. With X the
(K, d) embeddings of K tokens,

    qk         X Wq^T Wk X^T          heads of a KV group summed before multiplying
    vo         X Wv^T Wo^T X^T
    ffn        X W1^T W2^T X^T        W1 = gate * up elementwise (paper), or up alone
    gate_down  X gate^T W2^T X^T      columns of W2 at unit length (up <- S up, W2 <- W2 S^-1 changes nothing,
                                      S > 0); a flip of signs does change it, and so do twins of other seeds
    up_down    X up^T W2^T X^T        where there is no gate

None is ever formed: `huref.fingerprints.residual` compares them, `sketch_term` makes them small. The terms of the
recipe canonical-2 are in `huref.fingerprints.dual_terms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from huref.errors import ArchitectureError
from huref.fingerprints.recipe import Recipe
from huref.model.arch.canonical import Attention
from huref.model.arch.weights import CanonicalWeights
from huref.model.finite import require_finite
from huref.model.written import require_distinct, require_written
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.projection import project_rows

PAPER_KINDS = ("qk", "vo", "ffn")
ATTENTION_KINDS = ("qk", "vo")
DUAL_KINDS = ("qk", "vo", "up_down")

Part = Literal["attention", "feed_forward"]
PARTS: tuple[Part, ...] = ("attention", "feed_forward")
"""Of a layer; each adds to the residual stream by itself."""


@dataclass(frozen=True)
class Bilinear:
    """A term that is linear in X on both sides: `M = (X left^T) (X right^T)^T`.

    Attributes:
        layer: index from 0.
        kind: one of the names in the module's docstring.
        left: (r, d), stored type.
        right: (r, d), stored type.
        left_gain: (d,) float32 that multiplies X on the left side, or None for ones.
        right_gain: likewise on the right side.
        inner: (r,) float32 weights of the r columns of `X left^T`, or None for ones.
    """

    layer: int
    kind: str
    left: Array
    right: Array
    left_gain: Floats | None = None
    right_gain: Floats | None = None
    inner: Floats | None = None

    @property
    def key(self) -> str:
        """`LAYER.KIND`."""
        return f"{self.layer}.{self.kind}"


def kinds_of(recipe: Recipe, is_gated: bool) -> tuple[str, ...]:
    """The terms a recipe takes from each layer, in their fixed order."""
    if not recipe.is_canonical:
        return PAPER_KINDS
    if recipe.is_dual:
        return DUAL_KINDS
    return ("qk", "vo", "gate_down" if is_gated else "up_down")


def token_embeddings(weights: CanonicalWeights, ids: np.ndarray, recipe: Recipe) -> Floats:
    """X: the embedding rows of the chosen tokens, (K, d) float32.

    Canonical: a LayerNorm's mean subtraction is a projection of the residual stream, applied here to X and
    so to both sides of every term.
    """
    X = float32(weights.embedding(ids))
    require_finite(X, "embedding", weights)
    require_written(X, "embedding", weights)
    if recipe.is_canonical and weights.architecture.norm == "layer":
        X = X - X.mean(axis=1, keepdims=True)
    if recipe.is_dual:
        X = _normed(X, weights)
        require_distinct(X, "embedding", weights)
    return X


def _normed(X: Floats, weights: CanonicalWeights) -> Floats:
    """As the first block sees them, where a LayerNorm of their own makes their size free (BLOOM)."""
    if "embedding_norm" not in weights:
        return X
    X = X - X.mean(axis=1, keepdims=True)
    X = X / np.maximum(np.sqrt(np.square(X).mean(axis=1, keepdims=True)), np.float32(1e-30))
    X = X * float32(weights.read("embedding_norm"))
    normed: Floats = X - X.mean(axis=1, keepdims=True)
    return normed


def centred(X: Floats) -> Floats:
    """X less its mean row. Every bilinear term of it has zero row and column means."""
    found: Floats = X - X.mean(axis=0, keepdims=True)
    return found


def bilinear(weights: CanonicalWeights, layer: int, kind: str, recipe: Recipe) -> Bilinear:
    """Read the matrices of one term. Only the tensors it uses are read."""
    if kind == "qk":
        return _qk(weights.attention(layer), layer, recipe)
    if kind == "vo":
        return _vo(weights.attention(layer), layer, recipe)
    gain = feed_forward_gain(weights, layer, recipe)
    down = weights.read(f"layers.{layer}.down")
    if kind == "gate_down":
        gate = _written(weights, f"layers.{layer}.gate")
        return Bilinear(layer, kind, gate, down.T, gain, inner=np.float32(1) / _column_norms(down))
    left = _written(weights, f"layers.{layer}.up")
    if kind == "ffn" and weights.architecture.gated:
        left = float32(left) * float32(_written(weights, f"layers.{layer}.gate"))
        gain = None if gain is None else gain**2
    return Bilinear(layer, kind, left, down.T, gain)


def _written(weights: CanonicalWeights, name: str) -> Array:
    matrix = weights.read(name)
    require_written(matrix, name, weights)
    return matrix


def has_part(weights: CanonicalWeights, layer: int, part: Part) -> bool:
    """Whether a layer has attention, or a feed-forward block: in hybrids some have not."""
    return weights.has(layer, "o" if part == "attention" else "down")


def layer_terms(weights: CanonicalWeights, layer: int, recipe: Recipe) -> list[Bilinear]:
    """Every term of one layer under the recipes canonical and paper; the attention matrices are read once.

    Raises:
        ArchitectureError: the layer lacks attention or a feed-forward block.
    """
    for part in PARTS:
        if not has_part(weights, layer, part):
            raise ArchitectureError(
                f"layer {layer} has no {part.replace('_', '-')} block to read, and this recipe takes both of a layer",
                where=weights.checkpoint.reference,
                next_step="use the recipe canonical-2, which takes the last layers that have one",
            )
    return [term for part in PARTS for term in part_terms(weights, layer, part, recipe)]


def part_terms(weights: CanonicalWeights, layer: int, part: Part, recipe: Recipe) -> list[Bilinear]:
    """The terms of attention, or the one of the feed-forward block."""
    if part == "feed_forward":
        return [bilinear(weights, layer, kinds_of(recipe, weights.architecture.gated)[-1], recipe)]
    attention = weights.attention(layer)
    for name, matrix in (("q", attention.Wq), ("k", attention.Wk), ("v", attention.Wv)):
        require_written(matrix, f"layers.{layer}.{name}", weights)
    return [_qk(attention, layer, recipe), _vo(attention, layer, recipe)]


def sketch_term(term: Bilinear, S1X: Floats, S2X: Floats) -> Floats:
    """`S1 M S2^T` without M: (m, m) float32, from S1 X and S2 X, each (m, d).

    Exact float32 throughout: the products are small beside reading the weights.
    """
    U = scaled(project_rows(scaled(S1X, term.left_gain), term.left), term.inner)
    V = project_rows(scaled(S2X, term.right_gain), term.right)
    sketch: Floats = U @ V.T
    return sketch


def feed_forward_gain(weights: CanonicalWeights, layer: int, recipe: Recipe) -> Floats | None:
    """The input gain of the feed-forward part, or None where the recipe or the architecture has none to fold in."""
    name = f"layers.{layer}.feed_forward_norm"
    if not recipe.is_canonical or name not in weights or weights.architecture.norm_after_residual:
        return None
    return float32(weights.read(name))


def scaled(rows: Floats, gain: Floats | None) -> Floats:
    """Each row times a gain; None stands for ones."""
    return rows if gain is None else rows * gain


def _qk(attention: Attention, layer: int, recipe: Recipe) -> Bilinear:
    Wq, Wk = attention.Wq, attention.Wk
    if recipe.is_canonical:
        Wq = _with_head_gain(Wq, attention.q_gain, attention.gain)
        Wk = _with_head_gain(Wk, attention.k_gain, attention.gain)
    left = _rows(_sum_heads(Wq, Wk.shape[0]))
    gain = float32(attention.gain) if recipe.is_canonical and attention.gain is not None else None
    return Bilinear(layer, "qk", left, _rows(Wk), gain, gain)


def _vo(attention: Attention, layer: int, recipe: Recipe) -> Bilinear:
    Wv = attention.Wv
    right = _rows(_sum_heads(attention.Wo.transpose(0, 2, 1), Wv.shape[0]))
    gain = float32(attention.gain) if recipe.is_canonical and attention.gain is not None else None
    return Bilinear(layer, "vo", _rows(Wv), right, gain)


def _sum_heads(per_head: Array, n_groups: int) -> Array:
    """(h, e, d) -> (g, e, d): query heads that share a KV head are summed, in float32."""
    n_heads = per_head.shape[0]
    if n_heads == n_groups:
        return per_head
    grouped = per_head.reshape(n_groups, n_heads // n_groups, *per_head.shape[1:])
    summed: Array = grouped.sum(1, dtype=np.float32)
    return summed


def _with_head_gain(per_head: Array, head_gain: Array | None, gain: Array | None) -> Array:
    """Fold a query or key norm: it undoes the scale of what it spans (a head, or all), then its gain acts.

    The scale is that of the matrix with the input gain folded in, so that absorbing the gain changes nothing.
    """
    if head_gain is None:
        return per_head
    matrix = float32(per_head)
    effective = matrix if gain is None else matrix * float32(gain)
    is_per_head = head_gain.size == matrix.shape[1]
    squares = np.square(effective).sum(axis=(1, 2) if is_per_head else None, keepdims=True)
    scale = np.maximum(np.sqrt(squares), np.float32(1e-30))
    folded: Array = matrix / scale * float32(head_gain).reshape(-1, matrix.shape[1], 1)
    return folded


def _column_norms(matrix: Array) -> Floats:
    """(f,) Euclidean lengths of the columns of (d, f), converted a block of rows at a time."""
    squares = np.zeros(matrix.shape[1], np.float32)
    for start in range(0, matrix.shape[0], 256):
        squares += np.square(float32(matrix[start : start + 256])).sum(0)
    return np.maximum(np.sqrt(squares), np.float32(1e-30))


def _rows(per_head: Array) -> Array:
    """(h, e, d) -> (h e, d)."""
    return per_head.reshape(-1, per_head.shape[-1])
