"""The aligned score: two layers' operators compared weight by weight, after the map between the residual streams.

Four operators on the residual stream, each a sum over heads or neurons and so free of their order
(docs/explanation/method.md; the idea of comparing after alignment is AWM's, arXiv 2510.06738, and its map is more
general here):

    qk         sum of q_h^T k_h        vo        sum of v_h^T o_h
    up_down    sum of u_i^T d_i        gate_down sum of g_i^T d_i, of unit rows

The score of a kind is the cosine of the two operators as d x d matrices, less their multiples of the identity. If
the map were a uniformly random rotation its mean would be 0 exactly, and its standard deviation at most
sqrt(2) / (d - 1): the traceless symmetric and the antisymmetric matrices are irreducible under rotation, so that the
mean square is `|S_a|^2 |S_b|^2 / dim S + |T_a|^2 |T_b|^2 / dim T` (Schur). Two changed matrices enter, where a term
in token space has four.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np

from huref.kinship.alignment.residual_map import ResidualMap
from huref.model.layers import Heads, Neurons
from huref.numerics.arrays import Floats
from huref.numerics.rows import inner_product

KINDS = ("qk", "vo", "up_down", "gate_down")
AVERAGED = ("qk", "vo", "up_down")
"""What the aligned score is the mean of. `gate_down` stands beside: strangers with the same data do not resemble each
other in it, but flipping a neuron's signs changes it."""

PROBES = 384
"""Streams narrower than this are compared exactly; wider ones through so many random probes a side, which leaves a
standard error of 1 / 384 a kind."""

_SILENT = 1e-12

Operator = tuple[Floats, Floats]
"""Rows (r, d) and (r, d): the operator is the sum of their outer products."""


def operators(neurons: Neurons, heads: Heads) -> dict[str, Operator]:
    """The operators of one layer; `gate_down` only where there is a gate."""
    q, k, v, o = (part.reshape(-1, part.shape[2]) for part in (heads.q, heads.k, heads.v, heads.o))
    found = {"qk": (q, k), "vo": (v, o)}
    if neurons.ups is None:
        return found | {"up_down": (neurons.acts, neurons.downs)}
    return found | {"up_down": (neurons.ups, neurons.downs), "gate_down": (neurons.acts, neurons.downs)}


def aligned_scores(a: dict[str, Operator], b: dict[str, Operator], where: ResidualMap) -> dict[str, float]:
    """Kind -> cosine of A's operator, mapped, and B's, for the kinds that both have and that are not zero."""
    found = {}
    for kind in KINDS:
        if kind in a and kind in b:
            score = _cosine(_probed(*(where.forward(part) for part in a[kind])), _probed(*b[kind]))
            if score is not None:
                found[kind] = score
    return found


def rotation_deviation(width: int) -> float:
    """The standard deviation that a score cannot exceed under a uniformly random rotation of a stream."""
    return float(np.sqrt(2.0) / max(1, width - 1))


def _probed(left: Floats, right: Floats) -> Floats:
    """`S1 M S2^T` of the traceless operator: (m, m), or M itself where the stream is narrow."""
    width = left.shape[1]
    trace = np.float32(inner_product(left, right) / width)
    if width <= PROBES:
        operator, identity = left.T @ right, np.eye(width, dtype=np.float32)
    else:
        S1, S2 = _signs("left", width), _signs("right", width)
        operator, identity = (S1 @ left.T) @ (right @ S2.T), S1 @ S2.T
    traceless: Floats = operator - trace * identity
    return traceless


@cache
def _signs(side: str, width: int) -> Floats:
    """(PROBES, width) random signs, always the same."""
    seed = hashlib.sha256(f"huref/aligned/1/{side}/{width}".encode()).digest()
    bits = np.random.Generator(np.random.Philox(key=int.from_bytes(seed[:16], "little"))).integers(
        0, 2, (PROBES, width), dtype=np.int8
    )
    return bits.astype(np.float32) * 2 - 1


def _cosine(a: Floats, b: Floats) -> float | None:
    left, right = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / scale if scale > _SILENT else None
