"""Invariant terms as the K x K matrices that define them, in float64, and what huref's compact forms stand for."""

from __future__ import annotations

import numpy as np

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.residual import Frame, ResidualTerm, RotationProofTerm
from huref.fingerprints.terms import Bilinear, bilinear, token_embeddings


def dense(term: Bilinear, X: np.ndarray) -> np.ndarray:
    """`((X g) left^T inner) ((X h) right^T)^T`: (K, K)."""
    rows = X.astype(np.float64)
    U = _times(rows, term.left_gain) @ term.left.astype(np.float64).T
    V = _times(rows, term.right_gain) @ term.right.astype(np.float64).T
    return _times(U, term.inner) @ V.T


def rotation_proof(X: np.ndarray, gain: np.ndarray | None, *parts: np.ndarray) -> np.ndarray:
    """`(((X g) gate^T) * ((X g) up^T)) down^T X^T` with rows and columns of mean zero, of gate, up, down: (K, K)."""
    rows = X.astype(np.float64)
    gate, up, down = (part.astype(np.float64) for part in parts)
    U = (_times(rows, gain) @ gate.T) * (_times(rows, gain) @ up.T)
    return doubly_centred(U @ down.T @ rows.T)


def doubly_centred(M: np.ndarray) -> np.ndarray:
    """Rows and columns of mean zero."""
    return M - M.mean(0) - M.mean(1)[:, None] + M.mean()


def correlation(A: np.ndarray, B: np.ndarray) -> float:
    """numpy's, over all entries."""
    return float(np.corrcoef(A.ravel(), B.ravel())[0, 1])


def directions(frame: Frame) -> np.ndarray:
    """Q: (K, n) float64."""
    span = np.eye(frame.n_tokens) if frame.span is None else frame.span.astype(np.float64)
    return span if frame.inverse is None else span @ frame.inverse


def stood_for(term: ResidualTerm | RotationProofTerm, frame: Frame) -> np.ndarray:
    """The matrix that a compact term stands for, less the mean of its entries: (K, K) float64."""
    Q = directions(frame)
    if isinstance(term, RotationProofTerm):
        return term.W.astype(np.float64) @ Q.T
    T = term.U.astype(np.float64) if term.V is None else term.U.astype(np.float64) @ term.V.astype(np.float64).T
    return Q @ T @ Q.T + (Q @ term.a)[:, None] + Q @ term.b


def compact(
    weights: object, layer: int, kind: str, ids: np.ndarray, recipe: Recipe
) -> tuple[ResidualTerm | RotationProofTerm, Frame]:
    """One term of a model as huref compares it, and the frame it is seen from."""
    X = token_embeddings(weights, ids, recipe)  # type: ignore[arg-type]
    frame = Frame.of(X, is_centred=recipe.is_canonical)
    if kind == "ffn_exact":
        return RotationProofTerm.of(weights, layer, X, frame, recipe), frame  # type: ignore[arg-type]
    return ResidualTerm.of(bilinear(weights, layer, kind, recipe), frame), frame  # type: ignore[arg-type]


def correlation_of_factors(*sides: tuple[np.ndarray, np.ndarray]) -> float:
    """What huref says of two matrices `U V^T`, U and V (K, r) being the embedding of the K tokens."""
    frames, terms = [], []
    for U, V in sides:
        left, right = np.split(np.eye(U.shape[1] + V.shape[1], dtype=np.float32), [U.shape[1]])
        frames.append(Frame.of(np.concatenate([U, V], axis=1, dtype=np.float32, casting="same_kind")))
        terms.append(ResidualTerm.of(Bilinear(0, "qk", left, right), frames[-1]))
    return terms[0].correlation(terms[1], frames[0].cosines(frames[1]))


def likeness(a: object, b: object, layer: int, kind: str, ids: np.ndarray, recipe: Recipe) -> float:
    """What huref says of one term of two models."""
    (left, frame), (right, other) = (compact(weights, layer, kind, ids, recipe) for weights in (a, b))
    return left.correlation(right, frame.cosines(other))  # type: ignore[arg-type]


def _times(rows: np.ndarray, gain: np.ndarray | None) -> np.ndarray:
    return rows if gain is None else rows * gain.astype(np.float64)
