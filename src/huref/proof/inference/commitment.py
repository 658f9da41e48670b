"""Commitments to all weights of a model: proof-inference-v1, section 9.1 and 9.2."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from huref.errors import UsageError
from huref.proof.arithmetic.curve import POINT_BYTES, ShortCommitter, encode_points
from huref.proof.arithmetic.field import integers, reduced
from huref.proof.files.container import Frame, root_of
from huref.proof.inference.model import IntegerModel
from huref.proof.inference.precision import Shape

SCHEMA = "huref.inference-commitment/1"
NAME = "inference-commitment"
FRAME = Frame(b"HUREFIC1", "inference commitment")
OPENING_FRAME = Frame(b"HUREFIO1", "inference opening")
OPENING_SCHEMA = "huref.inference-opening/1"
_DOMAIN = b"huref/inference-root/1"
_BLINDING_DOMAIN = b"huref/inference-row-blinding/1"
_WEIGHTS_DOMAIN = b"huref/inference-weights/1"
_LARGEST = (1 << 15) - 1


@dataclass(frozen=True)
class InferenceCommitment:
    """The public commitment.

    Attributes:
        model: a name, a claim.
        shape: sizes, constants and exponents.
        points: one a row of every matrix, encoded, not yet checked.
    """

    model: str
    shape: Shape
    points: bytes

    @cached_property
    def root(self) -> bytes:
        """32 bytes that bind everything."""
        return root_of(_DOMAIN, self._header(), self.points)

    def to_bytes(self) -> bytes:
        """The file."""
        return FRAME.pack(self._header(), self.points)

    def _header(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "model": self.model, "shape": self.shape.to_dict()}


@dataclass(frozen=True)
class InferenceOpening:
    """What only the owner has; the integers themselves come from the model again.

    Attributes:
        root: of the commitment that it opens.
        seed: 32 bytes, the source of all blindings.
        weights: a digest of the integers, to notice another model.
    """

    root: bytes
    seed: bytes
    weights: bytes

    def __repr__(self) -> str:
        return f"InferenceOpening(root={self.root.hex()}, <secret>)"

    def to_bytes(self) -> bytes:
        """The file; to be kept secret."""
        return OPENING_FRAME.pack({"schema": OPENING_SCHEMA}, self.root + self.seed + self.weights)

    def blindings(self, shape: Shape) -> dict[str, np.ndarray]:
        """For each matrix a field element per row."""
        out, start = {}, 0
        for name, rows in shape.matrices().items():
            out[name] = integers(_blinding(self.seed, i) for i in range(start, start + rows))
            start += rows
        return out


def commit_model(
    model: IntegerModel, name: str, step: Callable[[int, int], None] | None = None
) -> tuple[InferenceCommitment, InferenceOpening]:
    """Commit to every row of every matrix: about 2 microseconds a weight.

    Args:
        name: what the commitment calls the model, a claim.
        step: called with (rows done, rows).
    """
    seed, committer = secrets.token_bytes(32), ShortCommitter(model.shape.width, _LARGEST)
    points, done = bytearray(), 0
    for matrix in model.matrices.values():
        made = [committer.commit(row, _blinding(seed, done + i)) for i, row in enumerate(matrix)]
        points += encode_points(made)
        done += len(made)
        if step:
            step(done, model.shape.n_rows)
    commitment = InferenceCommitment(name, model.shape, bytes(points))
    return commitment, InferenceOpening(commitment.root, seed, weights_digest(model))


def weights_digest(model: IntegerModel) -> bytes:
    """SHA-256 of all integers."""
    state = hashlib.sha256(_WEIGHTS_DOMAIN)
    for matrix in model.matrices.values():
        state.update(np.ascontiguousarray(matrix, "<i2").tobytes())
    return state.digest()


def require_same_weights(model: IntegerModel, opening: InferenceOpening, commitment: InferenceCommitment) -> None:
    """Refuse another model, or another commitment, than the opening's.

    Raises:
        UsageError: either.
    """
    if opening.root != commitment.root or weights_digest(model) != opening.weights:
        raise UsageError(
            "the model, the commitment and its opening do not belong together",
            where=commitment.model,
            expected=f"root {opening.root.hex()}",
            got=f"root {commitment.root.hex()}, or other weights",
            next_step="name the model that was committed, and the folder that `huref commit` wrote for it",
        )


def parse_commitment(data: bytes, where: str) -> InferenceCommitment:
    """Read strictly; points are not decoded here.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    (model, shape), reader = FRAME.open(data, where, _from_header)
    points = reader.take(shape.n_rows * POINT_BYTES, "points")
    reader.end()
    return InferenceCommitment(model, shape, points)


def parse_opening(data: bytes, where: str) -> InferenceOpening:
    """Read strictly.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    _, reader = OPENING_FRAME.open(data, where, _require_opening)
    parts = [reader.take(32, what) for what in ("root", "seed", "weights")]
    reader.end()
    return InferenceOpening(*parts)


def _from_header(document: Mapping[str, Any]) -> tuple[str, Shape]:
    model, shape = document["model"], Shape.from_dict(document["shape"])
    is_right = set(document) == {"schema", "model", "shape"} and document["schema"] == SCHEMA
    if not is_right or not isinstance(model, str) or len(model) > 4096 or shape.to_dict() != document["shape"]:
        raise ValueError("keys that nothing claims, or another schema")
    return model, shape


def _require_opening(document: Mapping[str, Any]) -> None:
    if document != {"schema": OPENING_SCHEMA}:
        raise ValueError(f"another schema than {OPENING_SCHEMA}")


def _blinding(seed: bytes, index: int) -> int:
    data = hashlib.shake_256(_BLINDING_DOMAIN + seed + index.to_bytes(8, "little")).digest(64)
    return int(reduced(data)[0])
