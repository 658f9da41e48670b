"""Cheating provers and strange points, for tests of the proofs: they know the opening and every line of the code.

`prove` is the honest prover with lies put in, everything after a lie recomputed; `deaf_to` makes a transcript that
forgets to absorb a message, as a broken protocol would; `encoded` and `shifted` make points outside the group;
`remembering` decodes as strictly as ever, each good point once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from huref.proof.arithmetic.curve import commit, decode_points, encode_points
from huref.proof.arithmetic.equations import PointEquations
from huref.proof.arithmetic.field import byte_length, random_scalar, times
from huref.proof.arithmetic.quadratic import Opened, OpenedPair, QuadraticProof, Weights, prove_quadratic
from huref.proof.arithmetic.signs import centred_signs
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.commitment import Commitment
from huref.proof.files.layout import EMBEDDING
from huref.proof.files.opening import Opening
from huref.proof.files.proof import Claim, SketchProof, pieces
from huref.proof.sketch import protocol as sketch_proof
from huref.proof.sketch.exact import exact_sketches, factor
from kit import proofs

Vectors = list[np.ndarray]
Sketches = dict[str, np.ndarray]


@dataclass(frozen=True)
class Lies:
    """Where a prover departs from the truth.

    Attributes:
        sketches: published instead of the exact ones.
        products: from (v, u, the s that nobody should know yet) to other v and u.
        linear: added to the first entry of the opened Z1.
    """

    sketches: Callable[[Sketches], Sketches] = lambda exact: exact
    products: Callable[[Vectors, Vectors, int], tuple[Vectors, Vectors]] | None = None
    linear: int = 0


def fingerprint_claim(commitment: Commitment) -> Claim:
    """What an honest proof of a fingerprint claims."""
    recipe = commitment.layout.recipe
    return Claim("fingerprint", commitment.root, None, recipe.seed, recipe.sketch_rows, 1, "0.0.0")


def prove(
    owner: Opening,
    commitment: Commitment,
    lies: Lies | None = None,
    claim: Claim | None = None,
    chosen: np.ndarray | None = None,
) -> SketchProof:
    """As `prove_sketches`, section 6, with lies."""
    lies = lies or Lies()
    claim = claim or fingerprint_claim(commitment)
    chosen = np.ones(len(owner.strings), dtype=bool) if chosen is None else chosen
    layout, secret = commitment.layout, proofs.secret(owner)
    signs = centred_signs(owner.strings, chosen, claim.rows, claim.seed)
    sketches = lies.sketches(exact_sketches(layout, owner.rows, signs))
    claim = replace(claim, width=max(byte_length(Y) for Y in sketches.values()))
    started = SketchProof(claim, chosen, sketches, b"", QuadraticProof(b"", (), (), 0))
    transcript, alpha, beta = sketch_proof._begin(started)
    on_tokens = [times(np.ascontiguousarray(S.T), p) for S, p in zip(signs, (alpha, beta), strict=True)]
    x = [sketch_proof._opened_rows(secret, EMBEDDING, coefficients) for coefficients in on_tokens]
    v, u = ([times(factor(layout, owner.rows, t, i), x[i].values) for t in layout.terms] for i in (0, 1))
    if lies.products:
        foreseen = sketch_proof._begin(started)[0]
        v, u = lies.products(v, u, foreseen.challenge("s"))
    opened = [[Opened(w[t][piece], random_scalar()) for t, piece in pieces(layout)] for w in (v, u)]
    products = encode_points([commit(o.values, o.blinding) for side in opened for o in side])
    transcript.absorb("products", products)
    challenges = sketch_proof._spread_challenges(layout, transcript.challenge("s"))
    sigmas = (challenges.left, challenges.right)
    z = [sketch_proof._opened_factors(secret, side, sigmas[side]) for side in (0, 1)]
    z[0].values[0] += lies.linear
    pairs = [OpenedPair(z[side], x[side], Weights(1)) for side in (0, 1)]
    weights = sketch_proof._weights(layout, challenges)
    pairs += [OpenedPair(a, b, w) for a, b, w in zip(*opened, weights, strict=True)]
    return replace(started, products=products, quadratic=prove_quadratic(pairs, transcript))


def sketch_part_holds(commitment: Commitment, proof: SketchProof) -> bool:
    """Sections 6 and 8 alone, without the commitment's own proof and without the checks of the claim."""
    equations = PointEquations()
    first = equations.extend(decode_points(commitment.points, "commitment"))
    sketch_proof.require_sketches(commitment.layout, commitment.strings, proof, first, equations)
    return equations.hold()


def deaf_to(*labels: str) -> type[Transcript]:
    """A transcript that does not hear some messages."""

    class Deaf(Transcript):
        def absorb(self, label: str, data: bytes) -> None:
            if label not in labels:
                super().absorb(label, data)

    return Deaf


_decoded: dict[bytes, Any] = {}


def remembering(data: bytes, where: str) -> list[Any]:
    """`decode_points`; what is not good is looked at, and refused, each time."""
    pieces = [data[i : i + 48] for i in range(0, len(data), 48)]
    for piece in pieces:
        if piece not in _decoded:
            (_decoded[piece],) = decode_points(piece, where)
    return [_decoded[piece] for piece in pieces]


# Points by hand: y^2 = x^3 + 4 over F_q

Q = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB


def square_root(value: int) -> int | None:
    """q is 3 modulo 4."""
    root = pow(value, (Q + 1) // 4, Q)
    return root if root * root % Q == value % Q else None


def encoded(x: int, y: int, flags: int = 0x80) -> bytes:
    """48 bytes with the compression flag, and the sign of y."""
    sign = 0x20 if y > (Q - 1) // 2 else 0
    data = bytearray(x.to_bytes(48, "big"))
    data[0] |= flags | sign
    return bytes(data)


def coordinates(point: bytes) -> tuple[int, int]:
    """x and y of an encoded point."""
    x = int.from_bytes(bytes([point[0] & 0x1F]) + point[1:], "big")
    y = square_root((x**3 + 4) % Q)
    assert y is not None
    is_large = bool(point[0] & 0x20)
    return x, y if (y > (Q - 1) // 2) == is_large else Q - y


def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points with different x."""
    slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, Q) % Q
    x = (slope * slope - one[0] - other[0]) % Q
    return x, (slope * (one[0] - x) - one[1]) % Q


ORDER_3 = (0, 2)
"""A point of order 3: outside the group, and a third of all weights send it to zero."""


def shifted(point: bytes) -> bytes:
    """A good point plus one of order 3."""
    return encoded(*added(coordinates(point), ORDER_3))


def off_subgroup() -> bytes:
    """A point of the curve of some large order that is not p."""
    x = 5
    while (y := square_root((x**3 + 4) % Q)) is None:
        x += 1
    return encoded(x, y)


def off_curve() -> bytes:
    """No point has this x."""
    x = 5
    while square_root((x**3 + 4) % Q) is not None:
        x += 1
    return encoded(x, 0)


def second_encoding(points: bytes) -> bytes:
    """x + q for a point among these whose x is small enough that it fits in 381 bits."""
    for start in range(0, len(points), 48):
        x, y = coordinates(points[start : start + 48])
        if x + Q < 1 << 381:
            return encoded(x + Q, y)
    raise AssertionError("no point has a small x")
