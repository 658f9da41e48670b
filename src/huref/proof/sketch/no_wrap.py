"""Bounds on every committed integer, so that no product wraps around modulo p: proof-v1, section 7."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np

from huref.errors import InputError
from huref.proof.arithmetic.curve import ShortCommitter, encode_points
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER, combine, integers, random_scalar, times
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.commitment import NoWrapProof
from huref.proof.files.layout import PROJECTIONS, Layout

PROTOCOL = "huref/commitment/1"


def column_norm(rows: np.ndarray) -> int:
    """beta for (N, d) int16 rows: a bound on every column's length, rounded up to a multiple of 1,024."""
    squares = np.zeros(rows.shape[1])
    for start in range(0, rows.shape[0], 1024):
        squares += np.square(rows[start : start + 1024], dtype=np.float64).sum(axis=0)
    return (int(np.sqrt(squares.max())) // 1024 + 1) * 1024


def prove_no_wrap(
    layout: Layout,
    root: bytes,
    rows: np.ndarray,
    blindings: np.ndarray,
    attempted: Callable[[], None] = lambda: None,
) -> NoWrapProof:
    """Masked sums of rows, drawn again until they reveal nothing; two or three attempts as a rule.

    Args:
        rows: (N, d) int16.
        blindings: (N,) objects.
        attempted: called after each attempt.
    """
    bound, slack = layout.mask_bound, layout.mask_bound - layout.sum_bound
    committer = ShortCommitter(layout.width, bound)
    while True:
        masks = _uniform(bound, (PROJECTIONS, layout.width))
        mask_blindings = integers(random_scalar() for _ in range(PROJECTIONS))
        points = encode_points([committer.commit(m, z) for m, z in zip(masks, mask_blindings, strict=True)])
        signs = projections(layout, root, points)
        sums = _sums(signs, rows) + masks
        attempted()
        if int(np.abs(sums).max()) <= slack:
            blinding = (times(signs, blindings) + mask_blindings) % ORDER
            return NoWrapProof(points, sums.astype(object), blinding)


def require_no_wrap(
    layout: Layout, root: bytes, proof: NoWrapProof, first: tuple[int, int], e: PointEquations
) -> None:
    """Check the bounds and add the verifier's equations.

    Args:
        first: where the rows' points and the proof's masks begin in the list of `e`.

    Raises:
        InputError: sums out of range, or bounds that do not exclude a wrap-around.
    """
    largest = int(np.abs(proof.sums).max())
    if not layout.is_free_of_wraps() or largest > layout.mask_bound - layout.sum_bound:
        raise InputError(
            "the commitment does not bound its integers",
            where="no-wrap proof",
            expected="masked sums within [-(M - T), M - T], and M small enough (proof-v1, section 7)",
            got=f"M of {layout.mask_bound.bit_length()} bits, largest sum of {largest.bit_length()} bits",
            next_step="do not accept this commitment",
        )
    signs = projections(layout, root, proof.masks)
    weights = integers(1 + secrets.randbelow((1 << 128) - 1) for _ in range(PROJECTIONS))
    pieces = ((first[0], combine(weights, signs)), (first[1], weights))
    vector = combine(weights, proof.sums)
    blinding = int((weights * proof.blindings).sum() % ORDER)
    e.add_weighted(vector, blinding, Combination(pieces))


def projections(layout: Layout, root: bytes, masks: bytes) -> np.ndarray:
    """E (192, N) int8 of -1, 0, 1, from the transcript."""
    transcript = Transcript(PROTOCOL)
    transcript.absorb("root", root)
    transcript.absorb("masks", masks)
    count = 2 * PROJECTIONS * layout.n_rows
    stream = np.frombuffer(transcript.bytes("projections", (count + 7) // 8), np.uint8)
    bits = np.unpackbits(stream, count=count, bitorder="little").astype(np.int8).reshape(PROJECTIONS, -1, 2)
    signs: np.ndarray = bits[..., 0] - bits[..., 1]
    return signs


def _uniform(bound: int, shape: tuple[int, int]) -> np.ndarray:
    """Uniform integers in [-bound, bound] from the operating system, by rejection: int64."""
    count = shape[0] * shape[1]
    mask = (1 << (2 * bound).bit_length()) - 1
    kept = np.empty(0, np.int64)
    while kept.size < count:
        drawn = (np.frombuffer(secrets.token_bytes(8 * count), np.uint64) & np.uint64(mask)).astype(np.int64)
        kept = np.concatenate([kept, drawn[drawn <= 2 * bound]])
    return kept[:count].reshape(shape) - bound


def _sums(signs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`signs rows`, exact: (192, d) int64."""
    total = np.zeros((signs.shape[0], rows.shape[1]))
    for start in range(0, rows.shape[0], 1024):
        block = slice(start, start + 1024)
        total += signs[:, block].astype(np.float64) @ rows[block].astype(np.float64)
    return total.astype(np.int64)
