"""From invariant terms to a short vector, without training: `docs/formats/fingerprint-v1.md`.

A term M (K x K, rows and columns are tokens) is sketched from both sides, `Y = S1 M S2^T`, with random signs
that belong to token *strings*. Then `E <Y_A, Y_B> = m^2 <M_A, M_B>`, so the cosine of two sketches estimates
the cosine of two terms that were never written down. The 512 numbers of a fingerprint are a second random
projection, with signs that belong to the term's slot, so that different terms do not mix in expectation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from huref.fingerprints.record import VECTOR_LENGTH

_TOKEN_DOMAIN = b"huref/sketch/1"
_SLOT_DOMAIN = b"huref/project/1"
_SIGNS_OF_BYTE = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")


def token_signs(tokens: Sequence[bytes], rows: int, seed: str) -> tuple[np.ndarray, np.ndarray]:
    """The sign matrices S1 and S2 for these token strings.

    Column k depends on `tokens[k]`, `rows` and `seed` alone: 2 * rows bits of
    SHAKE-256(domain, seed, token), least significant bit first; bit 0 is +1, bit 1 is -1.

    Returns:
        Two (rows, K) float32 arrays of +1 and -1.
    """
    prefix = _prefix(_TOKEN_DOMAIN, seed)
    n_bytes = (2 * rows + 7) // 8
    stream = b"".join(hashlib.shake_256(prefix + token).digest(n_bytes) for token in tokens)
    table = np.frombuffer(stream, np.uint8).reshape(len(tokens), n_bytes)
    bits = np.unpackbits(table, axis=1, count=2 * rows, bitorder="little")
    signs = np.ascontiguousarray(1.0 - 2.0 * bits.T, dtype=np.float32)
    return signs[:rows], signs[rows:]


def slot_projection(flat: np.ndarray, slot: str, seed: str) -> np.ndarray:
    """`R flat` for the signs R (512, n) that belong to a slot such as `qk/-1` (kind / layer from the end).

    R's rows are n bits each of SHAKE-256(domain, seed, slot), in the order of `token_signs`. A byte stands for 8
    signs, so 256 partial sums for each 8 numbers replace R itself.

    Args:
        flat: (n,), n a multiple of 8.

    Returns:
        (512,) float64.
    """
    n_bytes = flat.size // 8
    stream = hashlib.shake_256(_prefix(_SLOT_DOMAIN, seed) + slot.encode()).digest(VECTOR_LENGTH * n_bytes)
    signs = np.frombuffer(stream, np.uint8).reshape(VECTOR_LENGTH, n_bytes)
    partial = flat.astype(np.float64).reshape(n_bytes, 8) @ _SIGNS_OF_BYTE.T
    place = signs + 256 * np.arange(n_bytes, dtype=np.int32)
    summed: np.ndarray = partial.ravel().take(place).sum(axis=1)
    return summed


def unit_rms(array: np.ndarray) -> np.ndarray:
    """The array over its root mean square, float32; zeros stay zeros."""
    scale = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
    return (array / scale if scale else array).astype(np.float32)


def project(sketches: Mapping[str, np.ndarray], slots: Mapping[str, int], seed: str) -> np.ndarray:
    """Sum the projected sketches of all terms into the fingerprint vector.

    Args:
        sketches: keyed `LAYER.KIND`, (m, m) each, root mean square 1.
        slots: by key, `slots_of`.

    Returns:
        (512,) float32, root mean square 1.
    """
    total = np.zeros(VECTOR_LENGTH)
    for key in sorted(sketches):
        total += slot_projection(sketches[key].ravel(), f"{split_key(key)[1]}/{slots[key]}", seed)
    return unit_rms(total)


def slots_of(keys: Iterable[str], n_layers: int, *, is_dual: bool) -> dict[str, int]:
    """By key, where a term stands, counted from the end, -1 the last, so that slots survive a change of depth.

    Args:
        is_dual: under canonical-2 among the terms of its kind, else among all layers.
    """
    found = sorted((split_key(key) for key in keys), reverse=True)
    if not is_dual:
        return {f"{layer}.{kind}": layer - n_layers for layer, kind in found}
    counted: dict[str, int] = {}
    slots = {}
    for layer, kind in found:
        counted[kind] = counted.get(kind, 0) - 1
        slots[f"{layer}.{kind}"] = counted[kind]
    return slots


def split_key(key: str) -> tuple[int, str]:
    """`29.qk` -> (29, "qk")."""
    layer, kind = key.split(".", 1)
    return int(layer), kind


def mean_cosine(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The mean over term pairs of the cosine of their sketches: the ICS, estimated.

    A sketch of zeros, as a layer gives that adds nothing, is like no other: 0.
    """
    scales = [(a, b, np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]
    return float(np.mean([float(np.vdot(a, b) / scale) if scale else 0.0 for a, b, scale in scales]))


def mean_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of (terms, m, n) stacks, term by term: (terms,); zeros are like nothing."""
    products, left_squares, right_squares = _moments(left, right)
    return _ratios(products.sum((1, 2)), left_squares.sum((1, 2)) * right_squares.sum((1, 2)))


def _moments(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return left * right, left**2, right**2


def _ratios(products: np.ndarray, squares: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.maximum(squares, 0))
    ratios: np.ndarray = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return ratios


def jackknife(left: np.ndarray, right: np.ndarray) -> float:
    """Standard error of the mean cosine (Efron and Stein 1981); rows and columns are independent draws of signs."""
    variance = 0.0
    for axis in (1, 2):
        totals = [moment.sum((1, 2)) for moment in _moments(left, right)]
        lines = [moment.sum(3 - axis) for moment in _moments(left, right)]
        product, a, b = (total[:, None] - line for total, line in zip(totals, lines, strict=True))
        means = _ratios(product, a * b).mean(axis=0)
        m = means.size
        variance += (m - 1) / m * float(np.square(means - means.mean()).sum())
    return float(np.sqrt(variance))


def _prefix(domain: bytes, seed: str) -> bytes:
    text = seed.encode()
    return domain + len(text).to_bytes(4, "little") + text
