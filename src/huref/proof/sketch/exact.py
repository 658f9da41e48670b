"""Exact sketches of committed integers, and the numbers of a fingerprint that follow: proof-v1, (1) and section 9."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from huref.fingerprints.sketch import project, slots_of, unit_rms
from huref.proof.arithmetic.field import matmul
from huref.proof.files.layout import EMBEDDING, Layout, Term


def embedding(layout: Layout, rows: np.ndarray) -> np.ndarray:
    """X (K, d) of all committed rows (N, d)."""
    return matrix(layout, rows, EMBEDDING)


def matrix(layout: Layout, rows: np.ndarray, name: str) -> np.ndarray:
    """One matrix of all committed rows; a view."""
    start = layout.start(name)
    return rows[start : start + layout.rows(name)]


def factor(layout: Layout, rows: np.ndarray, term: Term, side: int) -> np.ndarray:
    """L_t (side 0) or R_t (side 1), (r, d): int16, or int64 where heads are summed."""
    whole = matrix(layout, rows, (term.left, term.right)[side])
    groups = term.groups[side]
    if groups == 1:
        return whole
    per_head = whole.reshape(-1, groups, term.head_dim, whole.shape[1])
    summed: np.ndarray = per_head.sum(axis=1, dtype=np.int64)
    return summed.reshape(-1, whole.shape[1])


def exact_sketches(layout: Layout, rows: np.ndarray, signs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """`Y_t = S1' X L_t^T R_t X^T S2'^T` over the integers: (m, m) objects by key, in the order of the terms."""
    X = embedding(layout, rows)
    first, second = (matmul(side, X) for side in signs)
    return {
        term.key: matmul(
            np.ascontiguousarray(matmul(factor(layout, rows, term, 0), first.T.copy()).T),
            matmul(factor(layout, rows, term, 1), second.T.copy()),
        )
        for term in layout.terms
    }


def float_sketches(exact: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sketches as a fingerprint has them: float32, root mean square 1."""
    return {key: unit_rms(_floats(Y)) for key, Y in exact.items()}


def vector_of(layout: Layout, exact: Mapping[str, np.ndarray]) -> np.ndarray:
    """The 512 numbers of a fingerprint."""
    slots = slots_of(exact, layout.n_layers, is_dual=layout.recipe.is_dual)
    return project(float_sketches(exact), slots, layout.recipe.seed)


def bilinear_value(Y: np.ndarray, left: np.ndarray, right: np.ndarray) -> int:
    """`left^T Y right` for field elements; not reduced."""
    return int(left @ (Y @ right))


def _floats(Y: np.ndarray) -> np.ndarray:
    """Integers in float64, each rounded once."""
    return np.array([float(value) for value in Y.ravel().tolist()]).reshape(Y.shape)
