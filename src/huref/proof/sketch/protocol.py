"""The protocol for sketches, both sides: proof-v1, section 6."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from huref.proof.arithmetic.curve import commit, decode_points, encode_points
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER, byte_length, combine, integers, powers, random_scalar, times
from huref.proof.arithmetic.quadratic import (
    CommittedPair,
    Opened,
    OpenedPair,
    QuadraticProof,
    Weights,
    prove_quadratic,
    require_quadratic,
)
from huref.proof.arithmetic.signs import centred_signs, token_coefficients
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.layout import EMBEDDING, Layout
from huref.proof.files.proof import Claim, SketchProof, pair_lengths, pieces
from huref.proof.sketch.exact import bilinear_value, exact_sketches, factor

PROTOCOL = "huref/proof/1"


@dataclass(frozen=True)
class Secret:
    """What the owner of a commitment has: (N, d) int16 rows, (N,) blindings, and the public layout and strings."""

    layout: Layout
    strings: tuple[bytes, ...]
    rows: np.ndarray = field(repr=False)
    blindings: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class _Challenges:
    """Powers of s, handed out in order: section 6, 4. Left and right sigma by term, and delta by term."""

    left: list[np.ndarray]
    right: list[np.ndarray]
    products: list[int]


def prove_sketches(
    secret: Secret, claim: Claim, chosen: np.ndarray, step: Callable[[str], None] = lambda _: None
) -> SketchProof:
    """Prove the sketches that the claim's signs give.

    Args:
        claim: its `width` is ignored; the proof's own claim has the right one.
        chosen: (K,) bool, the tokens that take part.
        step: told what comes next.
    """
    layout, rows = secret.layout, secret.rows
    step("exact sketches")
    signs = centred_signs(secret.strings, chosen, claim.rows, claim.seed)
    sketches = exact_sketches(layout, rows, signs)
    width = max(byte_length(Y) for Y in sketches.values())
    claim = replace(claim, width=width)
    started = SketchProof(claim, chosen, sketches, b"", QuadraticProof(b"", (), (), 0))
    transcript, alpha, beta = _begin(started)
    step("products")
    on_tokens = token_coefficients(secret.strings, chosen, claim.seed, (alpha, beta))
    x = [_opened_rows(secret, EMBEDDING, coefficients) for coefficients in on_tokens]
    v, u = ([times(factor(layout, rows, t, side), x[side].values) for t in layout.terms] for side in (0, 1))
    opened = [[Opened(w[t][piece], random_scalar()) for t, piece in pieces(layout)] for w in (v, u)]
    products = encode_points([commit(o.values, o.blinding) for side in opened for o in side])
    transcript.absorb("products", products)
    challenges = _spread_challenges(layout, transcript.challenge("s"))
    step("closing argument")
    z = [_opened_factors(secret, side, (challenges.left, challenges.right)[side]) for side in (0, 1)]
    pairs = [OpenedPair(z[side], x[side], Weights(1)) for side in (0, 1)]
    weights = _weights(layout, challenges)
    pairs += [OpenedPair(a, b, w) for a, b, w in zip(*opened, weights, strict=True)]
    return replace(started, products=products, quadratic=prove_quadratic(pairs, transcript))


def require_sketches(
    layout: Layout, strings: Sequence[bytes], proof: SketchProof, first_row: int, equations: PointEquations
) -> None:
    """Add the verifier's equations for a proof about the commitment whose points begin at `first_row`.

    Raises:
        CorruptFileError: a point that cannot be accepted.
    """
    transcript, alpha, beta = _begin(proof)
    on_tokens = token_coefficients(strings, proof.chosen, proof.claim.seed, (alpha, beta))
    start = first_row + layout.start(EMBEDDING)
    x = [Combination(((start, coefficients),)) for coefficients in on_tokens]
    first = equations.extend(decode_points(proof.products + proof.quadratic.masks, "proof"))
    transcript.absorb("products", proof.products)
    challenges = _spread_challenges(layout, transcript.challenge("s"))
    sides = (challenges.left, challenges.right)
    z = [Combination(tuple(_factor_pieces(layout, side, sides[side], first_row))) for side in (0, 1)]
    count = len(pieces(layout))
    lengths = pair_lengths(layout)
    pairs = [CommittedPair(z[side], x[side], layout.width, Weights(1)) for side in (0, 1)]
    for index, weights in enumerate(_weights(layout, challenges)):
        left, right = Combination.of_point(first + index), Combination.of_point(first + count + index)
        pairs.append(CommittedPair(left, right, lengths[2 + index], weights))
    values = [bilinear_value(proof.sketches[term.key], alpha, beta) for term in layout.terms]
    value = sum(delta * y for delta, y in zip(challenges.products, values, strict=True)) % ORDER
    require_quadratic(pairs, value, proof.quadratic, first + 2 * count, transcript, equations)


def _begin(proof: SketchProof) -> tuple[Transcript, np.ndarray, np.ndarray]:
    """The transcript up to the challenges a and b, and their powers alpha and beta, (m,) each."""
    transcript = Transcript(PROTOCOL)
    for label, data in proof.bound():
        transcript.absorb(label, data)
    a, b = transcript.challenge("a"), transcript.challenge("b")
    return transcript, powers(a, proof.claim.rows), powers(b, proof.claim.rows)


def _spread_challenges(layout: Layout, s: int) -> _Challenges:
    ranks = [layout.rank(term) for term in layout.terms]
    spread = powers(s, 2 * sum(ranks) + len(ranks), first=1)
    parts = np.split(spread, np.cumsum(ranks + ranks))
    return _Challenges(parts[: len(ranks)], parts[len(ranks) : -1], parts[-1].tolist())


def _weights(layout: Layout, challenges: _Challenges) -> list[Weights]:
    """Of every pair (v_t,j, u_t,j)."""
    return [
        Weights(challenges.products[t], -challenges.left[t][piece] % ORDER, -challenges.right[t][piece] % ORDER)
        for t, piece in pieces(layout)
    ]


def _opened_rows(secret: Secret, name: str, coefficients: np.ndarray) -> Opened:
    """A combination of a matrix' rows, with its blinding."""
    start = secret.layout.start(name)
    block = slice(start, start + coefficients.size)
    blinding = int((coefficients * secret.blindings[block]).sum() % ORDER)
    return Opened(combine(coefficients, secret.rows[block]), blinding)


def _opened_factors(secret: Secret, side: int, sigma: list[np.ndarray]) -> Opened:
    """Z1 (side 0) or Z2 (side 1) with its blinding."""
    values, blinding = np.zeros(secret.layout.width, dtype=object), 0
    for start, coefficients in _factor_pieces(secret.layout, side, sigma, 0):
        block = slice(start, start + coefficients.size)
        values = values + combine(coefficients, secret.rows[block])
        blinding += int((coefficients * secret.blindings[block]).sum() % ORDER)
    return Opened(integers((values % ORDER).tolist()), blinding % ORDER)


def _factor_pieces(layout: Layout, side: int, sigma: list[np.ndarray], first: int) -> list[tuple[int, np.ndarray]]:
    """(first point, coefficients) of every matrix in Z1 or Z2."""
    return [
        (first + layout.start((term.left, term.right)[side]), layout.spread(term, side, coefficients))
        for term, coefficients in zip(layout.terms, sigma, strict=True)
    ]
