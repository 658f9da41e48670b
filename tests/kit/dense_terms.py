"""Invariant terms as the K x K matrices that define them, in float64, and what huref's compact forms stand for."""

from __future__ import annotations

import numpy as np

from huref.fingerprints.dual_terms import see
from huref.fingerprints.recipe import RIDGE, Recipe
from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.terms import ATTENTION_KINDS, Bilinear, bilinear, token_embeddings


def dense(term: Bilinear, X: np.ndarray) -> np.ndarray:
    """`((X g) left^T inner) ((X h) right^T)^T`: (K, K)."""
    rows = X.astype(np.float64)
    U = _times(rows, term.left_gain) @ term.left.astype(np.float64).T
    V = _times(rows, term.right_gain) @ term.right.astype(np.float64).T
    return _times(U, term.inner) @ V.T


def dual(X: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """`D = X (X^T X + lambda I)^-1` of the centred rows: (K, d) float64."""
    rows = X.astype(np.float64)
    rows = rows - rows.mean(0)
    G = rows.T @ rows
    D: np.ndarray = np.linalg.solve(G + ridge * np.trace(G) / len(G) * np.eye(len(G)), rows.T).T
    return D


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


def stood_for(term: ResidualTerm, frame: Frame) -> np.ndarray:
    """The matrix that a compact term stands for, less the mean of its entries: (K, K) float64."""
    Q = directions(frame)
    T = term.U.astype(np.float64) if term.V is None else term.U.astype(np.float64) @ term.V.astype(np.float64).T
    return Q @ T @ Q.T + (Q @ term.a)[:, None] + Q @ term.b


def compact(weights: object, layer: int, kind: str, ids: np.ndarray, recipe: Recipe) -> tuple[ResidualTerm, Frame]:
    """One term of a model as huref compares it, and the frame it is seen from."""
    X = token_embeddings(weights, ids, recipe)  # type: ignore[arg-type]
    frame = Frame.of(X, is_centred=recipe.is_canonical, ridge=RIDGE if recipe.is_dual else None)
    if recipe.is_dual:
        part = "attention" if kind in ATTENTION_KINDS else "feed_forward"
        U, V = see(weights, layer, part, frame.R, frame.R).terms[kind]  # type: ignore[arg-type]
        return ResidualTerm.of_sides(U, V, frame.n_tokens), frame
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
    return left.correlation(right, frame.cosines(other))


def _times(rows: np.ndarray, gain: np.ndarray | None) -> np.ndarray:
    return rows if gain is None else rows * gain.astype(np.float64)
