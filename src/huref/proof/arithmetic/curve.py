"""BLS12-381 G1 as the proofs use it: generators, sums of multiples, strict encodings. proof-v1, section 2.

The curve is py-arkworks-bls12381's; nothing here does curve arithmetic of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from huref.errors import CorruptFileError, UsageError
from huref.proof.arithmetic.field import ORDER

try:
    from py_arkworks_bls12381 import G1Point, Scalar
except ImportError as error:  # pragma: no cover - the test environment has it
    raise UsageError(
        "proofs need a curve library that is not installed",
        where="py-arkworks-bls12381",
        expected="the extra `proof`",
        next_step="pip install 'huref[proof]'",
    ) from error

POINT_BYTES = 48
SCALAR_BYTES = 32
SUITE = b"HUREF-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"

_made: list[G1Point] = []


def generators(count: int) -> Sequence[G1Point]:
    """`G_0, ..., G_(count - 1)`; each is made once in a process."""
    for index in range(len(_made), count):
        _made.append(G1Point.hash_to_curve(b"huref/generator/1/" + index.to_bytes(4, "little"), SUITE))
    return _made[:count]


@lru_cache(maxsize=1)
def blinding_generator() -> G1Point:
    """`H`."""
    return G1Point.hash_to_curve(b"huref/blinding-generator/1", SUITE)


def scalar(value: int) -> Scalar:
    """A field element as the curve library has it."""
    return Scalar.from_le_bytes((value % ORDER).to_bytes(32, "little"))


def multiply_sum(points: Sequence[G1Point], coefficients: Sequence[int]) -> G1Point:
    """`sum_i coefficients_i points_i`; the identity for none.

    Raises:
        ValueError: lists of different lengths.
    """
    if len(points) != len(coefficients):
        raise ValueError(f"{len(points)} points and {len(coefficients)} coefficients")
    if not points:
        return G1Point.identity()
    return G1Point.multiexp_unchecked(list(points), [scalar(value) for value in coefficients])


class ShortCommitter:
    """Commits to rows of short integers: a negative entry takes the negated generator, so that all scalars are short.

    Args:
        width: entries of a row (d).
        largest: no entry is larger in size than this.
    """

    def __init__(self, width: int, largest: int) -> None:
        self._signed = [(point, -point) for point in generators(width)]
        self._table = [Scalar(value) for value in range(largest + 1)] if largest < 1 << 16 else None

    def commit(self, row: np.ndarray, blinding: int) -> G1Point:
        """`Com(row; blinding)` for a row of integers."""
        entries = row.tolist()
        points = [pair[value < 0] for pair, value in zip(self._signed, entries, strict=True)]
        table = self._table
        scalars = [table[abs(v)] for v in entries] if table else [Scalar(abs(v)) for v in entries]
        return G1Point.multiexp_unchecked(points, scalars) + blinding_generator() * scalar(blinding)


def commit(vector: np.ndarray, blinding: int) -> G1Point:
    """`Com(vector; blinding)` for at most d field elements."""
    points = [*generators(vector.size), blinding_generator()]
    return multiply_sum(points, [*vector.tolist(), blinding])


def encode_points(points: Sequence[G1Point]) -> bytes:
    """48 bytes each."""
    return b"".join(bytes(point.to_compressed_bytes()) for point in points)


def decode_points(data: bytes, where: str) -> list[G1Point]:
    """Strictly: on the curve, in the subgroup, not the identity, and in the one encoding.

    Raises:
        CorruptFileError: any point is not.
    """
    points = []
    for start in range(0, len(data), POINT_BYTES):
        piece = data[start : start + POINT_BYTES]
        try:
            point = G1Point.from_compressed_bytes(piece)
        except (ValueError, TypeError):
            raise _bad_point(where, start // POINT_BYTES, "no point of the group") from None
        if bytes(point.to_compressed_bytes()) != piece:
            raise _bad_point(where, start // POINT_BYTES, "another encoding of a point")
        if point == G1Point.identity():
            raise _bad_point(where, start // POINT_BYTES, "the identity")
        points.append(point)
    return points


def decode_scalars(data: bytes, where: str) -> np.ndarray:
    """Strictly: 32 bytes each, below p.

    Raises:
        CorruptFileError: any scalar is not.
    """
    values = np.empty(len(data) // SCALAR_BYTES, dtype=object)
    for index in range(values.size):
        values[index] = int.from_bytes(data[index * SCALAR_BYTES : (index + 1) * SCALAR_BYTES], "little")
        if values[index] >= ORDER:
            raise CorruptFileError(
                "a scalar that is not canonical",
                where=f"{where}: scalar {index}",
                expected="32 bytes, little-endian, less than the group's order",
                next_step="the file is damaged or forged: ask its maker for it again",
            )
    return values


def _bad_point(where: str, index: int, got: str) -> CorruptFileError:
    return CorruptFileError(
        "a point that cannot be accepted",
        where=f"{where}: point {index}",
        expected="a compressed point of BLS12-381 G1's prime-order subgroup, not the identity",
        got=got,
        next_step="the file is damaged or forged: ask its maker for it again",
    )
