"""Exact arithmetic for proofs: the scalar field of BLS12-381, and integer products that never round.

Field elements are Python integers in numpy object arrays. Products of matrices go through 16-bit limbs in float64,
where every partial sum is an integer below 2^53 and so exact: a BLAS does the work that Python integers would.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""p, the order of BLS12-381's G1 and G2 (proof-v1, section 2)."""

_LIMB_BITS = 16
_BLOCK = 1 << 20


def integers(values: Iterable[int]) -> np.ndarray:
    """(n,) object array of Python integers."""
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def powers(base: int, count: int, first: int = 0) -> np.ndarray:
    """`base^first, ..., base^(first + count - 1)` modulo p: (count,) objects."""
    value = pow(base, first, ORDER)
    listed = []
    for _ in range(count):
        listed.append(value)
        value = value * base % ORDER
    return integers(listed)


def dot(left: np.ndarray, right: np.ndarray) -> int:
    """Inner product modulo p of two (n,) object arrays."""
    return int(sum(a * b for a, b in zip(left.tolist(), right.tolist(), strict=True)) % ORDER)


def random_scalar() -> int:
    """Uniform modulo p, from the operating system."""
    return secrets.randbelow(ORDER)


def random_vector(count: int) -> np.ndarray:
    """(count,) uniform field elements; 64 bytes each, so that the bias is below 2^-250."""
    return reduced(secrets.token_bytes(64 * count))


def reduced(data: bytes) -> np.ndarray:
    """Every 64 bytes, little-endian, modulo p."""
    return integers(int.from_bytes(data[i : i + 64], "little") % ORDER for i in range(0, len(data), 64))


def matmul(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The exact integer product of (n, k) and (k, m) matrices of any integer type, objects included.

    Returns:
        (n, m) object array of Python integers, not reduced.

    Raises:
        ValueError: k so large (above 2^20) that a partial sum might not be exact.
    """
    if left.shape[1] > 1 << 20:
        raise ValueError(f"an inner dimension of {left.shape[1]} is too long for exact partial sums")
    right_limbs = _limbs(right)
    total = np.zeros((left.shape[0], right.shape[1]), dtype=object)
    rows = max(1, _BLOCK // max(1, left.shape[1]))
    stacked = np.concatenate(right_limbs, axis=1)
    for start in range(0, left.shape[0], rows):
        block = slice(start, start + rows)
        for i, limb in enumerate(_limbs(left[block])):
            total[block] += _joined(limb @ stacked, len(right_limbs)) << (_LIMB_BITS * i)
    return total


def times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """`matrix vector` modulo p: (n, k) integers and (k,) field elements -> (n,)."""
    return matmul(matrix, vector[:, None])[:, 0] % ORDER


def combine(coefficients: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`coefficients^T matrix` modulo p: (n,) field elements and (n, k) integers -> (k,)."""
    if matrix.dtype not in (np.int16, np.int8):
        return times(np.ascontiguousarray(matrix.T), coefficients)
    limbs = np.concatenate([limb[None] for limb in _limbs(coefficients)])
    total = np.zeros((len(limbs), matrix.shape[1]), np.int64)
    rows = max(1, _BLOCK // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], rows):
        block = slice(start, start + rows)
        total += (limbs[:, block] @ matrix[block].astype(np.float64)).astype(np.int64)
    reduced_total: np.ndarray = _joined(total.reshape(1, -1), len(limbs))[0] % ORDER
    return reduced_total


def byte_length(values: np.ndarray) -> int:
    """Bytes that hold every value in two's complement; at least 1."""
    flat = values.ravel().tolist()
    largest, smallest = max(flat, default=0), min(flat, default=0)
    bits = max(value.bit_length() if value >= 0 else (~value).bit_length() for value in (int(largest), int(smallest)))
    return bits // 8 + 1


def to_bytes(values: np.ndarray, width: int, *, signed: bool = False) -> bytes:
    """Integers in little-endian bytes, `width` each, in C order."""
    return b"".join(int(value).to_bytes(width, "little", signed=signed) for value in values.ravel().tolist())


def from_bytes(data: bytes, width: int, *, signed: bool = False) -> np.ndarray:
    """The inverse of `to_bytes`, flat."""
    return integers(int.from_bytes(data[i : i + width], "little", signed=signed) for i in range(0, len(data), width))


def _limbs(matrix: np.ndarray) -> list[np.ndarray]:
    """Float64 matrices L_i with `matrix = sum_i L_i 2^(16 i)`: unsigned limbs, the last one signed."""
    if matrix.dtype != object and (matrix.dtype.itemsize <= 2 or _is_short(matrix)):
        return [matrix.astype(np.float64)]
    width = (byte_length(matrix) + 1) // 2 * 2
    data = np.frombuffer(to_bytes(matrix, width, signed=True), "<u2").reshape(*matrix.shape, width // 2)
    limbs = [data[..., i].astype(np.float64) for i in range(width // 2)]
    limbs[-1] = np.ascontiguousarray(data[..., -1]).view("<i2").astype(np.float64)
    return limbs


def _is_short(matrix: np.ndarray) -> bool:
    return matrix.size == 0 or (int(matrix.max()) < 1 << 15 and int(matrix.min()) >= -(1 << 15))


def _joined(product: np.ndarray, n_limbs: int) -> np.ndarray:
    """Objects from the float64 products with each limb, side by side: carries first, then one conversion a number."""
    columns = product.shape[1] // n_limbs
    whole = product.astype(np.int64)
    digits = np.empty((product.shape[0], columns, n_limbs + 4), "<u2")
    carry = np.zeros((product.shape[0], columns), np.int64)
    for i in range(n_limbs):
        carry += whole[:, i * columns : (i + 1) * columns]
        digits[..., i] = carry & 0xFFFF
        carry >>= _LIMB_BITS
    digits[..., n_limbs:] = carry.astype("<i8")[..., None].view("<u2")
    return from_bytes(digits.tobytes(), digits.shape[-1] * 2, signed=True).reshape(carry.shape)
