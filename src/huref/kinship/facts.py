"""What two opened models are made of, besides their neurons: sizes, vocabularies, rows of tokens that were added."""

from __future__ import annotations

import numpy as np

from huref.kinship.conclusion import Known
from huref.kinship.verdict.decision import Side
from huref.model.model import Model
from huref.numerics.arrays import float32

_SEEN_ROWS, _NEAR = 2048, 0.02
"""Embedding rows that are looked at; square distance from the mean row, beside the usual one, of rows that are it."""


def known_of(a: Model, b: Model) -> Known:
    """Of A and B."""
    return Known(_side(a), _side(b), _vocabularies(a, b), _added_rows(a, b))


def _side(model: Model) -> Side:
    g = model.weights.geometry
    n_experts = model.weights.architecture.n_experts
    return Side(model.name, g.n_layers, g.d_model, g.d_ff, g.n_heads, g.vocab_size, n_experts)


def _vocabularies(a: Model, b: Model) -> str:
    if a.vocabulary.digest == b.vocabulary.digest:
        return "same"
    left, right = (frozenset(model.vocabulary.tokens) - {None} for model in (a, b))
    if left == right:
        return "same"
    return "extended" if left < right else "reduced" if right < left else "other"


def _added_rows(a: Model, b: Model) -> str:
    """What the embedding rows of the tokens show that only one of two has: `zero`, `average`, or nothing.

    Rows that are merely alike show nothing: so are those of tokens that no training met, which trimming takes out.
    """
    kind = _vocabularies(a, b)
    if kind not in ("extended", "reduced"):
        return ""
    longer, shorter = (b, a) if kind == "extended" else (a, b)
    known = frozenset(shorter.vocabulary.tokens)
    ids = [i for i, token in enumerate(longer.vocabulary.tokens) if token is not None and token not in known]
    rows = float32(longer.weights.embedding(np.array([i for i in ids if i < longer.n_rows][:_SEEN_ROWS], np.int64)))
    if not len(rows):
        return ""
    if not rows.any():
        return "zero"
    places = np.unique(np.linspace(0, longer.n_rows - 1, min(longer.n_rows, _SEEN_ROWS)).astype(np.int64))
    usual = float32(longer.weights.embedding(places))
    centre = usual.mean(axis=0)
    spread, distance = (float(np.square(each - centre).sum(axis=1).mean()) for each in (usual, rows))
    return "average" if distance < _NEAR * spread else ""
