"""Commit and open: random rows of a commitment, shown in the clear. proof-v1, section 13. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from huref.errors import RejectedError, UsageError
from huref.proof.arithmetic.curve import POINT_BYTES, SCALAR_BYTES, decode_points, decode_scalars
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import to_bytes
from huref.proof.files.commitment import Commitment
from huref.proof.files.container import Frame
from huref.proof.files.opening import Opening

FRAME = Frame(b"HUREFRW1", "file of opened rows")
SCHEMA = "huref.rows/1"
_DOMAIN = b"huref/rows/1"
_NONCE = range(16, 65)
_rejected = partial(RejectedError, next_step="the owner has not answered this audit: do not rely on the commitment")


@dataclass(frozen=True)
class OpenedRows:
    """Rows that an owner has opened on request.

    Attributes:
        root: of the commitment.
        nonce: the auditor's, 16 to 64 bytes, chosen after the root was known.
        rows: (n, d) int16, in the order of `chosen_rows`.
        blindings: (n,) objects.
        version: the huref that wrote it, a claim.
    """

    root: bytes
    nonce: bytes
    rows: np.ndarray
    blindings: np.ndarray
    version: str

    def to_bytes(self) -> bytes:
        """The file."""
        header = {
            "schema": SCHEMA,
            "root": self.root.hex(),
            "nonce": self.nonce.hex(),
            "count": len(self.rows),
            "version": self.version,
        }
        return FRAME.pack(header, self.rows.astype("<i2").tobytes() + to_bytes(self.blindings, SCALAR_BYTES))


def chosen_rows(root: bytes, nonce: bytes, count: int, n_rows: int) -> np.ndarray:
    """(count,) ascending indices, a sample without repeats that root and nonce decide.

    Rows are ranked by SHA-256(domain | root | nonce | u64 index); the smallest are taken.

    Raises:
        UsageError: more rows than there are, or a nonce that is too short to be random.
    """
    if not 1 <= count <= n_rows or len(nonce) not in _NONCE:
        raise UsageError(
            "no such audit",
            where="--count, --nonce",
            expected=f"1 to {n_rows} rows, a nonce of {_NONCE.start} to {_NONCE.stop - 1} bytes in hexadecimal",
            got=f"{count} rows, {len(nonce)} bytes",
            next_step="draw a nonce after the root is known, for instance with `openssl rand -hex 16`",
        )
    prefix = _DOMAIN + root + nonce
    ranks = [hashlib.sha256(prefix + index.to_bytes(8, "little")).digest() for index in range(n_rows)]
    return np.sort(np.array(sorted(range(n_rows), key=ranks.__getitem__)[:count]))


def open_rows(commitment: Commitment, opening: Opening, nonce: bytes, count: int, version: str) -> OpenedRows:
    """What the owner answers.

    Raises:
        UsageError: see `chosen_rows`.
    """
    chosen = chosen_rows(commitment.root, nonce, count, commitment.layout.n_rows)
    return OpenedRows(commitment.root, nonce, opening.rows[chosen], opening.blindings()[chosen], version)


def parse_rows(data: bytes, commitment: Commitment, where: str) -> OpenedRows:
    """Read opened rows of a commitment, strictly.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    (root, nonce, count, version), reader = FRAME.open(data, where, lambda document: _claim(document, commitment))
    rows = np.frombuffer(reader.take(2 * count * commitment.layout.width, "rows"), "<i2")
    blindings = decode_scalars(reader.take(count * SCALAR_BYTES, "blindings"), where)
    reader.end()
    found = OpenedRows(root, nonce, rows.reshape(count, -1), blindings, version)
    if found.to_bytes() != data:
        raise reader.fault("has a second encoding of something", "the one encoding", "another")
    return found


def verify_rows(commitment: Commitment, opened: OpenedRows, nonce: bytes) -> np.ndarray:
    """Check that the rows are those asked for and the committed ones; returns their indices.

    Raises:
        RejectedError: they are not, or an entry needs more bits than the commitment says.
        CorruptFileError: a point that cannot be accepted.
    """
    if opened.root != commitment.root or opened.nonce != nonce:
        raise _rejected("rows of another audit", where="root and nonce", expected="those of this audit", got="others")
    layout = commitment.layout
    chosen = chosen_rows(opened.root, nonce, len(opened.rows), layout.n_rows)
    largest = int(np.abs(opened.rows.astype(np.int32)).max())
    if largest >= 1 << (layout.bits - 1):
        raise _rejected("an integer of too many bits", where="rows", expected=f"{layout.bits} bits", got=str(largest))
    points = b"".join(commitment.points[i * POINT_BYTES : (i + 1) * POINT_BYTES] for i in chosen.tolist())
    equations = PointEquations()
    first = equations.extend(decode_points(points, "commitment"))
    for index, (row, blinding) in enumerate(zip(opened.rows, opened.blindings.tolist(), strict=True)):
        equations.require(row.astype(object), blinding, Combination.of_point(first + index))
    if not equations.hold():
        raise _rejected(
            "rows that are not the committed ones", where="rows", expected="openings of the commitment", got="others"
        )
    return chosen


def excluded_share(count: int, confidence: float = 0.95) -> float:
    """The share of bad rows that `count` good random ones exclude: `1 - (1 - confidence)^(1 / count)`."""
    return float(1.0 - (1.0 - confidence) ** (1.0 / count))


def _claim(document: Mapping[str, Any], commitment: Commitment) -> tuple[bytes, bytes, int, str]:
    """Root, nonce, count of rows, version."""
    count = document["count"]
    texts = [document[name] for name in ("root", "nonce", "version")]
    is_known = document["schema"] == SCHEMA and len(document) == 5 and all(isinstance(text, str) for text in texts)
    if not is_known or type(count) is not int or not 1 <= count <= commitment.layout.n_rows:
        raise ValueError("a count of rows, root, nonce and version expected")
    return bytes.fromhex(document["root"]), bytes.fromhex(document["nonce"]), count, document["version"]
