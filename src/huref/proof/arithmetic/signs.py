"""The public sign matrices of a statement: proof-v1, section 1, (2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from huref.fingerprints.sketch import token_signs
from huref.proof.arithmetic.field import ORDER, dot, times

FEWEST_TOKENS = 256
_PAIR = b"huref/pair/1"
_TOKENS_AT_ONCE = 4096


def centred_signs(
    strings: Sequence[bytes], chosen: np.ndarray, rows: int, seed: str
) -> tuple[np.ndarray, np.ndarray]:
    """`S1'` and `S2'`: the signs of the chosen tokens, k times less their mean; zero for the others.

    Args:
        strings: K token strings.
        chosen: (K,) bool.

    Returns:
        Two (rows, K) int64 arrays.
    """
    mask = chosen.astype(np.int64)
    both = token_signs(strings, rows, seed)
    first, second = (signs.astype(np.int64) * mask for signs in both)
    count = int(mask.sum())
    return (
        (count * first - first.sum(axis=1, keepdims=True)) * mask,
        (count * second - second.sum(axis=1, keepdims=True)) * mask,
    )


def token_coefficients(
    strings: Sequence[bytes], chosen: np.ndarray, seed: str, weights: tuple[np.ndarray, np.ndarray]
) -> list[np.ndarray]:
    """`S1'^T alpha` and `S2'^T beta` modulo p, (K,) objects each, without the matrices: section 6, 2.

    Args:
        weights: alpha and beta, (m,) field elements each.
    """
    rows, count = weights[0].size, int(chosen.sum())
    parts: tuple[list[np.ndarray], ...] = ([], [])
    sums = np.zeros((2, rows), np.int64)
    for start in range(0, len(strings), _TOKENS_AT_ONCE):
        block = slice(start, start + _TOKENS_AT_ONCE)
        for side, signs in enumerate(token_signs(strings[block], rows, seed)):
            S = signs.astype(np.int8)
            sums[side] += S[:, chosen[block]].sum(axis=1, dtype=np.int64)
            parts[side].append(times(np.ascontiguousarray(S.T), weights[side]))
    return [
        np.where(chosen, (count * np.concatenate(part) - dot(total.astype(object), weight)) % ORDER, 0)
        for part, total, weight in zip(parts, sums, weights, strict=True)
    ]


def pair_seed(root: bytes, peer: bytes) -> str:
    """The seed of a comparison of two commitments, the same from either side."""
    return "huref/pair/1/" + hashlib.sha256(_PAIR + min(root, peer) + max(root, peer)).hexdigest()


def shared_tokens(strings: Sequence[bytes], others: Sequence[bytes]) -> np.ndarray:
    """(K,) bool: which of `strings` are among `others`."""
    known = set(others)
    return np.array([string in known for string in strings], dtype=bool)


def pack_choice(chosen: np.ndarray) -> bytes:
    """K bits, least significant first."""
    return np.packbits(chosen, bitorder="little").tobytes()


def unpack_choice(data: bytes, count: int) -> np.ndarray:
    """The inverse of `pack_choice`; (count,) bool.

    Raises:
        ValueError: padding bits that are not zero.
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if bits[count:].any():
        raise ValueError("padding bits that are not zero")
    return bits[:count].astype(bool)
