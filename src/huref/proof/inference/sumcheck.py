"""A sumcheck whose messages are commitments: proof-inference-v1, section 7.

Claim: `sum over rows k and columns j of P_kj Q_kj = T` for two matrices of field elements, T committed. One variable
a round is fixed, rows before columns, the lowest bit first. A round's polynomial is `c0 + c1 X + c2 X^2`; the prover
sends commitments to c0 and c2, and `c1 = T - 2 c0 - c2` follows (Hyrax, Wahby et al. 2018, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huref.proof.arithmetic.curve import commit, encode_points
from huref.proof.arithmetic.equations import Combination
from huref.proof.arithmetic.field import ORDER, integers, random_scalar
from huref.proof.arithmetic.quadratic import Opened
from huref.proof.arithmetic.transcript import Transcript


@dataclass(frozen=True, repr=False)
class Ended:
    """What a sumcheck leaves to show: `P~ Q~ = last`, at the point of the challenges.

    Attributes:
        messages: the round's points, encoded, two a round.
        opened: their openings.
        last: the last claim.
        left, right: the values of P and Q at the point.
        rows, columns: weights of the rows (R,) and columns (w,) at the point.
    """

    messages: bytes
    opened: tuple[Opened, ...]
    last: Opened
    left: int
    right: int
    rows: np.ndarray
    columns: np.ndarray


def rounds(rows: int, width: int) -> tuple[int, int]:
    """Rounds that fix the rows, and rounds that fix the columns."""
    return (rows - 1).bit_length(), (width - 1).bit_length()


def prove_sumcheck(left: np.ndarray, right: np.ndarray, total: Opened, transcript: Transcript) -> Ended:
    """Run the prover on (R, w) matrices modulo p; `total` is the committed sum, one number."""
    rows, width = left.shape
    n_rows, n_columns = rounds(rows, width)
    claim, blinding = int(total.values[0]), total.blinding
    messages, opened, points = b"", [], []
    for index in range(n_rows + n_columns):
        if index == n_rows:
            left, right = left.T, right.T
        even, odd, c0, c2 = _halves(left, right)
        c1 = claim - 2 * c0 - c2
        sent = [Opened(integers([value % ORDER]), random_scalar()) for value in (c0, c2)]
        message = encode_points([commit(item.values, item.blinding) for item in sent])
        transcript.absorb("round", message)
        r = transcript.challenge("round")
        claim = (c0 + r * c1 + r * r * c2) % ORDER
        b0, b2 = sent[0].blinding, sent[1].blinding
        blinding = (b0 + r * (blinding - 2 * b0 - b2) + r * r * b2) % ORDER
        left, right = ((a + (b - a) * r) % ORDER for a, b in zip(even, odd, strict=True))
        messages += message
        opened += sent
        points.append(r)
    row_weights, column_weights = at_point(points[:n_rows], rows), at_point(points[n_rows:], width)
    last = Opened(integers([claim]), blinding)
    ends = int(left[0, 0]) % ORDER, int(right[0, 0]) % ORDER
    return Ended(messages, tuple(opened), last, *ends, row_weights, column_weights)


def follow_sumcheck(
    sizes: tuple[int, int], total: Combination, first: int, messages: bytes, transcript: Transcript
) -> tuple[Combination, np.ndarray, np.ndarray]:
    """The verifier's side: the commitment to the last claim, and the weights of rows and columns.

    Args:
        sizes: (R, w).
        total: the commitment to the sum.
        first: where the messages' points begin in the list of points.
        messages: two points a round, encoded.
    """
    n_rows, n_columns = rounds(*sizes)
    points = []
    for index in range(n_rows + n_columns):
        transcript.absorb("round", messages[index * 96 : (index + 1) * 96])
        r = transcript.challenge("round")
        c0, c2 = (Combination.of_point(first + 2 * index + i) for i in (0, 1))
        c1 = total + c0.scaled(-2) + c2.scaled(-1)
        total = _collected(c0 + c1.scaled(r) + c2.scaled(r * r))
        points.append(r)
    return total, at_point(points[:n_rows], sizes[0]), at_point(points[n_rows:], sizes[1])


def at_point(challenges: list[int], count: int) -> np.ndarray:
    """The multilinear weights of the indices 0, ..., count - 1, lowest bit first: (count,)."""
    weights = integers([1])
    for r in challenges:
        weights = np.concatenate([weights * (1 - r) % ORDER, weights * r % ORDER])
    return weights[:count]


def _halves(left: np.ndarray, right: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray], int, int]:
    """Even and odd rows of both matrices (a zero row added where one is missing), and the round's c0 and c2."""
    even, odd = [left[0::2], right[0::2]], [left[1::2], right[1::2]]
    if left.shape[0] % 2:
        missing = np.zeros((1, left.shape[1]), dtype=object)
        odd = [np.concatenate([half, missing]) for half in odd]
    c0 = int((even[0] * even[1]).sum())
    c2 = int(((odd[0] - even[0]) * (odd[1] - even[1])).sum())
    return even, odd, c0 % ORDER, c2 % ORDER


def _collected(combination: Combination) -> Combination:
    """The same with each point once."""
    found: dict[int, int] = {}
    for start, values in combination.pieces:
        for index, value in enumerate(values.tolist(), start):
            found[index] = (found.get(index, 0) + value) % ORDER
    return Combination(tuple((index, integers([value])) for index, value in found.items()))
