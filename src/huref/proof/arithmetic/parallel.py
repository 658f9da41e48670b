"""Decoding and checking many points in several processes: the checks are where a verifier's time goes."""

from __future__ import annotations

from py_arkworks_bls12381 import G1Point

from huref.errors import CorruptFileError
from huref.proof.arithmetic.curve import POINT_BYTES, decode_points
from huref.proof.arithmetic.workers import CHECK, available_cores, fault_of, run_tasks

_WORTH = 1 << 14
"""Points below which starting processes costs more than it saves."""

_CHUNK = 2048
_XY_BYTES = 96


def decode_many_points(data: bytes, where: str) -> list[G1Point]:
    """As `huref.proof.arithmetic.curve.decode_points`, every check included, on all cores where that is worth it.

    Raises:
        CorruptFileError: a point that cannot be accepted.
    """
    workers = available_cores()
    if workers == 1 or len(data) < _WORTH * POINT_BYTES:
        return decode_points(data, where)
    size = _CHUNK * POINT_BYTES
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    points: list[G1Point] = []
    for index, checked in enumerate(run_tasks(CHECK, (), chunks, workers)):
        fault = fault_of(checked)
        if fault is not None:
            raise CorruptFileError(
                "a point that cannot be accepted",
                where=f"{where}: one of the points from {index * _CHUNK} on",
                expected="a compressed point of BLS12-381 G1's prime-order subgroup, not the identity",
                got=fault,
                next_step="the file is damaged or forged: ask its maker for it again",
            )
        starts = range(0, len(checked), _XY_BYTES)
        points += [G1Point.from_xy_bytes_unchecked_be(checked[i : i + _XY_BYTES]) for i in starts]
    return points
