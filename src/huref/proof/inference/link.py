"""The rows of a fingerprint's commitment are rows of an inference commitment: proof-v1, section 14. No torch.

It ties pi_1 to pi_inf: the model that answers is the model whose portrait was proved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from huref.errors import RejectedError
from huref.files.canonical_json import canonical_json
from huref.proof.arithmetic.curve import (
    POINT_BYTES,
    SCALAR_BYTES,
    blinding_generator,
    decode_points,
    decode_scalars,
    encode_points,
    scalar,
)
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER, integers, powers, random_scalar
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.commitment import Commitment
from huref.proof.files.container import Frame
from huref.proof.files.layout import EMBEDDING, Layout, Term
from huref.proof.inference.commitment import InferenceCommitment
from huref.proof.inference.precision import Shape

NAME = "link"
FRAME = Frame(b"HUREFLK1", "link")
SCHEMA = "huref.link/1"
_rejected = partial(
    RejectedError,
    where="link",
    got="others",
    next_step="the fingerprint and the answers are not shown to be of one model",
)
_ROLES = ("q", "k", "v", "o", "gate", "down")


@dataclass(frozen=True)
class LinkProof:
    """A proof that two commitments hold the same rows.

    Attributes:
        root: of the fingerprint's commitment.
        inference: root of the inference commitment.
        tokens: ids of the K tokens, in the order of the fingerprint's commitment: rows of the embedding.
        point: `T`, encoded.
        response: of the Schnorr protocol.
    """

    root: bytes
    inference: bytes
    tokens: tuple[int, ...]
    point: bytes
    response: int

    def header(self) -> dict[str, Any]:
        """What is claimed."""
        return {
            "schema": SCHEMA,
            "root": self.root.hex(),
            "inference": self.inference.hex(),
            "tokens": list(self.tokens),
        }

    def to_bytes(self) -> bytes:
        """The file."""
        return FRAME.pack(self.header(), self.point + self.response.to_bytes(SCALAR_BYTES, "little"))


def layer_matrices(layer: int) -> tuple[str, ...]:
    """Names of the matrices of a layer that a fingerprint's commitment has, in order."""
    return tuple(f"layers.{layer}.{role}" for role in _ROLES)


def layer_terms(shape: Shape, layer: int) -> tuple[Term, ...]:
    """The terms of a layer over its own matrices; heads of a group are summed."""
    q, k, v, o, gate, down = layer_matrices(layer)
    groups = shape.heads // shape.groups
    head = shape.head_dim if groups > 1 else 0
    return (
        Term(f"{layer}.qk", q, k, (groups, 1), head),
        Term(f"{layer}.vo", v, o, (1, groups), head),
        Term(f"{layer}.gate_down", gate, down),
    )


def linked_rows(layout: Layout, shape: Shape, tokens: tuple[int, ...]) -> np.ndarray:
    """(N,) for each row of the fingerprint's commitment its place among the inference commitment's rows.

    Raises:
        ValueError: matrices, terms, sizes or exponents that do not fit.
    """
    layers = sorted({term.layer for term in layout.terms})
    names = [EMBEDDING, *(name for layer in layers for name in layer_matrices(layer))]
    terms = tuple(term for layer in layers for term in layer_terms(shape, layer))
    sizes = shape.matrices()
    if [m.name for m in layout.matrices] != names or layout.terms != terms or layout.width != shape.width:
        raise ValueError("matrices or terms of another shape")
    if any(m.exponent != shape.exponents[m.name] for m in layout.matrices):
        raise ValueError("exponents that differ")
    if len(tokens) != layout.n_tokens or len(set(tokens)) != len(tokens):
        raise ValueError("as many different token ids as tokens expected")
    if not all(0 <= token < sizes[EMBEDDING] for token in tokens):
        raise ValueError("token ids out of range")
    starts, start = {}, 0
    for name, rows in sizes.items():
        starts[name] = start
        start += rows
    blocks = [np.array(tokens, np.int64) + starts[EMBEDDING]]
    for matrix in layout.matrices[1:]:
        if matrix.rows != sizes[matrix.name]:
            raise ValueError("a matrix of another height")
        blocks.append(np.arange(matrix.rows) + starts[matrix.name])
    return np.concatenate(blocks)


def prove_link(
    commitment: Commitment,
    inference: InferenceCommitment,
    tokens: tuple[int, ...],
    blindings: tuple[np.ndarray, np.ndarray],
) -> LinkProof:
    """Show that the rows are the same; both blindings in the order of each commitment's rows.

    Raises:
        ValueError: see `linked_rows`.
    """
    places = linked_rows(commitment.layout, inference.shape, tokens)
    started = LinkProof(commitment.root, inference.root, tokens, b"", 0)
    transcript, weights = _begin(started, places.size)
    z = int((weights * (blindings[0] - blindings[1][places])).sum() % ORDER)
    t = random_scalar()
    point = encode_points([blinding_generator() * scalar(t)])
    transcript.absorb("mask", point)
    response = (t + transcript.challenge("e") * z) % ORDER
    return LinkProof(commitment.root, inference.root, tokens, point, response)


def verify_link(commitment: Commitment, inference: InferenceCommitment, link: LinkProof) -> None:
    """Check a link; the two commitments are not checked here.

    Raises:
        RejectedError: it does not hold, or is about other commitments.
        CorruptFileError: a point that cannot be accepted.
    """
    if (link.root, link.inference) != (commitment.root, inference.root):
        raise _rejected(
            "a link between other commitments", expected=f"{commitment.root.hex()} and {inference.root.hex()}"
        )
    try:
        places = linked_rows(commitment.layout, inference.shape, link.tokens)
    except (ValueError, KeyError) as error:
        raise _rejected("a link between commitments that do not fit", expected=str(error)) from None
    transcript, weights = _begin(link, places.size)
    transcript.absorb("mask", link.point)
    e = transcript.challenge("e")
    theirs = b"".join(inference.points[i * POINT_BYTES : (i + 1) * POINT_BYTES] for i in places.tolist())
    equations = PointEquations()
    mask = equations.extend(decode_points(link.point, "link"))
    own = equations.extend(decode_points(commitment.points, "commitment"))
    other = equations.extend(decode_points(theirs, "inference commitment"))
    difference = Combination(((own, weights), (other, -weights % ORDER)))
    equations.require(integers([]), link.response, Combination.of_point(mask) + difference.scaled(e))
    if not equations.hold():
        raise _rejected("the two commitments do not hold the same rows", expected="rows that are equal")


def parse_link(data: bytes, where: str) -> LinkProof:
    """Read a link strictly.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    claim, reader = FRAME.open(data, where, _from_header)
    point = reader.take(POINT_BYTES, "the mask")
    response = int(decode_scalars(reader.take(SCALAR_BYTES, "the response"), where)[0])
    reader.end()
    return replace(claim, point=point, response=response)


def _from_header(document: Mapping[str, Any]) -> LinkProof:
    """What is claimed, without its proof."""
    root, inference = (bytes.fromhex(document[name]) for name in ("root", "inference"))
    tokens = tuple(document["tokens"])
    if len(root) != 32 or len(inference) != 32 or not all(type(token) is int for token in tokens):
        raise ValueError("two roots and token ids expected")
    made = LinkProof(root, inference, tokens, b"", 0)
    if made.header() != dict(document):
        raise ValueError("keys that nothing claims, or another schema")
    return made


def _begin(link: LinkProof, count: int) -> tuple[Transcript, np.ndarray]:
    """The transcript after its statement, and the weights `rho^1, ..., rho^N`."""
    transcript = Transcript(SCHEMA)
    transcript.absorb("header", canonical_json(link.header()).encode())
    return transcript, powers(transcript.challenge("rho"), count, first=1)
