"""Cosine of two arrays."""

from __future__ import annotations

import numpy as np


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Cosine of two arrays of equal shape, flattened, in double precision; 0 when either is zero."""
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else 0.0
