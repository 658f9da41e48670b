"""One sigma protocol for a sum of inner products of committed vectors: proof-v1, section 8."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from huref.proof.arithmetic.curve import commit, encode_points
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER, dot, integers, random_scalar, reduced
from huref.proof.arithmetic.transcript import Transcript

_MASKS = b"huref/masks/1"
_NOTHING = integers([])


@dataclass(frozen=True)
class Opened:
    """A committed vector as its owner knows it: (n,) field elements and the blinding."""

    values: np.ndarray = field(repr=False)
    blinding: int = field(repr=False)


@dataclass(frozen=True)
class Weights:
    """What a pair contributes to the claim: `product <p, q> + <on_left, p> + <on_right, q>`.

    Attributes:
        product: c_k.
        on_left: lambda_k, (n,) or empty for zeros.
        on_right: mu_k, likewise.
    """

    product: int
    on_left: np.ndarray = field(default_factory=lambda: _NOTHING)
    on_right: np.ndarray = field(default_factory=lambda: _NOTHING)

    def linear(self, left: np.ndarray, right: np.ndarray) -> int:
        """`<on_left, left> + <on_right, right>` modulo p."""
        total = dot(self.on_left, left) if self.on_left.size else 0
        return (total + (dot(self.on_right, right) if self.on_right.size else 0)) % ORDER


@dataclass(frozen=True)
class OpenedPair:
    """A pair of committed vectors of one length, as the prover has it."""

    left: Opened
    right: Opened
    weights: Weights


@dataclass(frozen=True)
class CommittedPair:
    """The same pair as the verifier has it: two commitments, and the vectors' length."""

    left: Combination
    right: Combination
    length: int
    weights: Weights


@dataclass(frozen=True)
class QuadraticProof:
    """What the prover sends.

    Attributes:
        masks: points `P^_0, Q^_0, P^_1, ..., T_0, T_1`, encoded.
        responses: `f_0, g_0, f_1, ...`, (n_k,) each.
        blindings: `z(f_0), z(g_0), z(f_1), ...`.
        tau: blinding of the equation between scalars.
    """

    masks: bytes
    responses: tuple[np.ndarray, ...]
    blindings: tuple[int, ...]
    tau: int


def prove_quadratic(pairs: Sequence[OpenedPair], transcript: Transcript) -> QuadraticProof:
    """Show `sum_k c_k <p_k, q_k> + <lambda_k, p_k> + <mu_k, q_k> = y` for the y that the vectors give.

    The masks are fresh: two proofs about one vector share no randomness.
    """
    vectors = [side for pair in pairs for side in (pair.left, pair.right)]
    masks = _masks(vectors, transcript)
    constant = linear = 0
    for index, pair in enumerate(pairs):
        left, right = masks[2 * index].values, masks[2 * index + 1].values
        constant += pair.weights.product * dot(left, right)
        crossed = dot(left, pair.right.values) + dot(pair.left.values, right)
        linear += pair.weights.product * crossed + pair.weights.linear(left, right)
    scalars = [Opened(integers([value % ORDER]), random_scalar()) for value in (constant, linear)]
    points = encode_points([commit(mask.values, mask.blinding) for mask in [*masks, *scalars]])
    transcript.absorb("masks", points)
    e = transcript.challenge("e")
    return QuadraticProof(
        points,
        tuple((mask.values + e * vector.values) % ORDER for mask, vector in zip(masks, vectors, strict=True)),
        tuple((mask.blinding + e * vector.blinding) % ORDER for mask, vector in zip(masks, vectors, strict=True)),
        (scalars[0].blinding + e * scalars[1].blinding) % ORDER,
    )


def _masks(vectors: Sequence[Opened], transcript: Transcript) -> list[Opened]:
    """Uniform masks from the operating system's randomness, hedged with the statement and the secrets.

    A machine that is copied, or whose randomness repeats, must not answer two challenges under one mask: that would
    give the vectors away. So each mask depends on all that was absorbed too.
    """
    secret = b"".join(vector.blinding.to_bytes(32, "little") for vector in vectors)
    state = hashlib.shake_256(transcript.fork(_MASKS) + secrets.token_bytes(64) + secret)
    sizes = [vector.values.size for vector in vectors]
    drawn = reduced(state.digest(64 * (sum(sizes) + len(sizes))))
    parts = np.split(drawn[len(sizes) :], np.cumsum(sizes)[:-1])
    return [Opened(values, blinding) for values, blinding in zip(parts, drawn[: len(sizes)].tolist(), strict=True)]


def require_quadratic(
    pairs: Sequence[CommittedPair],
    value: int,
    proof: QuadraticProof,
    first_mask: int,
    transcript: Transcript,
    equations: PointEquations,
) -> None:
    """Add the verifier's equations for a claim whose right side is `value`.

    Args:
        first_mask: where the proof's mask points begin in the list of `equations`.
    """
    transcript.absorb("masks", proof.masks)
    e = transcript.challenge("e")
    commitments = [side for pair in pairs for side in (pair.left, pair.right)]
    for index, commitment in enumerate(commitments):
        mask = Combination.of_point(first_mask + index)
        equations.require(proof.responses[index], proof.blindings[index], mask + commitment.scaled(e))
    total = -e * e * value
    for index, pair in enumerate(pairs):
        left, right = proof.responses[2 * index], proof.responses[2 * index + 1]
        total += pair.weights.product * dot(left, right) + e * pair.weights.linear(left, right)
    t_0, t_1 = (Combination.of_point(first_mask + len(commitments) + i) for i in (0, 1))
    equations.require(integers([total % ORDER]), proof.tau, t_0 + t_1.scaled(e))
