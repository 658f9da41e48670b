"""The map between two residual streams, estimated from what both models have.

Whoever turns a residual stream turns its embeddings with it, so the rows of tokens that both vocabularies have give
the turn away: the orthogonal matrix that carries one set of rows nearest to the other (Procrustes; Schoenemann 1966),
rectangular where widths differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from huref.errors import TokenizerError
from huref.model.finite import require_finite
from huref.model.model import Model
from huref.model.tokens import shared
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.rows import inner_product


@dataclass(frozen=True)
class ResidualMap:
    """A map from A's residual stream into B's.

    Attributes:
        R: (d_a, d_b) float32 with orthonormal rows or columns; None for the identity.
        method: `identity`, `embeddings` or `weights`.
        shared_tokens: token strings that the map rests on; 0 where it rests on none.
        quality: cosine of the two sets of embedding rows after the map; None where there are none.
    """

    R: Floats | None
    method: str
    shared_tokens: int = 0
    quality: float | None = None

    def forward(self, rows: Floats) -> Floats:
        """Rows (..., d_a) carried into B's stream."""
        return rows if self.R is None else rows @ self.R

    def backward(self, rows: Floats) -> Floats:
        """Rows (..., d_b) carried into A's stream."""
        return rows if self.R is None else rows @ self.R.T


@dataclass(frozen=True)
class SharedRows:
    """Rows of the token strings that two vocabularies share, centred: (K, d_a) and (K, d_b).

    Attributes:
        A, B: embedding rows, with unembedding rows below them where both models have their own.
        n_tokens: K.
    """

    A: Floats
    B: Floats
    n_tokens: int


def shared_rows(a: Model, b: Model, n_tokens: int | None = None) -> SharedRows | None:
    """What both models say of the tokens they share; None where they share too few.

    Args:
        n_tokens: at most so many; None takes four times the greater width, 4,096 at least.
    """
    width = max(a.weights.geometry.d_model, b.weights.geometry.d_model)
    try:
        tokens = shared(a.vocabulary, b.vocabulary, n_tokens or max(4096, 4 * width), (a.n_rows, b.n_rows))
    except TokenizerError:
        return None
    sides = []
    has_outputs = all("unembedding" in m.weights and not m.weights.architecture.is_tied for m in (a, b))
    for model, chosen in zip((a, b), tokens, strict=True):
        rows = [_prepared(model, float32(model.weights.embedding(chosen.ids)))]
        if has_outputs:
            rows.append(_prepared(model, _unembedding(model, chosen.ids)))
        sides.append(np.concatenate(rows))
    return SharedRows(sides[0], sides[1], len(tokens[0]))


def identity_map(rows: SharedRows | None) -> ResidualMap:
    """The two streams taken as one, of equal width."""
    return ResidualMap(
        None, "identity", 0 if rows is None else rows.n_tokens, None if rows is None else _cosine(rows.A, rows.B)
    )


def procrustes_map(rows: SharedRows) -> ResidualMap:
    """The orthogonal map that carries A's rows nearest to B's."""
    R = polar(rows.A.T @ rows.B)
    return ResidualMap(R, "embeddings", rows.n_tokens, _cosine(rows.A @ R, rows.B))


def polar(C: Array) -> Array:
    """The nearest matrix with orthonormal rows or columns, (m, n): U V^T of the singular value decomposition."""
    U, _, Vh = np.linalg.svd(C, full_matrices=False)
    R: Array = U @ Vh
    return R


def _prepared(model: Model, rows: Floats) -> Floats:
    """Centred over tokens, projected for a LayerNorm, and of Frobenius norm 1."""
    require_finite(rows, "embedding", model.weights)
    if model.weights.architecture.norm == "layer":
        rows = rows - float32(rows.mean(axis=1, keepdims=True, dtype=np.float64))
    centred = rows - float32(rows.mean(axis=0, dtype=np.float64))
    centred *= np.float32(1 / max(_length(centred), 1e-30))
    return centred


def _unembedding(model: Model, ids: np.ndarray) -> Floats:
    """Rows of the output matrix with the final norm's gain folded in."""
    weights = model.weights
    rows = float32(weights.read("unembedding", ids))
    if "project_out" in weights:
        rows = rows @ float32(weights.read("project_out"))
    if "final_norm" in weights and not weights.architecture.norm_after_residual:
        rows = rows * float32(weights.read("final_norm"))
    return rows


def _length(rows: Floats) -> float:
    return math.sqrt(inner_product(rows, rows))


def _cosine(left: Floats, right: Floats) -> float:
    scale = _length(left) * _length(right)
    return inner_product(left, right) / scale if scale else 0.0
