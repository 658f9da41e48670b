"""The official mean pooling, without forming a K x K matrix.

The official code stacks the six raw terms into (6, K, K), views them as (512, -1) and averages: with K rows a
term, each number is the mean of 6 K / 512 whole rows (48 for K = 4096), and bands may straddle two terms. A
row mean of `M = (X left^T) (X right^T)^T` is `X left^T right mean(X)`, so the cost is O(K d + d r).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from huref.choices import option
from huref.errors import UsageError
from huref.fingerprints.record import VECTOR_LENGTH
from huref.fingerprints.terms import Bilinear
from huref.numerics.arrays import Floats, float32

TOKEN_MULTIPLE = 256
"""Six terms of K rows fall into 512 bands of whole rows when K is a multiple of 256."""


def mean_pooling(terms: Sequence[Bilinear], X: Floats) -> np.ndarray:
    """The official vector of six terms, in the official order: (qk, vo, ffn) of each layer in turn.

    Args:
        terms: with ones for gains, as the paper recipe gives them.
        X: (K, d) float32 embeddings, K a multiple of 256.

    Returns:
        (512,) float32, mean 0 and standard deviation 1 (n - 1 in the denominator, as torch.std).

    Raises:
        UsageError: the rows do not fall into 512 equal bands.
    """
    n_rows = len(terms) * X.shape[0]
    if n_rows % VECTOR_LENGTH:
        raise UsageError(
            "mean pooling needs rows that fall into 512 equal bands",
            where=option("encoder"),
            expected="number of terms times number of tokens a multiple of 512",
            got=f"{len(terms)} terms of {X.shape[0]} tokens",
            next_step="use two or more layers and a multiple of 256 tokens, or --encoder sketch",
        )
    means = np.concatenate([row_means(term, X) for term in terms]).astype(np.float64)
    bands = means.reshape(VECTOR_LENGTH, -1).mean(axis=1)
    return float32((bands - bands.mean()) / bands.std(ddof=1))


def row_means(term: Bilinear, X: Floats) -> Floats:
    """(K,) means of the rows of one term."""
    right = float32(term.right) @ X.mean(axis=0)
    means: Floats = X @ (float32(term.left).T @ right)
    return means
