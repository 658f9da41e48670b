"""PDF: do the standard deviations of the attention matrices run alike over the layers?

"Intrinsic Fingerprint of LLMs" (arXiv 2507.03014), the method of the Pangu dispute, re-implemented from its
description: the standard deviation of all entries of Wq, Wk, Wv and Wo, layer by layer, gives four curves a model,
each normalised over its layers; the score is the mean over the four of the curves' Pearson correlation. Where depths
differ, both curves are drawn over relative depth and read at as many points as the deeper model has layers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from huref.model.model import open_model

NAME = "PDF"
SOURCE = "arXiv 2507.03014 (intrinsic fingerprint); re-implemented from the paper"


def prepare(path: Path) -> np.ndarray:
    """(4, L) standard deviations."""
    model = open_model(path)
    with model.weights.checkpoint:
        layers = [model.weights.attention(layer) for layer in range(model.weights.geometry.n_layers)]
        return np.array(
            [[float(getattr(x, W).astype(np.float64).std(ddof=1)) for x in layers] for W in ("Wq", "Wk", "Wv", "Wo")]
        )


def compare(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Pearson correlation of the four curves."""
    n = max(a.shape[1], b.shape[1])
    if min(a.shape[1], b.shape[1]) < 3:
        raise ValueError("two layers or fewer: every two curves correlate perfectly")
    pairs = [(standardised(stretched(x, n)), standardised(stretched(y, n))) for x, y in zip(a, b, strict=True)]
    return float(np.mean([np.mean(x * y) for x, y in pairs]))


def stretched(curve: np.ndarray, n: int) -> np.ndarray:
    """A curve read at n points of relative depth."""
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(curve)), curve)


def standardised(curve: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    spread = curve.std()
    if spread == 0:
        raise ValueError("a curve that does not vary")
    return (curve - curve.mean()) / spread
