"""Commit, open and verify with `hash_code`: a salted tree over columns, and one linear claim in zero knowledge.

The claim is y = q^T W b for public q (R,) and b (data,) in F_{p^2}, the form that every sumcheck over a committed
matrix ends with. A uniform mask row hides the combined row; `queries` columns are opened. Goldilocks only.

A commitment has as much padding as its proofs may open columns: `pads` >= queries x proofs, over its whole life.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hash_code import Code
from hash_fields import Array, product, random_elements

NON_RESIDUE = 7  # F_{p^2} = F_p[x] / (x^2 - 7)
SALT = 32
Pair = tuple[int, int]
Seconds = defaultdict[str, float]


def queries_for(bits: float, rate: float) -> int:
    """Columns to open: a word no codeword is near passes one with probability (1 + rate) / 2 (unique decoding)."""
    return math.ceil(-bits / math.log2((1 + rate) / 2))


def node(left: bytes, right: bytes) -> bytes:
    """An inner node of the tree."""
    return hashlib.sha256(b"\1" + left + right).digest()


def tree(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels, leaves first; the last holds the root."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        level = levels[-1]
        levels.append([node(level[i], level[i + 1]) for i in range(0, len(level), 2)])
    return levels


def path(levels: list[list[bytes]], position: int) -> list[bytes]:
    """The siblings from a leaf to the root."""
    return [level[(position >> depth) ^ 1] for depth, level in enumerate(levels[:-1])]


def root_of(leaf: bytes, position: int, siblings: Sequence[bytes]) -> bytes:
    """The root that a leaf and its path lead to."""
    for sibling in siblings:
        leaf = node(leaf, sibling) if position % 2 == 0 else node(sibling, leaf)
        position >>= 1
    return leaf


def leaf_of(salt: bytes, column: Array) -> bytes:
    """A column of codewords under its salt."""
    return hashlib.sha256(b"\0" + salt + np.ascontiguousarray(column).tobytes()).digest()


@dataclass(frozen=True)
class Committed:
    """What the prover keeps: entries int16 (R, data), padding (R, pads), salts, the tree, seconds by stage."""

    code: Code
    entries: Array
    padding: Array
    salts: list[bytes]
    levels: list[list[bytes]]
    seconds: Seconds = field(default_factory=lambda: defaultdict(float))

    @property
    def root(self) -> bytes:
        """The commitment."""
        return self.levels[-1][0]

    def columns(self, positions: Array, block: int = 64) -> Array:
        """Columns of codewords, encoded again: (R, t)."""
        rows = len(self.entries)
        parts = [slice(i, min(rows, i + block)) for i in range(0, rows, block)]
        return np.concatenate([self.code.encode(self.entries[s], self.padding[s])[positions].T for s in parts])


def commit(code: Code, entries: Array, key: bytes, block: int = 64) -> Committed:
    """Commit to int16 (R, data) in blocks of rows; `key` is the secret that padding and salts come from."""
    seconds: Seconds = defaultdict(float)
    start = time.process_time()

    def lap(stage: str) -> None:
        nonlocal start
        now = time.process_time()
        seconds[stage] += now - start
        start = now

    noise = hashlib.shake_128(b"salts" + key).digest(SALT * code.n)
    salts = [noise[i : i + SALT] for i in range(0, len(noise), SALT)]
    hashes = [hashlib.sha256(b"\0" + salt) for salt in salts]
    lap("salts")
    padding = random_elements(code.field, (len(entries), code.pads), b"padding" + key)
    lap("padding")
    for first in range(0, len(entries), block):
        rows = slice(first, first + block)
        words = code.encode(entries[rows], padding[rows])
        lap("encode")
        view, width = words.data.cast("B"), words.strides[0]
        for i, partial in enumerate(hashes):
            partial.update(view[i * width : (i + 1) * width])
        lap("leaves")
    levels = tree([partial.digest() for partial in hashes])
    lap("tree")
    return Committed(code, entries, padding, salts, levels, seconds)


def times(a: Pair, b: Pair) -> Pair:
    """Product in F_{p^2}, not reduced."""
    return a[0] * b[0] + NON_RESIDUE * a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def inner(code: Code, rows: Array, weights: Array) -> Pair:
    """<row, weights> in F_{p^2}: both (2, data) of elements."""
    (u0, u1), (b0, b1) = rows.astype(object), weights.astype(object)
    p = code.field.prime
    return int(u0 @ b0 + NON_RESIDUE * (u1 @ b1)) % p, int(u0 @ b1 + u1 @ b0) % p


def scaled(code: Code, factor: Pair, rows: Array) -> Array:
    """factor times every element of a row over F_{p^2}: (2, t), objects."""
    r0, r1 = rows.astype(object)
    return np.stack([value % code.field.prime for value in times(factor, (r0, r1))])


def challenge(code: Code, *said: bytes) -> Pair:
    """An element of F_{p^2} from what was said so far."""
    digest = hashlib.shake_128(b"challenge" + b"".join(hashlib.sha256(s).digest() for s in said)).digest(64)
    return int.from_bytes(digest[:32]) % code.field.prime, int.from_bytes(digest[32:]) % code.field.prime


def positions_from(code: Code, count: int, *said: bytes) -> Array:
    """Distinct columns from what was said so far."""
    seed = b"columns" + b"".join(hashlib.sha256(s).digest() for s in said)
    drawn = np.frombuffer(hashlib.shake_128(seed).digest(8 * (4 * count + 64)), np.uint64) % np.uint64(code.n)
    return np.array(list(dict.fromkeys(drawn.tolist()))[:count])


@cache
def all_padding(code: Code) -> Code:
    """The same code for messages that are elements throughout."""
    return Code(code.field, code.factors, 0, code.k)


@dataclass(frozen=True)
class Opening:
    """Proof of y = q^T W b: mask tree's root, mask's value, masked row (2, k), opened columns, salts and paths."""

    mask_root: bytes
    mask_value: Pair
    row: Array
    columns: Array
    masks: Array
    salts: list[tuple[bytes, bytes]]
    paths: list[tuple[list[bytes], list[bytes]]]

    @property
    def size(self) -> int:
        """Bytes, every path written out."""
        hashes = sum(len(a) + len(b) for a, b in self.paths)
        return (
            48 + 8 * (self.row.size + self.columns.size + self.masks.size) + 2 * SALT * len(self.salts) + 32 * hashes
        )


def _said(q: Array, b: Array, y: Pair, mask_root: bytes, value: Pair) -> list[bytes]:
    return [q.tobytes(), b.tobytes(), repr((y, value)).encode(), mask_root]


def open_claim(held: Committed, q: Array, b: Array, queries: int, key: bytes) -> tuple[Pair, Opening]:
    """y and its proof. q (2, R), b (2, data): elements of F_{p^2}; `key` is secret, and new for every opening."""
    code = held.code
    short, long = (product(code.field, q, part) for part in (held.entries, held.padding))
    y = inner(code, short, b)
    mask = random_elements(code.field, (2, code.k), b"mask" + key)
    words = all_padding(code).encode(np.zeros((2, 0), np.int16), mask).T
    noise = hashlib.shake_128(b"mask salts" + key).digest(SALT * code.n)
    salts = [noise[i : i + SALT] for i in range(0, len(noise), SALT)]
    levels = tree([leaf_of(salt, words[:, i]) for i, salt in enumerate(salts)])
    value = inner(code, mask[:, : code.data], b)
    said = [held.root, *_said(q, b, y, levels[-1][0], value)]
    combined = scaled(code, challenge(code, *said), np.concatenate([short, long], axis=1))
    row = ((mask.astype(object) + combined) % code.field.prime).astype(np.uint64)
    where = positions_from(code, queries, *said, row.tobytes())
    return y, Opening(
        levels[-1][0],
        value,
        row,
        held.columns(where),
        words[:, where],
        [(held.salts[i], salts[i]) for i in where],
        [(path(held.levels, i), path(levels, i)) for i in where],
    )


def verify_claim(code: Code, root: bytes, q: Array, b: Array, y: Pair, proof: Opening, queries: int) -> bool:
    """True when the proof shows y = q^T W b for the matrix under `root`."""
    p = code.field.prime
    if proof.row.shape != (2, code.k) or proof.columns.shape != (q.shape[1], queries) or int(proof.row.max()) >= p:
        return False
    said = [root, *_said(q, b, y, proof.mask_root, proof.mask_value)]
    factor = challenge(code, *said)
    expected = [(s + v) % p for s, v in zip(proof.mask_value, times(factor, y), strict=True)]
    if list(inner(code, proof.row[:, : code.data], b)) != expected:
        return False
    where = positions_from(code, queries, *said, proof.row.tobytes())
    for i, position in enumerate(where):
        leaves = [leaf_of(s, c[:, i]) for s, c in zip(proof.salts[i], (proof.columns, proof.masks), strict=True)]
        roots = [root_of(leaf, position, way) for leaf, way in zip(leaves, proof.paths[i], strict=True)]
        if roots != [root, proof.mask_root]:
            return False
    combined = scaled(code, factor, product(code.field, q, proof.columns))
    seen = (proof.masks.astype(object) + combined) % p
    return bool((seen == code.evaluate(proof.row, where).astype(object)).all())
