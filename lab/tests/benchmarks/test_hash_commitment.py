"""The hash-based prototype of a benchmark: exact codes, hiding columns, openings that fail as often as computed."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from hash_code import Code
from hash_fields import BabyBear, Goldilocks, multiply, product, random_elements
from hash_opening import commit, open_claim, queries_for, verify_claim

GOLD = Goldilocks()
QUERIES = 10


def drawn(code: Code, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    entries = np.random.default_rng(seed).integers(-32768, 32768, (rows, code.data)).astype(np.int16)
    return entries, random_elements(code.field, (rows, code.pads), b"%d" % seed)


@pytest.mark.parametrize("field", [GOLD, BabyBear()], ids=lambda field: field.name)
@pytest.mark.parametrize("shape", [((8, 4), 10, 3), ((4, 4, 4), 27, 5), ((16, 8), 64, 0), ((8, 4, 4, 2), 50, 9)])
def test_codeword_is_the_values_of_the_polynomial(field, shape):
    code = Code(field, *shape)
    entries, padding = drawn(code, 3)
    messages = np.concatenate([entries.astype(object), padding.astype(object)], axis=1)
    points = [pow(code.root, i, field.prime) for i in range(code.n)]
    assert len(set(points)) == code.n
    wanted = [
        [sum(int(c) * pow(x, j, field.prime) for j, c in enumerate(row)) % field.prime for row in messages]
        for x in points
    ]
    assert (code.encode(entries, padding).astype(object) == np.array(wanted, object)).all()


def test_largest_magnitudes_stay_exact():
    """Every entry and every padding element at the end of its range: no sum may pass 2^53."""
    code = Code(GOLD, (64, 32), 700, 324)
    entries = np.full((2, code.data), -32768, np.int16)
    padding = np.full((2, code.pads), GOLD.prime // 2, np.uint64)
    message = np.concatenate([entries.astype(object) % GOLD.prime, padding.astype(object)], axis=1).astype(np.uint64)
    assert (code.evaluate(message, np.arange(code.n)) == code.encode(entries, padding).T).all()
    assert code.encode(entries, padding)[0, 0] == sum(map(int, message[0])) % GOLD.prime


def test_products_match_python():
    a, b = random_elements(GOLD, (2, 500), b"products")
    a[:3], b[:3] = [0, GOLD.prime - 1, 2**32], [5, GOLD.prime - 1, 2**32]
    assert (multiply(a, b).astype(object) == a.astype(object) * b % GOLD.prime).all()
    left, right = a.reshape(2, 250), b.reshape(250, 2)
    assert (
        product(GOLD, left, right).astype(object) == left.astype(object) @ right.astype(object) % GOLD.prime
    ).all()


def test_any_columns_within_the_padding_are_uniform():
    """The map from padding to as many columns is a bijection: its determinant is not 0 mod a small prime field."""
    code = Code(BabyBear(), (8, 4), 12, 4)
    p = code.field.prime
    for seed in range(20):
        where = np.random.default_rng(seed).choice(code.n, code.pads, replace=False)
        points = [pow(code.root, int(i), p) for i in where]
        differences = math.prod((x - y) % p for i, x in enumerate(points) for y in points[:i]) % p
        assert differences * math.prod(pow(x, code.data, p) for x in points) % p


def test_equal_entries_commit_differently():
    code = Code(GOLD, (8, 4, 4), 40, 12)
    entries, _ = drawn(code, 5)
    assert commit(code, entries, b"one").root != commit(code, entries, b"two").root
    assert commit(code, entries, b"one").root == commit(code, entries, b"one", block=2).root


@pytest.fixture(scope="module")
def claim():
    code = Code(GOLD, (8, 4, 4), 40, 12)
    held = commit(code, drawn(code, 7)[0], b"key")
    q, b = (random_elements(GOLD, (2, size), b"point") for size in (7, code.data))
    y, proof = open_claim(held, q, b, QUERIES, b"fresh")
    return code, held, q, b, y, proof


def test_true_claim_verifies(claim):
    code, held, q, b, y, proof = claim
    q0, q1, b0, b1 = *q.astype(object), *b.astype(object)
    W = held.entries.astype(object)
    assert y == ((q0 @ W @ b0 + 7 * (q1 @ W @ b1)) % GOLD.prime, (q0 @ W @ b1 + q1 @ W @ b0) % GOLD.prime)
    assert verify_claim(code, held.root, q, b, y, proof, QUERIES)


@pytest.mark.parametrize("what", ["row", "columns", "masks"])
def test_altered_proof_is_refused(claim, what):
    code, held, q, b, y, proof = claim
    array = getattr(proof, what)
    array[0, 0] ^= np.uint64(1)
    try:
        assert not verify_claim(code, held.root, q, b, y, proof, QUERIES)
    finally:
        array[0, 0] ^= np.uint64(1)


def test_another_value_and_another_matrix_are_refused(claim):
    code, held, q, b, y, proof = claim
    assert not verify_claim(code, held.root, q, b, ((y[0] + 1) % GOLD.prime, y[1]), proof, QUERIES)
    entries = held.entries.copy()
    entries[3, 5] += 1
    assert not verify_claim(code, commit(code, entries, b"key").root, q, b, y, proof, QUERIES)


def test_best_forger_passes_as_often_as_computed():
    """A word half-way between two codewords backs either row: each query passes with probability (1 + rate) / 2."""
    code = Code(GOLD, (8, 8), 0, 32)
    points = [pow(code.root, i, GOLD.prime) for i in range(code.n)]
    coefficients = [1]  # of a polynomial that is 0 at k - 1 points: two codewords cannot agree more
    for x in points[: code.k - 1]:
        shifted = [0, *coefficients]
        coefficients = [(s - x * c) % GOLD.prime for s, c in zip(shifted, [*coefficients, 0], strict=True)]
    other = code.encode(np.zeros((1, 0), np.int16), np.array([coefficients], np.uint64))[:, 0]
    apart = np.flatnonzero(other)
    assert len(apart) == code.n - code.k + 1
    committed = other.copy()
    committed[apart[::2]] = 0  # half-way to the codeword 0
    rng = np.random.default_rng(0)
    for queries in (1, 3, 6):
        passed = [not committed[rng.integers(0, code.n, queries)].any() for _ in range(20_000)]
        agreeing = (code.n - len(apart) // 2) / code.n
        rate = agreeing**queries
        assert abs(np.mean(passed) - rate) < 5 * math.sqrt(rate * (1 - rate) / len(passed))
        assert abs(agreeing - (1 + code.k / code.n) / 2) < 1.5 / code.n


def test_queries_for_a_security_level():
    assert [queries_for(128, 1 / 2), queries_for(128, 1 / 4), queries_for(100, 1 / 2)] == [309, 189, 241]
