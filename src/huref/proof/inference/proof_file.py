"""The proof of an answer as bytes: proof-inference-v1, section 9.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.files.canonical_json import canonical_json
from huref.proof.arithmetic.curve import POINT_BYTES, SCALAR_BYTES, decode_scalars
from huref.proof.arithmetic.field import to_bytes
from huref.proof.arithmetic.quadratic import QuadraticProof
from huref.proof.files.container import Frame, Reader
from huref.proof.inference.inventory import GROUPS, Inventory
from huref.proof.inference.precision import PRECISIONS, Scales, Shape
from huref.proof.inference.sumcheck import rounds
from huref.version import __version__

SCHEMA = "huref.inference-proof/1"
FRAME = Frame(b"HUREFIP1", "inference proof")
MOST_TOKENS = 128
LOGIT_BYTES = 4


@dataclass(frozen=True)
class Statement:
    """What is proved, but for the logits.

    Attributes:
        root: of the commitment.
        precision: a name of `PRECISIONS`.
        tokens: the prompt.
        version: of the huref that made it, a claim.
    """

    root: bytes
    precision: str
    tokens: tuple[int, ...]
    version: str

    def to_dict(self) -> dict[str, Any]:
        """The header."""
        return {
            "schema": SCHEMA,
            "root": self.root.hex(),
            "precision": self.precision,
            "tokens": list(self.tokens),
            "version": self.version,
        }

    def inventory(self, shape: Shape) -> Inventory:
        """Everything that a proof of this statement holds.

        Raises:
            ValueError: the tokens do not fit the shape.
        """
        if not 1 <= len(self.tokens) <= MOST_TOKENS or not all(
            0 <= token < shape.vocabulary for token in self.tokens
        ):
            raise ValueError("tokens out of range")
        return Inventory(Scales(PRECISIONS[self.precision], shape), self.tokens)

    @classmethod
    def of(cls, root: bytes, precision: str, tokens: tuple[int, ...]) -> Statement:
        """Made by this huref."""
        return cls(root, precision, tokens, __version__)


@dataclass(frozen=True)
class InferenceProof:
    """A proof.

    Attributes:
        statement: what of.
        logits: (V,) int64 of the last position, at scale `logit_scale`.
        activations, auxiliaries, sums, rounds, ends: points, encoded, in the order of the transcript.
        quadratic: what closes it.
    """

    statement: Statement
    logits: np.ndarray
    activations: bytes
    auxiliaries: bytes
    sums: bytes
    rounds: bytes
    ends: bytes
    quadratic: QuadraticProof

    def to_bytes(self) -> bytes:
        """The file."""
        closing = self.quadratic
        scalars = [*closing.responses, np.array([*closing.blindings, closing.tau], dtype=object)]
        return FRAME.pack(
            self.statement.to_dict(),
            logit_bytes(self.logits)
            + self.activations
            + self.auxiliaries
            + self.sums
            + self.rounds
            + self.ends
            + closing.masks
            + b"".join(to_bytes(values, SCALAR_BYTES) for values in scalars),
        )


def logit_bytes(logits: np.ndarray) -> bytes:
    """32 bits each, two's complement, little-endian."""
    return logits.astype("<i4").tobytes()


def header_bytes(statement: Statement) -> bytes:
    """The header as the file and the transcript have it."""
    return canonical_json(statement.to_dict()).encode()


def term_rows(inventory: Inventory) -> dict[str, int]:
    """Rows of each group's sumcheck: products, then a row for each functional that linear parts are under."""
    shape, norms, n = inventory.shape, inventory.norms, inventory.n
    layers, h, g = shape.layers, shape.heads, shape.groups
    rows = {
        "d": norms * n + layers * n + layers + 2 + 3,
        "f": -(-inventory.n_entries // shape.hidden) + layers * n + layers + 3,
        "e": layers * n * g + layers * h + 2,
        "t": layers * (2 * h + g) + 6,
        "n": 3 * norms + 2,
    }
    for lookup in inventory.lookups:
        rows[lookup.inverse.group] += lookup.inverse.rows
    return rows


def closing_lengths(inventory: Inventory) -> list[int]:
    """Lengths of the vectors of the closing protocol, left and right of each pair in turn."""
    lengths = []
    for group in GROUPS:
        lengths += [inventory.widths[group]] * 4 + [1] * 4
    return [*lengths, 1, 1]


def parse_statement(data: bytes, where: str) -> tuple[Statement, Reader]:
    """The header; the rest of the bytes wait in the reader.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    return FRAME.open(data, where, _statement)


def parse_rest(statement: Statement, reader: Reader, inventory: Inventory) -> InferenceProof:
    """Everything after the header.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """

    def points(count: int, what: str) -> bytes:
        return reader.take(count * POINT_BYTES, what)

    logits = np.frombuffer(reader.take(inventory.shape.vocabulary * LOGIT_BYTES, "logits"), "<i4").astype(np.int64)
    activations = points(sum(block.rows for block in inventory.activations), "activations")
    auxiliaries = points(sum(block.rows for block in inventory.auxiliaries), "auxiliary rows")
    rows = term_rows(inventory)
    sums = points(len(GROUPS) - 1, "sums")
    count = sum(sum(rounds(rows[group], inventory.widths[group])) for group in GROUPS)
    messages, ends = points(2 * count, "rounds"), points(2 * len(GROUPS), "ends")
    lengths = closing_lengths(inventory)
    masks = points(len(lengths) + 2, "masks")
    responses = [decode_scalars(reader.take(n * SCALAR_BYTES, "responses"), reader.where) for n in lengths]
    blindings = decode_scalars(reader.take((len(lengths) + 1) * SCALAR_BYTES, "blindings"), reader.where).tolist()
    reader.end()
    closing = QuadraticProof(masks, tuple(responses), tuple(blindings[:-1]), blindings[-1])
    return InferenceProof(statement, logits, activations, auxiliaries, sums, messages, ends, closing)


def _statement(document: Mapping[str, Any]) -> Statement:
    tokens, precision, version = document["tokens"], document["precision"], document["version"]
    root = bytes.fromhex(document["root"])
    is_right = document["schema"] == SCHEMA and len(root) == 32 and precision in PRECISIONS
    is_list = isinstance(tokens, list) and all(isinstance(t, int) and not isinstance(t, bool) for t in tokens)
    if not is_right or not is_list or not isinstance(version, str) or len(version) > 64:
        raise ValueError("another schema, or a root, precision, version or tokens that cannot be")
    made = Statement(root, precision, tuple(tokens), version)
    if made.to_dict() != dict(document):
        raise ValueError("keys that nothing claims")
    return made
