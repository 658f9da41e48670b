"""What both sides do alike: challenges, and the vectors that close a proof. proof-inference-v1, section 8."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huref.proof.arithmetic.field import ORDER, dot, integers, powers
from huref.proof.arithmetic.quadratic import Weights
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.inference.challenges import Early, Late
from huref.proof.inference.combination import Sum, Term, row_count
from huref.proof.inference.inventory import Inventory
from huref.proof.inference.proof_file import Statement, header_bytes, logit_bytes

PROTOCOL = "huref/inference/1"


def opened_transcript(statement: Statement, logits: np.ndarray) -> Transcript:
    """A transcript that has absorbed the statement; the header holds the root."""
    transcript = Transcript(PROTOCOL)
    transcript.absorb("header", header_bytes(statement))
    transcript.absorb("logits", logit_bytes(logits))
    return transcript


def early_challenges(transcript: Transcript, activations: bytes) -> Early:
    """After the activations."""
    transcript.absorb("activations", activations)
    return Early(*(transcript.challenge(name) for name in ("alpha", "beta", "gamma", "omega", "tau")))


def late_challenges(transcript: Transcript, auxiliaries: bytes) -> Late:
    """After the auxiliary rows."""
    transcript.absorb("auxiliaries", auxiliaries)
    return Late(*(transcript.challenge(name) for name in ("kappa", "theta")))


@dataclass(frozen=True)
class Closing:
    """One group's combinations of committed rows after its sumcheck.

    Attributes:
        plain, weighted: left sides, without and with column weights; right: right sides; every: all rows.
        on_plain, on_weighted, on_right: functionals that take them to the two values at the point.
        left_known, right_known: what public vectors add to those values.
    """

    plain: Sum
    weighted: Sum
    right: Sum
    every: Sum
    on_plain: np.ndarray
    on_weighted: np.ndarray
    left_known: int
    right_known: int

    @property
    def sums(self) -> tuple[Sum, Sum, Sum, Sum]:
        """In the order of the closing pairs: (plain, right), (weighted, every)."""
        return self.plain, self.right, self.weighted, self.every

    def weights(self, factors: np.ndarray) -> tuple[Weights, Weights, Weights, Weights]:
        """What the group's four pairs contribute to the closing equation; `factors` are three powers of xi."""
        x1, x2, x3 = factors.tolist()
        return (
            Weights(0, -x1 * self.on_plain % ORDER, -x2 * self.on_plain % ORDER),
            Weights(0, -x1 * self.on_weighted % ORDER),
            Weights(x3, integers([x1]), integers([x2])),
            Weights(0, integers([-x3 % ORDER])),
        )

    def known(self, factors: np.ndarray) -> int:
        """What the closing equation has on its right side for this group."""
        return int(factors[0] * self.left_known + factors[1] * self.right_known) % ORDER


def close_group(
    inventory: Inventory, terms: list[Term], point: tuple[np.ndarray, np.ndarray], theta: int, zeta: int
) -> Closing:
    """The combinations that a group's sumcheck ends in.

    Args:
        point: weights of the rows (R,) and of the columns (w,).
    """
    rows, columns = point
    plain, weighted, right = (Sum(inventory) for _ in range(3))
    start = 0
    for term in terms:
        weights = rows[start : start + term.count]
        term.left.gather(weighted if term.is_weighted else plain, weights)
        term.right.gather(right, weights)
        start += term.count
    width = columns.size
    on_weighted = columns * powers(theta, width, 1) % ORDER
    left_known = dot(columns, plain.public(width)) + dot(on_weighted, weighted.public(width))
    group = terms[0].group
    return Closing(
        plain,
        weighted,
        right,
        every_row(inventory, group, zeta),
        columns,
        on_weighted,
        left_known % ORDER,
        dot(columns, right.public(width)),
    )


def every_row(inventory: Inventory, group: str, zeta: int) -> Sum:
    """All committed rows of a group, the weights among them, under powers of zeta."""
    names = list(inventory.shape.matrices()) if group == "d" else []
    names += [block.name for block in (*inventory.activations, *inventory.auxiliaries) if block.group == group]
    counts = [row_count(inventory, name) for name in names]
    weights = powers(zeta, sum(counts), 1)
    total, start = Sum(inventory), 0
    for name, count in zip(names, counts, strict=True):
        total.weights[name] = weights[start : start + count]
        start += count
    return total
