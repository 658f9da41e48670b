"""The verifier: a commitment and a proof, no weights, no torch. proof-inference-v1, section 10."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from huref.errors import RejectedError
from huref.progress import Progress, Report
from huref.proof.arithmetic.curve import decode_points, generators
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER, integers, powers
from huref.proof.arithmetic.parallel import decode_many_points
from huref.proof.arithmetic.quadratic import CommittedPair, Weights, require_quadratic
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.inference.claims import build_claim
from huref.proof.inference.closing import Closing, close_group, early_challenges, late_challenges, opened_transcript
from huref.proof.inference.combination import Claim, Sum
from huref.proof.inference.commitment import InferenceCommitment
from huref.proof.inference.inventory import GROUPS, Block, Inventory
from huref.proof.inference.precision import Precision, Shape
from huref.proof.inference.proof_file import InferenceProof, parse_rest, parse_statement, term_rows
from huref.proof.inference.sumcheck import follow_sumcheck, rounds

_rejected = partial(
    RejectedError,
    "the proof does not hold",
    next_step="do not rely on this answer: ask its maker for a proof against the commitment that you trust",
)


@dataclass(frozen=True)
class VerifiedAnswer:
    """What a valid proof establishes.

    Attributes:
        model, root: the commitment's; the name is a claim.
        shape, precision: of the integer model.
        tokens: the prompt.
        logits: (V,) int64 of the last position; real logits are these times `2^-logit_scale`.
        layers: how many layers are proved: all of them.
    """

    model: str
    root: bytes
    shape: Shape
    precision: Precision
    tokens: tuple[int, ...]
    logits: np.ndarray
    layers: int

    @property
    def top(self) -> int:
        """The token with the largest logit; of several the first."""
        return int(self.logits.argmax())


def verify_inference(
    commitment: InferenceCommitment, data: bytes, where: str = "proof", report: Report | None = None
) -> VerifiedAnswer:
    """Check a proof against a commitment.

    Raises:
        CorruptFileError: bytes that are no proof, or points and scalars that cannot be.
        RejectedError: a proof of another commitment, or one that does not hold.
    """
    statement, reader = parse_statement(data, where)
    if statement.root != commitment.root:
        raise _rejected(where=where, expected=f"root {commitment.root.hex()}", got=f"root {statement.root.hex()}")
    try:
        inventory = statement.inventory(commitment.shape)
    except ValueError as error:
        raise _rejected(
            where=where, expected="tokens and weights that the integer model covers", got=str(error)
        ) from None
    proof = parse_rest(statement, reader, inventory)
    if not _holds(commitment, proof, inventory, report or (lambda _: None)):
        raise _rejected(where=where, expected="equations that hold", got="at least one that does not")
    return VerifiedAnswer(
        commitment.model,
        commitment.root,
        commitment.shape,
        inventory.scales.precision,
        statement.tokens,
        proof.logits,
        commitment.shape.layers,
    )


def _holds(commitment: InferenceCommitment, proof: InferenceProof, inventory: Inventory, report: Report) -> bool:
    points = _Points(commitment, proof, inventory, report)
    transcript = opened_transcript(proof.statement, proof.logits)
    early = early_challenges(transcript, proof.activations)
    late = late_challenges(transcript, proof.auxiliaries)
    claim = build_claim(inventory, proof.logits, early, late)
    report(Progress("verify", 2, 4))
    transcript.absorb("sums", proof.sums)
    followed = _follow(proof, inventory, claim, points, transcript)
    transcript.absorb("ends", proof.ends)
    xi, zeta = transcript.challenge("xi"), transcript.challenge("zeta")
    factors = powers(xi, 3 * len(GROUPS), 1)
    closings = [
        close_group(inventory, claim.terms[group], point, late.theta, zeta)
        for group, (_, point) in zip(GROUPS, followed, strict=True)
    ]
    value = sum(closing.known(factors[3 * i : 3 * i + 3]) for i, closing in enumerate(closings)) % ORDER
    pairs = _pairs(closings, [last for last, _ in followed], points, factors)
    scalars = Combination(((points.start["sums"], powers(zeta, points.count_scalars, 1)),))
    pairs.append(CommittedPair(scalars, points.one("ends", 1), 1, Weights(0)))
    report(Progress("verify", 3, 4))
    require_quadratic(pairs, value, proof.quadratic, points.start["masks"], transcript, points.equations)
    holds = points.equations.hold()
    report(Progress("verify", 4, 4))
    return holds


class _Points:
    """All points of a commitment and a proof in one list, and where each block begins.

    Attributes:
        equations: the list.
        start: index of the first point of a block, or of `sums`, `rounds`, `ends`, `one`, `masks`.
        count_scalars: commitments to single numbers, which follow one another.
    """

    def __init__(
        self, commitment: InferenceCommitment, proof: InferenceProof, inventory: Inventory, report: Report
    ) -> None:
        self.equations = PointEquations()
        self.start: dict[str, int] = {}
        self._extend_matrices(commitment)
        report(Progress("verify", 1, 4))
        self._extend_blocks(proof.activations, inventory.activations, "activations")
        self._extend_blocks(proof.auxiliaries, inventory.auxiliaries, "auxiliary rows")
        for name in ("sums", "rounds", "ends"):
            self.start[name] = self.equations.extend(decode_points(getattr(proof, name), name))
        self.start["one"] = self.equations.extend(generators(1))
        self.start["masks"] = self.equations.extend(decode_points(proof.quadratic.masks, "masks"))
        self.count_scalars = self.start["one"] - self.start["sums"]

    def one(self, name: str, index: int) -> Combination:
        """One point of a section."""
        return Combination.of_point(self.start[name] + index)

    def combination(self, total: Sum) -> Combination:
        """The committed part of a combination of rows."""
        return Combination(tuple((self.start[block], weights) for block, weights in total.weights.items()))

    def _extend_matrices(self, commitment: InferenceCommitment) -> None:
        first = self.equations.extend(decode_many_points(commitment.points, "commitment"))
        for name, rows in commitment.shape.matrices().items():
            self.start[name] = first
            first += rows

    def _extend_blocks(self, data: bytes, blocks: Sequence[Block], where: str) -> None:
        first = self.equations.extend(decode_points(data, where))
        for block in blocks:
            self.start[block.name] = first
            first += block.rows


def _follow(
    proof: InferenceProof, inventory: Inventory, claim: Claim, points: _Points, transcript: Transcript
) -> list[tuple[Combination, tuple[np.ndarray, np.ndarray]]]:
    """Each group's last claim, and the weights at its point."""
    totals = [points.one("sums", i) for i in range(len(GROUPS) - 1)]
    last = Combination(((points.start["one"], integers([claim.value])),))
    for total in totals:
        last = last + total.scaled(-1)
    rows, at, followed = term_rows(inventory), 0, []
    for group, total in zip(GROUPS, [*totals, last], strict=True):
        if rows[group] != sum(term.count for term in claim.terms[group]):
            raise AssertionError("the two counts of a sumcheck's rows differ")
        sizes = (rows[group], inventory.widths[group])
        count = 2 * sum(rounds(*sizes))
        messages = proof.rounds[at * 48 : (at + count) * 48]
        end, *point = follow_sumcheck(sizes, total, points.start["rounds"] + at, messages, transcript)
        followed.append((end, (point[0], point[1])))
        at += count
    return followed


def _pairs(
    closings: list[Closing], lasts: list[Combination], points: _Points, factors: np.ndarray
) -> list[CommittedPair]:
    pairs = []
    for i, (closing, last) in enumerate(zip(closings, lasts, strict=True)):
        width = closing.on_plain.size
        plain, right, weighted, every = (points.combination(total) for total in closing.sums)
        first, second = points.one("ends", 2 * i), points.one("ends", 2 * i + 1)
        sides = ((plain, right, width), (weighted, every, width), (first, second, 1), (last, second, 1))
        weights = closing.weights(factors[3 * i : 3 * i + 3])
        pairs += [CommittedPair(a, b, length, w) for (a, b, length), w in zip(sides, weights, strict=True)]
    return pairs
