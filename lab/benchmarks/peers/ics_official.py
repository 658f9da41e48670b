"""HuRef's invariant terms' cosine similarity, by its formula in plain numpy and float64.

HuRef (NeurIPS 2024, arXiv 2312.04828), section 4: of the last two layers, with X the raw embeddings of the rarest
4096 tokens, `X Wq^T Wk X^T`, `X Wv^T Wo^T X^T` and `X (gate * up)^T down^T X^T`, each standardised; the ICS is the
cosine of the six together. Re-implemented. Where the official code cannot go, the kindest reading is taken: query
heads meet the key and value head of their own group, and models of different vocabularies are compared over the
strings that both have (the official lists of tokens are one for each vocabulary, and rows would not match). Rarity is
by the tokenizer's own order, as in `lab/benchmarks/parity.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from huref.model.arch.weights import CanonicalWeights
from huref.model.model import open_model
from huref.model.tokens import Vocabulary, rarest, shared
from huref.numerics.arrays import float32

NAME = "ICS official"
SOURCE = "HuRef, NeurIPS 2024, arXiv 2312.04828; re-implemented from the paper"
K = 4096


@dataclass
class State:
    """One model: its embedding rows and the sides of its six terms; `M = (X left^T) (X right^T)^T`."""

    vocabulary: Vocabulary
    embedding: np.ndarray
    sides: list[tuple[np.ndarray, np.ndarray]]
    own: list[Term] = field(default_factory=list)


@dataclass
class Term:
    """`M = U V^T`, (K, K), by its factors: what `cosine` needs of it alone."""

    U: np.ndarray
    V: np.ndarray

    def __post_init__(self) -> None:
        self.mean = float(self.U.sum(0) @ self.V.sum(0)) / len(self.U) ** 2
        self.spread = max(0.0, inner(self, self) / len(self.U) ** 2 - self.mean**2) ** 0.5


def prepare(path: Path) -> State:
    """Read the last two layers."""
    model = open_model(path)
    with model.weights.checkpoint:
        weights, n_layers = model.weights, model.weights.geometry.n_layers
        layers = range(max(0, n_layers - 2), n_layers)
        sides = [side for layer in layers for side in layer_sides(weights, layer)]
        state = State(model.vocabulary, float32(weights.embedding()), sides)
        state.own = terms(state, rarest(model.vocabulary, None, K, model.n_rows).ids)
    return state


def layer_sides(weights: CanonicalWeights, layer: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two sides of QK, VO and FFN, each (r, d) float64; raw weights, no gain, no bias."""
    attention, block = weights.attention(layer), weights.feed_forward(layer)
    per_group = attention.Wq.shape[0] // attention.Wk.shape[0]

    def grouped(heads: np.ndarray) -> np.ndarray:
        """Query heads (h, e, d) of one group are summed: they meet the same key."""
        return heads.reshape(-1, per_group, *heads.shape[1:]).sum(1).reshape(-1, heads.shape[2])

    q, k, v, o = (t.astype(np.float64) for t in (attention.Wq, attention.Wk, attention.Wv, attention.Wo))
    up, down = block.up.astype(np.float64), block.down.astype(np.float64)
    first = up if block.gate is None else up * block.gate.astype(np.float64)
    d = k.shape[2]
    return [
        (grouped(q), k.reshape(-1, d)),
        (v.reshape(-1, d), grouped(o.transpose(0, 2, 1))),
        (first, down.T),
    ]


def terms(state: State, ids: np.ndarray) -> list[Term]:
    """The six terms over some tokens."""
    X = state.embedding[ids].astype(np.float64)
    return [Term(X @ left.T, X @ right.T) for left, right in state.sides]


def compare(a: State, b: State) -> float:
    """Cosine of the standardised terms, all together."""
    if len(a.sides) != len(b.sides):
        raise ValueError(f"{len(a.sides)} terms against {len(b.sides)}")
    if a.vocabulary.digest == b.vocabulary.digest and len(a.own[0].U) == len(b.own[0].U):
        pairs = zip(a.own, b.own, strict=True)
    else:
        tokens = shared(a.vocabulary, b.vocabulary, K, (len(a.embedding), len(b.embedding)))
        pairs = zip(terms(a, tokens[0].ids), terms(b, tokens[1].ids), strict=True)
    return float(np.mean([correlation(left, right) for left, right in pairs]))


def correlation(a: Term, b: Term) -> float:
    """Inner product of the standardised matrices over K^2."""
    if not a.spread or not b.spread:
        raise ValueError("a term that is zero cannot be standardised")
    return (inner(a, b) / len(a.U) ** 2 - a.mean * b.mean) / (a.spread * b.spread)


def inner(a: Term, b: Term) -> float:
    """`<M_a, M_b>` without either: the sum of `(U_a^T U_b) * (V_a^T V_b)`."""
    return float(((a.U.T @ b.U) * (a.V.T @ b.V)).sum())
