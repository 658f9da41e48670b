"""AWM: align the hidden dimensions by the embeddings, then unbiased linear CKA of query and key matrices.

AWM (ICLR 2026, arXiv 2510.06738), re-implemented from the paper: the embeddings of the tokens that both vocabularies
hold give a cosine of every hidden dimension of A with every one of B; a linear assignment on its magnitude gives a
permutation, and the cosines' signs give the flips. Wq and Wk of A are carried over by it, and each is compared with
B's by unbiased CKA, hidden dimensions being the samples. The score is the mean over layers and over both; layers are
matched by assignment where the depths differ. Weights are as stored: norm gains are not folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from huref.model.model import open_model
from huref.model.tokens import Vocabulary, shared
from huref.numerics.arrays import float32

NAME = "AWM"
SOURCE = "ICLR 2026, arXiv 2510.06738; re-implemented from the paper"


@dataclass
class State:
    """One model: embedding (V, d), and `W^T W` of each layer's Wq and Wk, (2, L, d, d) float32."""

    vocabulary: Vocabulary
    embedding: np.ndarray
    grams: np.ndarray


def prepare(path: Path) -> State:
    """Read the embedding, and every layer's query and key matrices."""
    model = open_model(path)
    with model.weights.checkpoint:
        weights = model.weights
        grams = []
        for layer in range(weights.geometry.n_layers):
            attention = weights.attention(layer)
            pair = (float32(W).reshape(-1, W.shape[-1]) for W in (attention.Wq, attention.Wk))
            grams.append([W.T @ W for W in pair])
        embedding = float32(weights.embedding())
    return State(model.vocabulary, embedding, np.stack(grams, axis=1))


def compare(a: State, b: State) -> float:
    """Mean unbiased CKA of the matched layers."""
    rows_a, rows_b, signs = hidden_map(a, b)
    left = a.grams[:, :, rows_a[:, None], rows_a[None, :]] * (signs[:, None] * signs[None, :])
    right = b.grams[:, :, rows_b[:, None], rows_b[None, :]]
    table = np.mean([unbiased_cka(left[kind], right[kind]) for kind in range(2)], axis=0)
    if table.shape[0] == table.shape[1]:
        return float(np.trace(table) / len(table))
    layers = linear_sum_assignment(-table)
    return float(table[layers].mean())


def hidden_map(a: State, b: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matched hidden dimensions of A and of B, and the sign of each match."""
    tokens = shared(a.vocabulary, b.vocabulary, 1 << 30, (len(a.embedding), len(b.embedding)))
    columns = [normalised(s.embedding[t.ids]) for s, t in zip((a, b), tokens, strict=True)]
    cosine = columns[0].T @ columns[1]
    rows_a, rows_b = linear_sum_assignment(-np.abs(cosine))
    signs = np.where(cosine[rows_a, rows_b] < 0, -1.0, 1.0).astype(np.float32)
    return rows_a, rows_b, signs


def normalised(embedding: np.ndarray) -> np.ndarray:
    """Columns, one for each hidden dimension, at unit length."""
    lengths = np.linalg.norm(embedding, axis=0, keepdims=True)
    return embedding / np.maximum(lengths, 1e-30)


def unbiased_cka(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unbiased linear CKA of every matrix of `a` (L, n, n) with every one of `b` (M, n, n): (L, M)."""
    cross, own_a, own_b = hsic(a, b), hsic_own(a), hsic_own(b)
    scale = np.sqrt(np.maximum(own_a, 1e-300))[:, None] * np.sqrt(np.maximum(own_b, 1e-300))[None, :]
    return cross / scale


def hsic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The unbiased HSIC estimator (Song et al., JMLR 2012, equation 5), up to its common factor n (n - 3)."""
    K, M = hollow(a), hollow(b)
    n = K.shape[1]
    sums = K.sum((1, 2))[:, None] * M.sum((1, 2))[None, :] / ((n - 1) * (n - 2))
    rows = K.sum(1) @ M.sum(1).T * (2.0 / (n - 2))
    return K.reshape(len(K), -1) @ M.reshape(len(M), -1).T + sums - rows


def hsic_own(a: np.ndarray) -> np.ndarray:
    """`hsic` of every matrix with itself: (L,)."""
    return np.array([hsic(matrix[None], matrix[None])[0, 0] for matrix in a])


def hollow(grams: np.ndarray) -> np.ndarray:
    """Float64 without the diagonal."""
    found = grams.astype(np.float64)
    index = np.arange(found.shape[1])
    found[:, index, index] = 0.0
    return found
