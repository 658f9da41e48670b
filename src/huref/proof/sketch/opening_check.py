"""Whether integers and blindings open points: one random combination of all rows, so that no flipped bit gets by."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import combine, powers, random_scalar
from huref.proof.arithmetic.parallel import decode_many_points


def opens(points: bytes, blocks: Iterable[np.ndarray], blindings: np.ndarray) -> bool:
    """Whether every row opens its point; a wrong one gets by with probability below N / p.

    Args:
        points: N encoded points.
        blocks: (n_i, d) integers each, N rows in all.
        blindings: (N,) objects.
    """
    weights, start = powers(random_scalar(), blindings.size, first=1), 0
    vector: np.ndarray | int = 0
    for block in blocks:
        vector = vector + combine(weights[start : start + len(block)], block)
        start += len(block)
    equations = PointEquations()
    first = equations.extend(decode_many_points(points, "commitment"))
    equations.require(
        np.asarray(vector, dtype=object), int((weights * blindings).sum()), Combination(((first, weights),))
    )
    return equations.hold()
