"""Hash-based commitment against curve-based: is it ten times cheaper, hiding, and with integers that do not wrap?

    OMP_NUM_THREADS=1 nice .venv/bin/python lab/benchmarks/hash_commitment.py [--repeats 3]

Both commit to the same int16 matrices, drawn with the shapes of SmolLM2-135M (X 4096 x 576; of two layers q, k, v, o
at 192 x 576, gate and down at 1536 x 576) and, a sample of rows, of a 7B Llama. Curve: one BLS12-381 point for a row,
blinding included. Hash: `hash_code.py` and `hash_opening.py`. Everything is random, and no step's cost depends on
values beyond their 15 bits. Processor seconds, measured in turn; public tables of either side are listed apart.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from py_arkworks_bls12381 import G1Point, Scalar

from hash_code import Code
from hash_fields import Array, BabyBear, Goldilocks, multiply, random_elements
from hash_opening import Committed, all_padding, commit, open_claim, queries_for, verify_claim
from measure import machine, median, spread, verdict

BITS = 128
SMOL = 4096 * 576 + 2 * (4 * 192 * 576 + 2 * 1536 * 576)
LLAMA = 4096 * 4096 + 2 * (4 * 4096 * 4096 + 2 * 11008 * 4096)
PROJECTIONS = 192
KEY = b"fixed, so that runs repeat; secrets.token_bytes(32) in earnest"


@dataclass(frozen=True)
class Layout:
    """A way to lay out entries: field, transforms, data of a row; `message` is k."""

    label: str
    field: Goldilocks | BabyBear
    factors: tuple[int, ...]
    message: int
    data: int

    @property
    def code(self) -> Code:
        """The code."""
        return Code(self.field, self.factors, self.data, self.message - self.data)

    @property
    def queries(self) -> int:
        """Columns opened for BITS bits."""
        return queries_for(BITS, self.message / math.prod(self.factors))


GOLD, BEAR = Goldilocks(), BabyBear()
LAYOUTS = (
    Layout("rate 1/2, n 8192", GOLD, (256, 32), 4096, 6 * 576),
    Layout("rate 1/2, n 16384", GOLD, (64, 16, 16), 8192, 12 * 576),
    Layout("rate 1/2, n 65536", GOLD, (64, 32, 32), 32768, 54 * 576),
    Layout("rate 1/4, n 32768", GOLD, (64, 32, 16), 8192, 12 * 576),
    Layout("31-bit prime, 1/2, n 16384", BEAR, (64, 16, 16), 8192, 12 * 576),
)
CHOSEN = LAYOUTS[2]
WIDE = Layout("7B: rate 1/2, n 262144", GOLD, (64, 16, 16, 16), 131072, 31 * 4096)


def clocked(work: Callable[[], object]) -> float:
    """Processor seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


class Curve:
    """Row-wise Pedersen commitments: sum |w_j| (+-G_j) + r H."""

    def __init__(self, width: int) -> None:
        start = time.process_time()
        points = [G1Point.hash_to_curve(b"generator %d" % j, b"huref benchmark") for j in range(width)]
        self.signed = [(p, -p) for p in points]
        self.H = G1Point.hash_to_curve(b"blinding", b"huref benchmark")
        self.scalars = [Scalar(v) for v in range(1 << 15)]
        self.setup = time.process_time() - start

    def row(self, entries: list[int]) -> G1Point:
        """One row without blinding: the fastest way found through this library."""
        points = [pair[v < 0] for pair, v in zip(self.signed, entries, strict=True)]
        table = self.scalars
        return G1Point.multiexp_unchecked(points, [table[abs(v)] for v in entries])

    def commit(self, entries: Array) -> bytes:
        """Digest of the compressed points of all rows."""
        digest = hashlib.sha256()
        for row in entries:
            blinding = Scalar.from_be_bytes(b"\0" + secrets.token_bytes(31))
            digest.update((self.row(row.tolist()) + self.H * blinding).to_compressed_bytes())
        return digest.digest()


def draw(entries: int, width: int, seed: int) -> Array:
    """int16, normal with the largest near the end of the range, (rows, width) and zeros at the end."""
    drawn = np.random.default_rng(seed).standard_normal(entries, dtype=np.float32) * (32767 / 5.5)
    found = np.zeros(-(-entries // width) * width, np.int16)
    found[:entries] = np.rint(drawn).clip(-32767, 32767)
    return found.reshape(-1, width)


def laid_out(matrix: Array, data: int) -> Array:
    """The same entries in rows of `data`."""
    found = np.zeros(-(-matrix.size // data) * data, np.int16)
    found[: matrix.size] = matrix.reshape(-1)
    return found.reshape(-1, data)


def print_parameters() -> None:
    """Queries for the soundness, and what the field adds."""
    print("columns to open, by rate, for 100 and 128 bits (unique decoding, nothing conjectured)")
    for inverse in (2, 4, 8):
        counts = [queries_for(bits, 1 / inverse) for bits in (100, 128)]
        print(f"  rate 1/{inverse}: {counts[0]:4d} {counts[1]:4d}")
    for name, bits in (("F_p^2 of 64-bit p", 128), ("F_p^5 of 31-bit p", 155)):
        print(f"  combining rows, {name}, n = 65536: error 2^-{bits - 16}")


def measure_smol(repeats: int) -> tuple[dict[str, list[float]], dict[str, Committed]]:
    """SmolLM2's shape in full, in turn."""
    matrix = draw(SMOL, 576, 0)
    curve = Curve(576)
    seconds: dict[str, list[float]] = {label: [] for label in ("curve", *(layout.label for layout in LAYOUTS))}
    held: dict[str, Committed] = {}
    codes = {layout.label: layout.code for layout in LAYOUTS}
    tables = {label: clocked(code.prepare) for label, code in codes.items()}
    for _ in range(repeats):
        seconds["curve"].append(clocked(lambda: curve.commit(matrix)))
        for label, code in codes.items():
            start = time.process_time()
            held[label] = commit(code, laid_out(matrix, code.data), KEY, block=32 if code.n > 2**15 else 64)
            seconds[label].append(time.process_time() - start)
    print(f"\ncommit, SmolLM2-135M shape, all {matrix.size} entries, processor seconds, in turn, n = {repeats}")
    print(f"  {'':28}{'seconds':>26}{'ratio':>26}{'us/entry':>9}{'tables':>8}{'proofs':>7}   of which")
    print(f"  {'curve':28}{spread(seconds['curve']):>26}{'':>26}{median(seconds['curve']) / SMOL * 1e6:9.3f}", end="")
    print(f"{curve.setup:8.2f}{'any':>7}")
    for layout in LAYOUTS:
        found, stages = seconds[layout.label], held[layout.label].seconds
        parts = ", ".join(f"{name} {value:.2f}" for name, value in stages.items())
        print(f"  {layout.label:28}{spread(found):>26}{spread(ratios(seconds, layout.label)):>26}", end="")
        print(f"{median(found) / SMOL * 1e6:9.3f}{tables[layout.label]:8.2f}", end="")
        print(f"{layout.code.pads // layout.queries:7d}   {parts}")
    return seconds, held


def ratios(seconds: dict[str, list[float]], label: str) -> list[float]:
    """Curve / hash of every round."""
    return [a / b for a, b in zip(seconds["curve"], seconds[label], strict=True)]


def print_bounds(held: Committed) -> None:
    """What no implementation in this language falls below."""
    code, rows = held.code, len(held.entries)
    words = np.zeros((256, code.n), np.uint64)
    share = rows / len(words)
    once = {
        "read the entries as float64": clocked(lambda: held.entries.astype(np.float64)),
        "SHA-256 of the entries alone (no proof possible)": clocked(
            lambda: hashlib.sha256(held.entries.data).digest()
        ),
        "SHA-256 of the codewords": clocked(lambda: hashlib.sha256(words.data).digest()) * share,
        "BLAKE2b of the codewords": clocked(lambda: hashlib.blake2b(words.data).digest()) * share,
        "SHA3-256 of the codewords": clocked(lambda: hashlib.sha3_256(words.data).digest()) * share,
    }
    print(f"\nlower bounds, seconds, {CHOSEN.label}, {rows} rows")
    for name, value in once.items():
        print(f"  {name:50}{value:8.3f}")


def measure_opening(layout: Layout, held: Committed) -> bool:
    """One linear claim in zero knowledge: seconds and bytes; a false y must be refused."""
    code = held.code
    q, b = (random_elements(code.field, (2, size), b"point") for size in (len(held.entries), code.data))
    words = all_padding(code)
    tables = clocked(words.prepare)
    start = time.process_time()
    y, proof = open_claim(held, q, b, layout.queries, KEY)
    opened = time.process_time()
    is_good = verify_claim(code, held.root, q, b, y, proof, layout.queries)
    verified = time.process_time()
    is_bad = verify_claim(code, held.root, q, b, ((y[0] + 1) % code.field.prime, y[1]), proof, layout.queries)
    print(f"  {layout.label:28}{opened - start:8.2f}{verified - opened:9.3f}{proof.size / 1e6:9.2f}", end="")
    print(f"{tables:9.2f}   {len(held.entries)} rows, {layout.queries} columns")
    return is_good and not is_bad


def measure_integers(held: Committed, curve: float, hashed: float) -> None:
    """What keeps integers from wrapping, once for a commitment: measured on both sides, lookups by formula."""
    data = held.code.data
    signs = np.random.default_rng(1).integers(0, 2, (data, PROJECTIONS)).astype(np.float64)
    start = time.process_time()
    sums = (held.entries.astype(np.float64) @ signs).astype(np.int64)
    low = ((sums + 2**15) & 0xFFFF) - 2**15
    limbs = np.stack([low, (sums - low) >> 16]).astype(np.int16)
    commit(held.code, laid_out(limbs, data), KEY, block=32)
    projected = time.process_time() - start
    points = [p for p, _ in Curve(576).signed]
    masks = [[Scalar(secrets.randbits(60)) for _ in points] for _ in range(10)]
    masked = clocked(lambda: [G1Point.multiexp_unchecked(points, m) for m in masks]) / len(masks) * PROJECTIONS
    a, b = (random_elements(GOLD, (1 << 14,), key) for key in (b"a", b"b"))
    product = min(clocked(lambda: multiply(a, b)) for _ in range(50)) / a.size
    per_lookup = 240 * product
    print(f"\nintegers that do not wrap, once for a commitment, seconds, {CHOSEN.label}")
    rows = {
        f"hash: {PROJECTIONS} 0/1 sums of every row, in limbs, committed": projected,
        f"hash: range of their {limbs.size} limbs by LogUp, 240 products each, estimated": limbs.size * per_lookup,
        f"hash: range of all {SMOL} entries by LogUp instead, estimated": SMOL * per_lookup,
        f"curve: {PROJECTIONS} masks of 60 bits committed": masked,
        "one product in the field, numpy, nanoseconds": product * 1e9,
    }
    for name, value in rows.items():
        print(f"  {name:76}{value:8.2f}")
    both = hashed + projected + limbs.size * per_lookup
    print(f"  ratio of commitment and this together: {(curve + masked) / both:.1f}; ", end="")
    print(f"with the range of all entries: {(curve + masked) / (hashed + SMOL * per_lookup):.1f}")


def measure_wide() -> float:
    """7B shape, by a sample of rows of both; returns the least ratio."""
    code = WIDE.code
    tables = clocked(code.prepare)
    curve = Curve(4096)
    matrix = draw(128 * WIDE.data, 4096, 2)
    found: dict[str, list[float]] = {"curve": [], "hash": []}
    commit(code, laid_out(matrix, WIDE.data), KEY)  # its memory is fetched once, not once in 128 rows
    for _ in range(3):
        found["curve"].append(clocked(lambda: curve.commit(matrix[:200])) / (200 * 4096) * LLAMA)
        stages = commit(code, laid_out(matrix, WIDE.data), KEY).seconds
        once = stages["salts"] + stages["tree"]
        found["hash"].append(once + (sum(stages.values()) - once) / matrix.size * LLAMA)
    ratio = [a / b for a, b in zip(found["curve"], found["hash"], strict=True)]
    rows, levels = -(-LLAMA // WIDE.data), code.n.bit_length() - 1
    size = WIDE.queries * (8 * rows + 16 + 2 * 32 * (levels + 1)) + 16 * code.k
    print(f"\n7B shape, {LLAMA} entries: from 200 rows of 4096 (curve) and 128 of {WIDE.data} (hash), n = 3")
    print(f"  curve {spread(found['curve'])}; {WIDE.label} {spread(found['hash'])}, tables {tables:.2f} once")
    print(f"  ratio {spread(ratio)}; {rows} rows; one opening {size / 1e6:.1f} MB by formula, ", end="")
    print(f"{code.pads // WIDE.queries} proofs")
    return min(ratio)


def main() -> None:
    """Print everything, then exit code 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    print(machine() + "\n")
    print_parameters()
    seconds, held = measure_smol(chosen.repeats)
    print_bounds(held[CHOSEN.label])
    print(f"\none claim q^T W b = y, masked, {BITS} bits: seconds to open and to verify, MB, seconds of tables")
    found = [measure_opening(layout, held[layout.label]) for layout in LAYOUTS[:4]]
    measure_integers(held[CHOSEN.label], median(seconds["curve"]), median(seconds[CHOSEN.label]))
    wide = measure_wide()
    print()
    small = median(seconds[LAYOUTS[4].label])
    fields = {
        "one 64-bit field, 128 bits of integer by two of them": 2 * median(seconds[CHOSEN.label]),
        "124 bits of integer by four 31-bit primes": 4 * small,
    }
    for name, value in fields.items():
        print(f"{name}: ratio {median(seconds['curve']) / value:.1f}")
    least = {layout.label: min(ratios(seconds, layout.label)) for layout in LAYOUTS}
    goals = [
        verdict("true claims verify, false ones do not", all(found), str(found)),
        verdict(
            "ten times on commit, SmolLM2 shape, rate 1/2", least[CHOSEN.label] >= 10, f"{least[CHOSEN.label]:.1f}"
        ),
        verdict("ten times on commit, 7B shape, rate 1/2", wide >= 10, f"{wide:.1f}"),
    ]
    raise SystemExit(0 if all(goals) else 1)


if __name__ == "__main__":
    main()
