"""The map between two residual streams, estimated from what both models have.

Whoever turns a residual stream turns its embeddings with it, so the rows of tokens that both vocabularies have give
the turn away: the orthogonal matrix that carries one set of rows nearest to the other (Procrustes; Schoenemann 1966),
rectangular where widths differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from huref.errors import TokenizerError
from huref.model.finite import require_finite
from huref.model.model import Model
from huref.model.tokens import shared
from huref.numerics.tensors import float_tensor


@dataclass(frozen=True)
class ResidualMap:
    """A map from A's residual stream into B's.

    Attributes:
        R: (d_a, d_b) float32 with orthonormal rows or columns; None for the identity.
        method: `identity`, `embeddings` or `weights`.
        shared_tokens: token strings that the map rests on; 0 where it rests on none.
        quality: cosine of the two sets of embedding rows after the map; None where there are none.
    """

    R: Tensor | None
    method: str
    shared_tokens: int = 0
    quality: float | None = None

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (..., d_a) carried into B's stream."""
        return rows if self.R is None else rows @ self.R

    def backward(self, rows: Tensor) -> Tensor:
        """Rows (..., d_b) carried into A's stream."""
        return rows if self.R is None else rows @ self.R.T


@dataclass(frozen=True)
class SharedRows:
    """Rows of the token strings that two vocabularies share, centred: (K, d_a) and (K, d_b).

    Attributes:
        A, B: embedding rows, with unembedding rows below them where both models have their own.
        n_tokens: K.
    """

    A: Tensor
    B: Tensor
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
        rows = [_prepared(model, float_tensor(model.weights.embedding(chosen.ids)))]
        if has_outputs:
            rows.append(_prepared(model, _unembedding(model, chosen.ids)))
        sides.append(torch.cat(rows))
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


def polar(C: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, (m, n): U V^T of the singular value decomposition."""
    U, _, Vh = torch.linalg.svd(C, full_matrices=False)
    R: Tensor = U @ Vh
    return R


def _prepared(model: Model, rows: Tensor) -> Tensor:
    """Centred over tokens, projected for a LayerNorm, and of Frobenius norm 1."""
    require_finite(rows.numpy(), "embedding", model.weights)
    if model.weights.architecture.norm == "layer":
        rows = rows - rows.mean(dim=1, keepdim=True)
    centred = rows - rows.mean(dim=0, keepdim=True)
    scaled: Tensor = centred / centred.norm().clamp_min(1e-30)
    return scaled


def _unembedding(model: Model, ids: np.ndarray) -> Tensor:
    """Rows of the output matrix with the final norm's gain folded in."""
    weights = model.weights
    rows = float_tensor(weights.read("unembedding", ids))
    if "project_out" in weights:
        rows = rows @ float_tensor(weights.read("project_out"))
    if "final_norm" in weights and not weights.architecture.norm_after_residual:
        rows = rows * float_tensor(weights.read("final_norm"))
    return rows


def _cosine(left: Tensor, right: Tensor) -> float:
    scale = float(left.norm() * right.norm())
    return float((left * right).sum()) / scale if scale else 0.0
