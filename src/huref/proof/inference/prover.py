"""The prover: from integer weights and a prompt to a proof of the answer. proof-inference-v1, sections 5 to 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from py_arkworks_bls12381 import G1Point, Scalar

from huref.errors import UsageError
from huref.progress import Progress, Report
from huref.proof.arithmetic.curve import ShortCommitter, blinding_generator, commit, encode_points, generators, scalar
from huref.proof.arithmetic.field import ORDER, combine, dot, integers, powers, random_scalar, random_vector
from huref.proof.arithmetic.quadratic import Opened, OpenedPair, Weights, prove_quadratic
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.arithmetic.workers import available_cores
from huref.proof.inference.challenges import Early, table_inverses
from huref.proof.inference.claims import build_claim
from huref.proof.inference.closing import (
    Closing,
    close_group,
    early_challenges,
    late_challenges,
    opened_transcript,
)
from huref.proof.inference.combination import STREAM, Claim, Sum, Term
from huref.proof.inference.commitment import InferenceCommitment, InferenceOpening, require_same_weights
from huref.proof.inference.inventory import GROUPS, Block, Inventory
from huref.proof.inference.model import IntegerModel, Run, causal_pairs, run_model
from huref.proof.inference.precision import PRECISIONS
from huref.proof.inference.proof_file import InferenceProof, Statement
from huref.proof.inference.sumcheck import Ended, prove_sumcheck
from huref.proof.inference.witness import activation_rows, entry_indices

_SHORT = 1 << 62


def prove_inference(
    model: IntegerModel,
    commitment: InferenceCommitment,
    opening: InferenceOpening,
    tokens: Sequence[int],
    precision: str = "standard",
    report: Report | None = None,
) -> InferenceProof:
    """Prove which logits the committed weights answer after `tokens`, through every layer.

    Raises:
        UsageError: tokens out of range, an unknown precision, or things that do not belong together.
        InconclusiveError: an activation leaves the range of the integer model.
    """
    require_same_weights(model, opening, commitment)
    statement = Statement.of(commitment.root, precision, tuple(int(token) for token in tokens))
    try:
        inventory = statement.inventory(model.shape)
    except (ValueError, KeyError) as error:
        raise UsageError("a statement that cannot be proved", where=str(commitment.model), got=str(error)) from None
    told = _reporter(report)
    run = run_model(model, statement.tokens, PRECISIONS[precision], told("run the integer model"))
    return prove_run(model, opening, statement, (inventory, run), report)


def prove_run(
    model: IntegerModel,
    opening: InferenceOpening,
    statement: Statement,
    traced: tuple[Inventory, Run],
    report: Report | None = None,
) -> InferenceProof:
    """The proof of a run that is at hand."""
    inventory, run = traced
    told = _reporter(report)
    rows: dict[str, np.ndarray] = {**model.matrices, STREAM: np.concatenate([norm.residual for norm in run.norms])}
    rows |= activation_rows(run, inventory)
    known = _Known(rows, opening.blindings(model.shape))
    transcript = opened_transcript(statement, run.logits)
    activations = known.commit_all(inventory.activations, inventory, told("commit to activations"))
    early = early_challenges(transcript, activations)
    committer = _InverseCommitter(inventory, early)
    rows |= auxiliary_rows(inventory, known.rows, committer, early)
    auxiliaries = known.commit_all(inventory.auxiliaries, inventory, told("commit to inverses"), committer)
    late = late_challenges(transcript, auxiliaries)
    claim = build_claim(inventory, run.logits, early, late, committer.inverses)
    sums, ended = _sumchecks(inventory, claim, known.rows, late.theta, transcript, told("sumchecks"))
    ends = [Opened(integers([value]), random_scalar()) for e in ended for value in (e.left, e.right)]
    end_points = encode_points([commit(end.values, end.blinding) for end in ends])
    transcript.absorb("ends", end_points)
    xi, zeta = transcript.challenge("xi"), transcript.challenge("zeta")
    closings = [
        close_group(inventory, claim.terms[group], (e.rows, e.columns), late.theta, zeta)
        for group, e in zip(GROUPS, ended, strict=True)
    ]
    scalars = [*sums, *(item for e in ended for item in e.opened), *ends]
    pairs = _closing_pairs(known, closings, ended, ends, powers(xi, 3 * len(GROUPS), 1))
    pairs.append(OpenedPair(_combined(scalars, zeta), ends[1], Weights(0)))
    quadratic = prove_quadratic(pairs, transcript)
    sum_points = encode_points([commit(item.values, item.blinding) for item in sums])
    messages = b"".join(e.messages for e in ended)
    return InferenceProof(
        statement, run.logits, activations, auxiliaries, sum_points, messages, end_points, quadratic
    )


@dataclass(repr=False)
class _Known:
    """All rows by block, and a blinding for each that is committed."""

    rows: dict[str, np.ndarray]
    blindings: dict[str, np.ndarray]

    def commit_all(
        self,
        blocks: Sequence[Block],
        inventory: Inventory,
        step: Callable[[int, int], None],
        inverses: _InverseCommitter | None = None,
    ) -> bytes:
        """Commit to blocks under fresh blindings; the points, encoded."""
        encoded = bytearray()
        for index, block in enumerate(blocks):
            values = self.rows[block.name]
            if values.shape != (block.rows, inventory.widths[block.group]):
                raise ValueError(f"{block.name} has another shape")
            self.blindings[block.name] = random_vector(block.rows)
            places = inverses.places.get(block.name) if inverses else None
            if inverses is not None and places is not None:
                points = inverses.commit(places, self.blindings[block.name])
            else:
                points = _commit_rows(values, self.blindings[block.name])
            encoded += encode_points(points)
            step(index + 1, len(blocks))
        return bytes(encoded)

    def opened(self, total: Sum, width: int) -> Opened:
        """The committed part of a combination."""
        blinding = sum(dot(weights, self.blindings[block]) for block, weights in total.weights.items())
        return Opened(total.value(self.rows, width), blinding % ORDER)


class _InverseCommitter:
    """Commits to rows of inverses; each is one of the tables' few, so that it is converted once.

    Attributes:
        places: for each block of inverses which table entries they belong to.
    """

    def __init__(self, inventory: Inventory, early: Early) -> None:
        self.inverses = table_inverses(inventory, early)
        self.places: dict[str, np.ndarray] = {}
        self._made: dict[int, Scalar] = {}

    def commit(self, places: np.ndarray, blindings: np.ndarray) -> list[G1Point]:
        """One point a row."""
        points = [*generators(places.shape[1]), blinding_generator()]

        def one(index: int) -> G1Point:
            scalars = [self._converted(place) for place in places[index].tolist()]
            return G1Point.multiexp_unchecked(points, [*scalars, scalar(blindings[index])])

        return _in_threads(one, len(places))

    def _converted(self, place: int) -> Scalar:
        if place not in self._made:
            self._made[place] = scalar(self.inverses[place])
        return self._made[place]


def auxiliary_rows(
    inventory: Inventory, rows: Mapping[str, np.ndarray], committer: _InverseCommitter, early: Early
) -> dict[str, np.ndarray]:
    """Inverses of everything looked up, and the rows that carry a functional through a product."""
    committer.places = entry_indices(rows, inventory)
    made = {name: committer.inverses[places] for name, places in committer.places.items()}
    shape, n = inventory.shape, inventory.n
    omega = powers(early.omega, max(inventory.widths.values()), 1)
    tau = powers(early.tau, n, 1)
    t, u = causal_pairs(n)
    made["norm.u"] = _applied(rows[STREAM], omega).reshape(-1, n)
    seen = _applied(rows["v"], omega).reshape(shape.layers, n, shape.groups)
    made["mixed.u"] = (seen[:, u] * tau[t][None, :, None] % ORDER).transpose(0, 2, 1).reshape(-1, t.size)
    outs = [_applied(rows[f"layers.{layer}.o"], omega) for layer in range(shape.layers)]
    made["o.u"] = np.concatenate(outs).reshape(-1, shape.head_dim)
    made["down.u"] = np.stack([_applied(rows[f"layers.{layer}.down"], omega) for layer in range(shape.layers)])
    return made


def _applied(matrix: np.ndarray, functional: np.ndarray) -> np.ndarray:
    """Each row under a functional: (m, w) and at least (w,) -> (m,)."""
    return combine(functional[: matrix.shape[1]], np.ascontiguousarray(matrix.T))


def _commit_rows(values: np.ndarray, blindings: np.ndarray) -> list[G1Point]:
    is_short = values.dtype != object or (values.size and max(abs(v) for v in values.ravel().tolist()) < _SHORT)
    if not is_short:
        return _in_threads(lambda i: commit(values[i] % ORDER, int(blindings[i])), len(values))
    committer = ShortCommitter(values.shape[1], int(np.abs(values).max(initial=0)))
    return _in_threads(lambda i: committer.commit(values[i], int(blindings[i])), len(values))


def _in_threads(one: Callable[[int], G1Point], count: int) -> list[G1Point]:
    """`one` of 0, ..., count - 1; the curve library lets other threads run meanwhile."""
    workers = available_cores()
    if workers == 1 or count < 2:
        return [one(index) for index in range(count)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(count)))


def _sumchecks(
    inventory: Inventory,
    claim: Claim,
    rows: Mapping[str, np.ndarray],
    theta: int,
    transcript: Transcript,
    step: Callable[[int, int], None],
) -> tuple[list[Opened], list[Ended]]:
    """Every group's sum, committed but for the last, which follows; and its sumcheck."""
    pairs = [_matrices(claim.terms[group], rows, inventory.widths[group], theta) for group in GROUPS]
    totals = [int((left * right).sum() % ORDER) for left, right in pairs[:-1]]
    sums = [Opened(integers([total]), random_scalar()) for total in totals]
    transcript.absorb("sums", encode_points([commit(item.values, item.blinding) for item in sums]))
    rest = -sum(item.blinding for item in sums) % ORDER
    last = (claim.value - sum(totals)) % ORDER
    ended = []
    for index, total in enumerate([*sums, Opened(integers([last]), rest)]):
        ended.append(prove_sumcheck(*pairs.pop(0), total, transcript))
        step(index + 1, len(GROUPS))
    return sums, ended


def _matrices(
    terms: list[Term], rows: Mapping[str, np.ndarray], width: int, theta: int
) -> tuple[np.ndarray, np.ndarray]:
    """P and Q of a group: (R, width) each."""
    columns = powers(theta, width, 1)
    lefts, rights = [], []
    for term in terms:
        left = term.left.rows(rows, term.count, width)
        lefts.append(left * columns % ORDER if term.is_weighted else left)
        rights.append(term.right.rows(rows, term.count, width))
    return np.concatenate(lefts), np.concatenate(rights)


def _closing_pairs(
    known: _Known, closings: list[Closing], ended: list[Ended], ends: list[Opened], factors: np.ndarray
) -> list[OpenedPair]:
    pairs = []
    for index, (closing, e) in enumerate(zip(closings, ended, strict=True)):
        width = closing.on_plain.size
        plain, right, weighted, every = (known.opened(total, width) for total in closing.sums)
        first, second = ends[2 * index], ends[2 * index + 1]
        vectors = ((plain, right), (weighted, every), (first, second), (e.last, second))
        weights = closing.weights(factors[3 * index : 3 * index + 3])
        pairs += [OpenedPair(a, b, w) for (a, b), w in zip(vectors, weights, strict=True)]
    return pairs


def _combined(scalars: list[Opened], zeta: int) -> Opened:
    """All committed single numbers under powers of zeta."""
    weights = powers(zeta, len(scalars), 1)
    value = dot(weights, integers(int(item.values[0]) for item in scalars))
    return Opened(integers([value]), dot(weights, integers(item.blinding for item in scalars)))


def _reporter(report: Report | None) -> Callable[[str], Callable[[int, int], None]]:
    """From a stage's name to what is called with (done, all)."""

    def stage(name: str) -> Callable[[int, int], None]:
        def step(done: int, total: int) -> None:
            if report:
                report(Progress(name, done, total))

        return step

    return stage
