"""Proofs about sketches as files: proof-v1, section 5.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.files.canonical_json import canonical_json
from huref.proof.arithmetic.curve import POINT_BYTES, SCALAR_BYTES, decode_scalars
from huref.proof.arithmetic.field import byte_length, from_bytes, to_bytes
from huref.proof.arithmetic.quadratic import QuadraticProof
from huref.proof.arithmetic.signs import pack_choice, unpack_choice
from huref.proof.files.container import Frame, Reader, checked
from huref.proof.files.layout import Layout

FRAME = Frame(b"HUREFPF1", "proof")
SCHEMA = "huref.proof/1"
KINDS = ("fingerprint", "compare")
ROWS = range(8, 513, 4)
"""What m may be, as in a recipe."""


@dataclass(frozen=True)
class Claim:
    """The header of a proof.

    Attributes:
        kind: one of `KINDS`.
        root: of the commitment, 32 bytes.
        peer: root of the other commitment, or None.
        seed: of the signs.
        rows: m.
        width: bytes of a sketch number.
        version: the huref that made it.
    """

    kind: str
    root: bytes
    peer: bytes | None
    seed: str
    rows: int
    width: int
    version: str

    def __post_init__(self) -> None:
        is_whole = all(type(value) is int for value in (self.rows, self.width))
        if not is_whole or self.rows not in ROWS or not 1 <= self.width <= 31:
            raise ValueError("rows or bytes out of range")
        if self.kind not in KINDS or (self.kind == "compare") != (self.peer is not None):
            raise ValueError("a kind without its peer, or an unknown one")
        if len(self.root) != 32 or (self.peer is not None and len(self.peer) != 32):
            raise ValueError("a root that is not 32 bytes")
        if not isinstance(self.seed, str) or not isinstance(self.version, str):
            raise TypeError("seed or version that is no text")

    def to_dict(self) -> dict[str, Any]:
        """The header as JSON has it."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "root": self.root.hex(),
            "peer": None if self.peer is None else self.peer.hex(),
            "seed": self.seed,
            "rows": self.rows,
            "bytes": self.width,
            "version": self.version,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Claim:
        """The inverse of `to_dict`.

        Raises:
            ValueError, KeyError, TypeError: it says something impossible.
        """
        peer = document["peer"]
        made = cls(
            document["kind"],
            bytes.fromhex(document["root"]),
            None if peer is None else bytes.fromhex(peer),
            document["seed"],
            document["rows"],
            document["bytes"],
            document["version"],
        )
        if made.to_dict() != dict(document):
            raise ValueError("keys that nothing claims, or another schema")
        return made


@dataclass(frozen=True)
class SketchProof:
    """A proof that sketches come from committed integers.

    Attributes:
        claim: what is proved.
        chosen: (K,) bool, the tokens that take part.
        sketches: Y by term key, (m, m) objects each.
        products: points `V_t,j` and `U_t,j`, encoded.
        quadratic: section 8.
    """

    claim: Claim
    chosen: np.ndarray
    sketches: Mapping[str, np.ndarray]
    products: bytes
    quadratic: QuadraticProof

    def bound(self) -> tuple[tuple[str, bytes], ...]:
        """The messages that open the transcript, with their labels: section 6."""
        return (
            ("header", canonical_json(self.claim.to_dict()).encode()),
            ("tokens", pack_choice(self.chosen)),
            ("sketches", sketch_bytes(self.sketches, self.claim.width)),
        )

    def to_bytes(self) -> bytes:
        """The file."""
        q = self.quadratic
        scalars = [*np.concatenate(q.responses).tolist(), *q.blindings, q.tau]
        sections = [data for _, data in self.bound()[1:]]
        sections += [self.products, q.masks, b"".join(int(v).to_bytes(SCALAR_BYTES, "little") for v in scalars)]
        return FRAME.pack(self.claim.to_dict(), b"".join(sections))


def sketch_bytes(sketches: Mapping[str, np.ndarray], width: int) -> bytes:
    """All Y, term after term, row after row."""
    return b"".join(to_bytes(Y, width, signed=True) for Y in sketches.values())


def pieces(layout: Layout) -> list[tuple[int, slice]]:
    """(index of the term, slice of its r_t rows) of every committed piece of `v_t` or `u_t`: section 6, 3."""
    width = layout.width
    return [
        (index, slice(start, min(start + width, layout.rank(term))))
        for index, term in enumerate(layout.terms)
        for start in range(0, layout.rank(term), width)
    ]


def pair_lengths(layout: Layout) -> list[int]:
    """n_k of every pair of the sigma protocol: section 6, 5."""
    return [layout.width] * 2 + [piece.stop - piece.start for _, piece in pieces(layout)]


def parse_proof(data: bytes, layout: Layout, where: str) -> SketchProof:
    """Read a proof about a commitment of this layout, strictly. Its points are not decoded.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    claim, reader = FRAME.open(data, where, Claim.from_dict)
    choice = reader.take((layout.n_tokens + 7) // 8, "the choice of tokens")
    chosen = checked(reader, lambda: unpack_choice(choice, layout.n_tokens))
    m, count = claim.rows, len(layout.terms)
    numbers = from_bytes(reader.take(count * m * m * claim.width, "sketches"), claim.width, signed=True)
    if byte_length(numbers) != claim.width:
        raise reader.fault(
            "writes sketches in more bytes than they need", str(byte_length(numbers)), str(claim.width)
        )
    sketches = dict(zip((t.key for t in layout.terms), numbers.reshape(count, m, m), strict=True))
    products = reader.take(2 * len(pieces(layout)) * POINT_BYTES, "products")
    return SketchProof(claim, chosen, sketches, products, _take_quadratic(reader, pair_lengths(layout)))


def claim_of(data: bytes, where: str) -> Claim:
    """What a proof claims, without a commitment at hand."""
    return FRAME.open(data, where, Claim.from_dict)[0]


def _take_quadratic(reader: Reader, lengths: list[int]) -> QuadraticProof:
    masks = reader.take((2 * len(lengths) + 2) * POINT_BYTES, "masks")
    count = 2 * sum(lengths) + 2 * len(lengths) + 1
    scalars = decode_scalars(reader.take(count * SCALAR_BYTES, "responses"), reader.where)
    reader.end()
    ends = np.cumsum([length for length in lengths for _ in range(2)])
    *responses, rest = np.split(scalars, ends)
    return QuadraticProof(masks, tuple(responses), tuple(rest[:-1].tolist()), int(rest[-1]))
