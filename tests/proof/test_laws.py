"""Laws of the proofs: exact arithmetic, homomorphic commitments, a binding transcript, bounds, and zero knowledge.

Oracles are Python integers and plain sums; the simulators of `docs/formats/proof-v1.md`, section 10, are run.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from huref.errors import CorruptFileError, HurefError, InputError, NotFiniteError
from huref.fingerprints.pipeline import choose_tokens, fingerprint
from huref.fingerprints.recipe import RECIPES, Recipe
from huref.fingerprints.sketch import token_signs
from huref.fingerprints.sketching import dual_factors, sketch_model
from huref.fingerprints.terms import Bilinear, sketch_term, token_embeddings
from huref.numerics.cosine import cosine
from huref.private.verification import SAME_VECTOR
from huref.proof.arithmetic import field
from huref.proof.arithmetic import signs as signs_module
from huref.proof.arithmetic.curve import (
    ShortCommitter,
    blinding_generator,
    commit,
    decode_points,
    encode_points,
    generators,
    multiply_sum,
    scalar,
)
from huref.proof.arithmetic.equations import Combination, PointEquations
from huref.proof.arithmetic.field import ORDER
from huref.proof.arithmetic.fixed_point import quantised
from huref.proof.arithmetic.quadratic import (
    CommittedPair,
    Opened,
    OpenedPair,
    QuadraticProof,
    Weights,
    prove_quadratic,
    require_quadratic,
)
from huref.proof.arithmetic.signs import centred_signs, pack_choice, pair_seed, token_coefficients, unpack_choice
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.commitment import NoWrapProof
from huref.proof.files.layout import PROJECTIONS, Layout, Matrix, Term
from huref.proof.files.opening import Opening
from huref.proof.sketch.committer import CommitOptions, commit_rows
from huref.proof.sketch.exact import exact_sketches, factor, float_sketches, vector_of
from huref.proof.sketch.no_wrap import column_norm, projections, prove_no_wrap, require_no_wrap
from huref.proof.sketch.prover import prove_fingerprint
from huref.proof.sketch.quantisation import quantise_model
from huref.proof.sketch.verifier import verify_commitment, verify_sketches
from kit import proofs as kit
from kit.explanations import opened

ENTRIES = st.one_of(
    st.integers(-(1 << 15), (1 << 15) - 1),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(0, ORDER - 1),
    st.sampled_from([0, -1, 1 << 15, -(1 << 15), (1 << 16) - 1, 1 << 16, -(1 << 63), 1 << 63, ORDER - 1, -ORDER]),
)
SIZES = st.integers(0, 5)


def matrices(rows: int, columns: int) -> st.SearchStrategy[np.ndarray]:
    """(rows, columns) objects."""
    return st.lists(ENTRIES, min_size=rows * columns, max_size=rows * columns).map(
        lambda entries: field.integers(entries).reshape(rows, columns)
    )


def product(left: np.ndarray, right: np.ndarray) -> list[list[int]]:
    """The oracle: one Python integer at a time."""
    return [
        [sum(int(left[i, k]) * int(right[k, j]) for k in range(left.shape[1])) for j in range(right.shape[1])]
        for i in range(left.shape[0])
    ]


# Field


@settings(max_examples=50)
@given(data=st.data(), n=SIZES, k=SIZES, m=SIZES)
def test_a_matrix_product_is_exact(data: st.DataObject, n: int, k: int, m: int) -> None:
    left, right = data.draw(matrices(n, k)), data.draw(matrices(k, m))
    got = field.matmul(left, right)
    assert got.shape == (n, m)
    assert got.tolist() == product(left, right)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16])
def test_a_matrix_product_is_exact_at_the_ends_of_every_type(kind: type) -> None:
    info = np.iinfo(kind)
    ends = np.array([info.min, info.max, info.min // 2, info.max // 3, 0], dtype=kind)
    left = np.resize(ends, (3, 700))
    right = np.resize(ends[::-1], (700, 2))
    assert field.matmul(left, right).tolist() == product(left, right)


def test_a_long_sum_of_the_largest_limbs_does_not_round() -> None:
    """2^20 products of 2^16 - 1 and 2^16 - 1 stay below 2^53; longer ones are refused."""
    left = np.full((1, 1 << 20), (1 << 16) - 1, dtype=np.uint16)
    assert field.matmul(left, left.T)[0, 0] == ((1 << 16) - 1) ** 2 << 20
    with pytest.raises(ValueError, match="too long"):
        field.matmul(np.zeros((1, (1 << 20) + 1), np.int8), np.zeros(((1 << 20) + 1, 1), np.int8))


@settings(max_examples=50)
@given(data=st.data(), n=SIZES, k=st.integers(1, 5))
def test_times_and_combine_are_products_modulo_p(data: st.DataObject, n: int, k: int) -> None:
    matrix = data.draw(matrices(n, k))
    column, row = data.draw(matrices(k, 1))[:, 0] % ORDER, data.draw(matrices(n, 1))[:, 0] % ORDER
    assert field.times(matrix, column).tolist() == [v[0] % ORDER for v in product(matrix, column[:, None])]
    assert field.combine(row, matrix).tolist() == [v % ORDER for v in product(row[None], matrix)[0]]


@settings(max_examples=50)
@given(values=st.lists(ENTRIES, min_size=1, max_size=6))
def test_integers_come_back_from_the_fewest_bytes(values: list[int]) -> None:
    array = field.integers(values)
    width = field.byte_length(array)
    assert field.from_bytes(field.to_bytes(array, width, signed=True), width, signed=True).tolist() == values
    if width > 1:
        with pytest.raises(OverflowError):
            field.to_bytes(array, width - 1, signed=True)


def test_powers_and_dots() -> None:
    assert field.powers(5, 4).tolist() == [1, 5, 25, 125]
    assert field.powers(ORDER - 1, 3, first=1).tolist() == [ORDER - 1, 1, ORDER - 1]
    assert field.powers(7, 0).size == 0
    left, right = field.random_vector(9), field.random_vector(9)
    assert field.dot(left, right) == sum(a * b for a, b in zip(left, right, strict=True)) % ORDER
    assert all(0 <= value < ORDER for value in left)


# Commitments


ROWS = st.lists(st.integers(-32768, 32767), min_size=5, max_size=5).map(lambda row: np.array(row, dtype=np.int64))


@settings(max_examples=20)
@given(row=ROWS, blinding=st.integers(0, ORDER - 1))
def test_a_short_commitment_is_the_commitment(row: np.ndarray, blinding: int) -> None:
    for largest in (1 << 15, 1 << 40):  # with a table of scalars and without
        assert ShortCommitter(5, largest).commit(row, blinding) == commit(row.astype(object) % ORDER, blinding)


@settings(max_examples=20)
@given(first=ROWS, second=ROWS, factor_=st.integers(0, ORDER - 1), z=st.integers(0, ORDER - 1))
def test_commitments_are_homomorphic(first: np.ndarray, second: np.ndarray, factor_: int, z: int) -> None:
    left, right = first.astype(object), second.astype(object)
    summed = commit((left + factor_ * right) % ORDER, (z + factor_ * 3) % ORDER)
    assert summed == commit(left % ORDER, z) + commit(right % ORDER, 3) * scalar(factor_)


def test_generators_are_distinct_points_of_the_subgroup_and_do_not_move() -> None:
    points = [*generators(40), blinding_generator()]
    encoded = encode_points(points)
    assert len({encoded[i : i + 48] for i in range(0, len(encoded), 48)}) == 41
    assert decode_points(encoded, "generators") == points
    assert list(generators(40)) == list(generators(50))[:40]
    assert all(multiply_sum([point], [ORDER - 1]) == -point for point in points[:3])


def test_a_commitment_hides_behind_its_blinding() -> None:
    row = np.zeros(4, dtype=object)
    assert commit(row, 5) == blinding_generator() * scalar(5)
    assert commit(row, 5) != commit(row, 6)


# Transcript


MESSAGES = st.lists(st.tuples(st.text("abe", max_size=3), st.binary(max_size=3)), max_size=4)


def challenged(messages: Sequence[tuple[str, bytes]], protocol: str = "p") -> int:
    transcript = Transcript(protocol)
    for label, data in messages:
        transcript.absorb(label, data)
    return transcript.challenge("e")


@given(first=MESSAGES, second=MESSAGES)
def test_different_messages_give_different_challenges(
    first: list[tuple[str, bytes]], second: list[tuple[str, bytes]]
) -> None:
    assume(first != second)
    assert challenged(first) != challenged(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", b"bc")], [("ab", b"c")]),
        ([("a", b"b"), ("a", b"c")], [("a", b"c"), ("a", b"b")]),
        ([("a", b"b"), ("c", b"")], [("a", b"b")]),
        ([("a", b"b"), ("c", b"d")], [("a", b"bcd")]),
        ([("a", b"")], [("", b"a")]),
        ([], [("e", b"")]),
    ],
)
def test_boundaries_and_order_of_messages_count(one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]) -> None:
    assert challenged(one) != challenged(other)


def test_a_challenge_depends_on_protocol_label_and_the_challenges_before_it() -> None:
    assert challenged([], "huref/proof/1") != challenged([], "huref/commitment/1")
    first, second = Transcript("p"), Transcript("p")
    assert first.challenge("a") != second.challenge("b")
    assert first.challenge("c") != second.challenge("c")
    assert first.bytes("d", 100)[:64] != second.bytes("d", 100)[:64]
    assert 0 <= first.challenge("e") < ORDER


# Signs and sketches


STRINGS = tuple(b"t%d" % i for i in range(11))


def test_centred_signs_are_k_times_the_centred_signs() -> None:
    chosen = np.array([i % 4 != 1 for i in range(len(STRINGS))])
    count = int(chosen.sum())
    for signs, centred in zip(token_signs(STRINGS, 8, "s"), centred_signs(STRINGS, chosen, 8, "s"), strict=True):
        among = signs[:, chosen].astype(np.float64)
        expected = count * (among - among.mean(axis=1, keepdims=True))
        assert np.allclose(centred[:, chosen], expected, atol=1e-9)
        assert not centred[:, ~chosen].any()
        assert not centred.sum(axis=1).any()
        assert (np.abs(centred).sum(axis=1) <= count**2).all()
        assert (np.square(centred).sum(axis=1) <= count**3).all()


def test_combinations_of_signs_need_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block, with blocks that do not divide the tokens."""
    chosen = np.array([i % 4 != 1 for i in range(len(STRINGS))])
    weights = field.random_vector(8), field.random_vector(8)
    expected = [
        field.times(np.ascontiguousarray(S.T), weight).tolist()
        for S, weight in zip(centred_signs(STRINGS, chosen, 8, "s"), weights, strict=True)
    ]
    for size in (1, 4, 11, 4096):
        monkeypatch.setattr(signs_module, "_TOKENS_AT_ONCE", size)
        found = token_coefficients(STRINGS, chosen, "s", weights)
        assert [part.tolist() for part in found] == expected


def test_signs_of_a_token_do_not_depend_on_its_neighbours() -> None:
    chosen = np.ones(len(STRINGS), dtype=bool)
    some = centred_signs(STRINGS, chosen, 8, "s")[0]
    back = centred_signs(STRINGS[::-1], chosen, 8, "s")[0]
    assert np.array_equal(some, back[:, ::-1])


@given(bits=st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_choice_of_tokens_comes_back(bits: list[bool]) -> None:
    packed = pack_choice(np.array(bits))
    assert len(packed) == (len(bits) + 7) // 8
    assert unpack_choice(packed, len(bits)).tolist() == bits


def test_padding_of_a_choice_is_zero() -> None:
    with pytest.raises(ValueError, match="padding"):
        unpack_choice(b"\x08", 3)


def test_the_seed_of_a_pair_is_the_same_from_either_side_and_of_no_other_pair() -> None:
    roots = [bytes([i]) * 32 for i in range(3)]
    assert pair_seed(roots[0], roots[1]) == pair_seed(roots[1], roots[0])
    assert len({pair_seed(a, b) for a in roots for b in roots}) == 6


def plain_sketch(layout: Layout, rows: np.ndarray, term: Term, signs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """`S1' X L^T R X^T S2'^T` with Python integers and no cleverness; head sums written out."""

    def summed(name: str, groups: int) -> np.ndarray:
        start = layout.start(name)
        whole = rows[start : start + layout.rows(name)].astype(object)
        if groups == 1:
            return whole
        e = term.head_dim
        rank = whole.shape[0] // groups
        return np.array(
            [sum(whole[(i // e) * groups * e + q * e + i % e] for q in range(groups)) for i in range(rank)]
        )

    X = rows[: layout.n_tokens].astype(object)
    L, R = summed(term.left, term.groups[0]), summed(term.right, term.groups[1])
    first, second = (side.astype(object) for side in signs)
    return first @ X @ L.T @ R @ X.T @ second.T


def test_exact_sketches_are_the_formula() -> None:
    owner = kit.a()
    chosen = np.arange(len(owner.strings)) % 3 != 0
    signs = centred_signs(owner.strings, chosen, 8, "s")
    found = exact_sketches(owner.layout, owner.rows, signs)
    assert list(found) == [term.key for term in owner.layout.terms]
    for term in owner.layout.terms:
        assert (found[term.key] == plain_sketch(owner.layout, owner.rows, term, signs)).all()


def test_exact_sketches_are_those_of_a_fingerprint() -> None:
    """Against `sketch_term`, which `huref fingerprint` uses, in float32."""
    owner = kit.a()
    everyone = np.ones(len(owner.strings), dtype=bool)
    exact = exact_sketches(owner.layout, owner.rows, centred_signs(owner.strings, everyone, 64, "s"))
    X = owner.rows[: owner.layout.n_tokens].astype(np.float32)
    S1X, S2X = ((S - S.mean(axis=1, keepdims=True)) @ X for S in token_signs(owner.strings, 64, "s"))
    for term in owner.layout.terms:
        sides = [factor(owner.layout, owner.rows, term, side).astype(np.float32) for side in (0, 1)]
        Y = sketch_term(Bilinear(term.layer, term.kind, *sides), S1X, S2X)
        assert cosine(float_sketches(exact)[term.key], Y) > 1 - 1e-9


@settings(max_examples=30)
@given(data=st.data(), groups=st.integers(1, 4), heads=st.integers(1, 3), head_dim=st.integers(1, 3))
def test_spread_coefficients_are_head_sums(data: st.DataObject, groups: int, heads: int, head_dim: int) -> None:
    rank = heads * head_dim
    n_rows = rank * groups
    term = Term("0.qk", "0.q", "0.k", (groups, 1), 0 if groups == 1 else head_dim)
    layout = shaped(3, 2, [(term, n_rows, rank)])
    rows = data.draw(matrices(n_rows, 2))
    sigma = data.draw(matrices(rank, 1))[:, 0] % ORDER
    everything = np.concatenate([np.zeros((3, 2), dtype=object), rows, np.zeros((rank, 2), dtype=object)])
    spread = field.combine(layout.spread(term, 0, sigma), rows)
    whole = rows.reshape(heads, groups, head_dim, 2).sum(axis=1).reshape(rank, 2)
    assert spread.tolist() == field.combine(sigma, whole).tolist()
    small = (everything % 1000).astype(np.int16)
    part = small[3 : 3 + n_rows].reshape(heads, groups, head_dim, 2).sum(axis=1).reshape(rank, 2)
    assert (factor(layout, small, term, 0) == part).all()


def shaped(
    n_tokens: int, width: int, terms: Sequence[tuple[Term, int, int]], norm: int = 1024, bits: int = 16
) -> Layout:
    """A layout of terms with the rows of their two matrices."""
    matrices = [Matrix("embedding", n_tokens, 0)]
    for term, left, right in terms:
        matrices += [Matrix(term.left, left, 0), Matrix(term.right, right, 0)]
    recipe = Recipe("canonical", n_tokens=256, sketch_rows=8, layers="all")
    return Layout(
        "tiny", "llama", recipe, len(terms), width, bits, norm, tuple(matrices), tuple(term for term, _, _ in terms)
    )


# Quantising


VALUES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=12)


@given(values=VALUES, bits=st.sampled_from([12, 15, 16]))
def test_quantising_takes_the_largest_exponent_and_rounds_half_to_even(values: list[float], bits: int) -> None:
    found, exponent = quantised(np.array([values], dtype=np.float32), bits)
    limit = 2 ** (bits - 1) - 1
    scaled = [float(np.ldexp(np.float64(np.float32(value)), exponent)) for value in values]
    assert found.dtype == np.int16
    assert found[0].tolist() == [round(value) for value in scaled]
    assert max(map(abs, found[0].tolist())) <= limit
    if any(values):
        assert max(abs(round(2 * value)) for value in scaled) > limit
    else:
        assert exponent == 0


@pytest.mark.parametrize("largest", [1e-45, 1e-38, 3.4e38, 1.0, 32767.0, 32767.5, 32768.0, 2.0**-100])
@pytest.mark.parametrize("bits", [12, 13, 14, 15, 16])
def test_extreme_weights_keep_all_their_bits(largest: float, bits: int) -> None:
    matrix = np.zeros((3, 4), np.float32)
    matrix[1, 2] = -largest
    found, exponent = quantised(matrix, bits)
    value, limit = int(found[1, 2]), 2 ** (bits - 1) - 1
    assert limit / 2 < -value <= limit
    assert np.count_nonzero(found) == 1
    assert abs(value * 2.0**-exponent + float(np.float32(largest))) <= 2.0 ** (-exponent - 1)
    assert abs(exponent) < 256


def test_weights_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama")
    model.weights.checkpoint.data["model.embed_tokens.weight"][5] = float("nan")
    serve(monkeypatch, model)
    with pytest.raises(NotFiniteError):
        quantise_model("m", Recipe("canonical"))


def test_zeros_are_committed_as_zeros() -> None:
    found, exponent = quantised(np.zeros((2, 3)), 16)
    assert not found.any() and exponent == 0


def serve(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    """Whatever is opened is this model."""
    for place in ("huref.fingerprints.pipeline", "huref.proof.sketch.quantisation"):
        monkeypatch.setattr(f"{place}.open_model", lambda *_: model)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "qwen2-moe", "falcon-7b", "opt", "bloom"])
def test_the_vector_of_the_committed_integers_is_the_fingerprint(
    name: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, opened(name))
    chosen = Recipe(name=recipe)
    published, made = fingerprint("m", chosen), quantise_model("m", chosen)
    assert made.layout.bits == 16
    everyone = np.ones(len(made.strings), dtype=bool)
    exact = exact_sketches(
        made.layout, made.rows, centred_signs(made.strings, everyone, chosen.sketch_rows, chosen.seed)
    )
    assert cosine(vector_of(made.layout, exact), published.vector) >= SAME_VECTOR[recipe]
    assert list(exact) == list(published.sketches)
    for key, Y in float_sketches(exact).items():
        assert cosine(Y, published.sketches[key]) >= SAME_VECTOR[recipe]


@pytest.mark.parametrize("recipe", ["canonical-2", "canonical"])
def test_a_proved_vector_is_the_fingerprint(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, opened("llama"))
    chosen = Recipe(recipe, n_tokens=256, layers="-1", sketch_rows=16)
    commitment = commit_rows(quantise_model("m", chosen), tmp_path, CommitOptions(jobs=1))
    vector = verify_sketches(commitment, prove_fingerprint(tmp_path)).vector
    assert vector is not None
    assert cosine(vector, fingerprint("m", chosen).vector) >= SAME_VECTOR[recipe]


def test_factors_in_the_dual_frame_are_the_terms_of_their_definition() -> None:
    model = opened("qwen3")
    recipe = Recipe(n_tokens=256, layers="all")
    tokens = choose_tokens(model, recipe, None)
    X = token_embeddings(model.weights, tokens.ids, recipe).astype(np.float64)
    found = {
        key: (X - X.mean(0)) @ L.T @ (R @ (X - X.mean(0)).T) for key, L, R in dual_factors(model, tokens, recipe)
    }
    S1, S2 = (S.astype(np.float64) for S in token_signs(tokens.strings, recipe.sketch_rows, recipe.seed))
    sketched = sketch_model(model, tokens, recipe).terms
    assert list(found) == list(sketched)
    for key, M in found.items():
        assert cosine(S1 @ M @ S2.T, sketched[key]) > 1 - 1e-6, key


# Bounds


def test_projections_are_as_likely_as_they_should_be() -> None:
    layout = shaped(400, 2, [(Term("0.qk", "0.q", "0.k"), 50, 50)])
    signs = projections(layout, b"r" * 32, b"m")
    assert signs.shape == (PROJECTIONS, 500)
    counts = [int((signs == value).sum()) for value in (-1, 0, 1)]
    assert stats.chisquare(counts, np.array([1, 2, 1]) / 4 * signs.size).pvalue > 1e-4
    assert np.abs(np.corrcoef(signs)[np.triu_indices(PROJECTIONS, 1)]).max() < 0.3


@pytest.mark.parametrize("entry", ["just outside", "3 M", "2^60", "half of p", "p - 3 M", "a quarter of p"])
@pytest.mark.parametrize("trick", ["no mask", "mask w", "mask -w", "mask w / 2", "mask M"])
def test_an_entry_out_of_range_passes_a_projection_at_most_half_of_the_time(entry: str, trick: str) -> None:
    """Section 7's lemma, first part, with the masks that a cheat would choose."""
    layout = shaped(3, 2, [(Term("0.qk", "0.q", "0.k"), 2, 2)])
    M = layout.mask_bound
    w = {
        "just outside": 2 * M + 1,
        "3 M": 3 * M,
        "2^60": 1 << 60,
        "half of p": (ORDER + 1) // 2,
        "p - 3 M": ORDER - 3 * M,
        "a quarter of p": pow(4, -1, ORDER),
    }[entry]
    mask = {"no mask": 0, "mask w": w, "mask -w": -w, "mask w / 2": w // 2, "mask M": M}[trick]
    rows = [w, 5, -3, 0, 7, 9, 1]
    passed = total = 0
    for draw in range(10):
        for signs in projections(layout, bytes([draw]) * 32, b"").tolist():
            value = (sum(e * r for e, r in zip(signs, rows, strict=True)) + mask) % ORDER
            passed += min(value, ORDER - value) <= M
            total += 1
    assert passed / total <= 0.5 + 5 * 0.5 / np.sqrt(total)


def test_a_long_column_within_range_passes_at_most_half_of_the_time() -> None:
    """Section 7's lemma, second part: no entry is outside, yet the column is longer than 9 M."""
    layout = shaped(3, 2, [(Term("0.qk", "0.q", "0.k"), 60, 60)])
    M = layout.mask_bound
    for rows in ([2 * M] * 25 + [0] * 98, [M] * 83 + [0] * 40, [(-1) ** i * M for i in range(123)]):
        assert sum(w * w for w in rows) > (9 * M) ** 2
        passed = total = 0
        for draw in range(10):
            signs = projections(layout, bytes([draw]) * 32, b"").astype(object)
            for value in (signs @ field.integers(rows)).tolist():
                passed += abs(value) <= M
                total += 1
        assert passed / total <= 0.5 + 5 * 0.5 / np.sqrt(total)


def test_inequality_4_is_taken_literally() -> None:
    term, heads = Term("0.qk", "0.q", "0.k"), Term("0.qk", "0.q", "0.k", (2, 3), 1)
    for made in ([(term, 2, 2)], [(heads, 4, 6)]):
        g = made[0][0].groups[0] * made[0][0].groups[1]
        K, d, limit = 300, 5, 1
        while 2 * K**3 * d**2 * g * (9 * PROJECTIONS * d * 8 * limit) ** 4 < ORDER:
            limit *= 2
        low, high = limit // 2, limit
        while high - low > 1:
            middle = (low + high) // 2
            fits = 2 * K**3 * d**2 * g * (9 * PROJECTIONS * d * 8 * middle) ** 4 < ORDER
            low, high = (middle, high) if fits else (low, middle)
        assert shaped(K, d, made, norm=low).is_free_of_wraps()
        assert not shaped(K, d, made, norm=low + 1).is_free_of_wraps()


@given(data=st.data(), n=st.integers(1, 40))
def test_the_norm_bounds_every_column(data: st.DataObject, n: int) -> None:
    entries = st.sampled_from([-32767, -1, 0, 1, 32767, 12345])
    rows = np.array(data.draw(st.lists(st.tuples(entries, entries), min_size=n, max_size=n)), dtype=np.int16)
    norm = column_norm(rows)
    longest = max(sum(int(w) ** 2 for w in rows[:, j]) for j in range(2))
    assert norm % 1024 == 0 and norm > 0
    assert longest <= norm**2
    assert (norm - 1024) ** 2 <= longest


def _bounded(rows: np.ndarray) -> tuple[Layout, NoWrapProof]:
    layout = shaped(4, 4, [(Term("0.qk", "0.q", "0.k"), 2, 2)], norm=column_norm(rows))
    return layout, prove_no_wrap(layout, b"r" * 32, rows, field.random_vector(8))


def test_masked_sums_are_uniform_whatever_the_weights_are() -> None:
    """Kolmogorov and Smirnov; a true law fails one of these two in 10^8 runs."""
    layout = shaped(4, 4, [(Term("0.qk", "0.q", "0.k"), 2, 2)], norm=1024 * 91)
    samples = []
    for rows in (np.zeros((8, 4), np.int16), np.full((8, 4), 32767, np.int16)):
        proofs = [prove_no_wrap(layout, b"r" * 32, rows, field.random_vector(8)) for _ in range(2)]
        samples.append(np.concatenate([proof.sums.ravel() for proof in proofs]).astype(np.float64))
    limit = layout.mask_bound - layout.sum_bound
    for sample in samples:
        assert np.abs(sample).max() <= limit
        assert stats.kstest(sample, "uniform", (-limit, 2 * limit)).pvalue > 1e-8
    assert stats.ks_2samp(*samples).pvalue > 1e-8


def test_a_row_sum_in_the_outer_margin_is_never_published() -> None:
    """Between M - T and M a sum would tell something about the weights: it is refused too."""
    rows = np.random.default_rng(0).integers(-9, 9, (8, 4)).astype(np.int16)
    layout, proof = _bounded(rows)
    points = field.random_vector(8)
    for value in (layout.mask_bound - layout.sum_bound + 1, -layout.mask_bound, layout.mask_bound):
        sums = proof.sums.copy()
        sums[5, 1] = value
        with pytest.raises(InputError, match="does not bound"):
            require_no_wrap(layout, b"r" * 32, replace(proof, sums=sums), (0, 8), PointEquations())
    assert points.size == 8


# Zero knowledge


@dataclass
class Programmed:
    """A transcript whose challenge the simulator has chosen, as it may in the random oracle model."""

    e: int

    def absorb(self, label: str, data: bytes) -> None:
        """Nothing."""

    def challenge(self, label: str) -> int:
        """The chosen one."""
        return self.e


def random_points(count: int) -> list[Any]:
    return [commit(field.random_vector(1), field.random_scalar()) for _ in range(count)]


def test_a_simulator_without_any_witness_satisfies_the_quadratic_verifier() -> None:
    """Section 10: e and the responses first, then `P^, Q^, T_0` solved from the equations."""
    lengths, e, value = (4, 2), field.random_scalar(), field.random_scalar()
    weights = [Weights(1), Weights(5, field.random_vector(2), field.random_vector(2))]
    committed = random_points(4)
    responses = tuple(field.random_vector(n) for n in lengths for _ in range(2))
    blindings = tuple(field.random_vector(4).tolist())
    masks = [
        commit(response, z) + -(point * scalar(e))
        for response, z, point in zip(responses, blindings, committed, strict=True)
    ]
    total = sum(
        w.product * field.dot(responses[2 * k], responses[2 * k + 1])
        + e * w.linear(responses[2 * k], responses[2 * k + 1])
        for k, w in enumerate(weights)
    )
    tau, t_1 = field.random_scalar(), random_points(1)[0]
    t_0 = commit(field.integers([(total - e * e * value) % ORDER]), tau) + -(t_1 * scalar(e))
    proof = QuadraticProof(encode_points([*masks, t_0, t_1]), responses, blindings, tau)

    def accepts(transcript: Any) -> bool:
        equations = PointEquations()
        first = equations.extend([*committed, *decode_points(proof.masks, "")])
        of = Combination.of_point
        pairs = [CommittedPair(of(first + 2 * k), of(first + 2 * k + 1), lengths[k], weights[k]) for k in range(2)]
        require_quadratic(pairs, value, proof, first + 4, transcript, equations)
        return equations.hold()

    assert accepts(Programmed(e))
    assert not accepts(Programmed(e + 1))
    assert not accepts(Transcript("p"))


def test_a_simulator_without_any_witness_satisfies_the_no_wrap_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = shaped(4, 3, [(Term("0.qk", "0.q", "0.k"), 2, 2)])
    rng = np.random.default_rng(7)
    signs = rng.integers(-1, 2, (PROJECTIONS, 8)).astype(np.int8)
    rows = random_points(8)
    limit = layout.mask_bound - layout.sum_bound
    sums = field.integers(secrets.randbelow(2 * limit + 1) - limit for _ in range(PROJECTIONS * 3))
    sums = sums.reshape(PROJECTIONS, 3)
    blindings = field.random_vector(PROJECTIONS)
    masks = [
        commit(sums[k] % ORDER, blindings[k]) + -multiply_sum(rows, signs[k].tolist()) for k in range(PROJECTIONS)
    ]
    proof = NoWrapProof(encode_points(masks), sums, blindings)
    for program, expected in ((True, True), (False, False)):
        with monkeypatch.context() as patch:
            if program:
                patch.setattr("huref.proof.sketch.no_wrap.projections", lambda *_: signs)
            equations = PointEquations()
            first = equations.extend([*rows, *masks])
            require_no_wrap(layout, b"r" * 32, proof, (first, first + 8), equations)
            assert equations.hold() is expected


def test_two_proofs_of_one_statement_share_no_mask_and_no_response() -> None:
    first, second = (kit.prove_fingerprint(kit.a(), kit.commitment_a()) for _ in range(2))
    assert first.bound() == second.bound()
    for one, other in ((first.products, second.products), (first.quadratic.masks, second.quadratic.masks)):
        pieces = [{data[i : i + 48] for i in range(0, len(data), 48)} for data in (one, other)]
        assert not pieces[0] & pieces[1]
        assert len(pieces[0]) == len(one) // 48
    scalars = []
    for proof in (first, second):
        q = proof.quadratic
        scalars.append([*np.concatenate(q.responses).tolist(), *q.blindings, q.tau])
    assert len({*scalars[0], *scalars[1]}) == 2 * len(scalars[0])


def test_two_commitments_to_one_model_share_no_point() -> None:
    owner = kit.a()
    again = kit.committed(Opening(b"another seed".ljust(32), owner.layout, owner.strings, owner.rows))
    first = kit.commitment_a()
    pieces = [
        {c.points[i : i + 48] for i in range(0, len(c.points), 48)}
        | {c.no_wrap.masks[i : i + 48] for i in range(0, len(c.no_wrap.masks), 48)}
        for c in (first, again)
    ]
    assert not pieces[0] & pieces[1]
    assert first.root != again.root


# Completeness


@given(data=st.data())
@settings(max_examples=15)
def test_the_quadratic_protocol_is_complete(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    pairs, committed, value = [], [], 0
    for length in lengths:
        p, q = (Opened(field.random_vector(length), field.random_scalar()) for _ in range(2))
        linear = [field.random_vector(length) if data.draw(st.booleans()) else field.integers([]) for _ in range(2)]
        weights = Weights(field.random_scalar() if data.draw(st.booleans()) else 0, *linear)
        pairs.append(OpenedPair(p, q, weights))
        committed += [commit(p.values, p.blinding), commit(q.values, q.blinding)]
        value += weights.product * field.dot(p.values, q.values) + weights.linear(p.values, q.values)
    proof = prove_quadratic(pairs, Transcript("t"))
    for claimed, expected in ((value, True), (value + 1, False)):
        equations = PointEquations()
        equations.extend([*committed, *decode_points(proof.masks, "")])
        of = Combination.of_point
        verifier = [CommittedPair(of(2 * k), of(2 * k + 1), lengths[k], pair.weights) for k, pair in enumerate(pairs)]
        require_quadratic(verifier, claimed, proof, len(committed), Transcript("t"), equations)
        assert equations.hold() is expected


@st.composite
def owners(draw: st.DrawFn) -> Opening:
    """Every shape: ranks above and below the width and no multiples of it, sums of heads, 12 to 16 bits."""
    width, n_tokens = draw(st.integers(1, 5)), draw(st.integers(2, 9))
    bits = draw(st.sampled_from([12, 14, 16]))
    parts = []
    for layer in range(draw(st.integers(1, 2))):
        head_dim, heads = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        groups = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
        term = Term(f"{layer}.qk", f"{layer}.q", f"{layer}.k", groups, 0 if groups == (1, 1) else head_dim)
        parts.append((term, head_dim * heads * groups[0], head_dim * heads * groups[1]))
    n_rows = n_tokens + sum(left + right for _, left, right in parts)
    limit = 2 ** (bits - 1) - 1
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = rng.integers(-limit, limit, (n_rows, width), endpoint=True).astype(np.int16)
    layout = shaped(n_tokens, width, parts, norm=column_norm(rows), bits=bits)
    strings = tuple(b"t%d" % i for i in range(n_tokens))
    return Opening(secrets.token_bytes(32), layout, strings, rows)


@given(owner=owners())
@settings(max_examples=8)
def test_proofs_about_every_shape_hold(owner: Opening) -> None:
    commitment = kit.committed(owner)
    proof = kit.prove_fingerprint(owner, commitment)
    found = verify_sketches(commitment, proof)
    assert found.vector is not None
    assert np.array_equal(found.vector, vector_of(owner.layout, proof.sketches))
    key = owner.layout.terms[-1].key
    sketches = {name: Y.copy() for name, Y in proof.sketches.items()}
    sketches[key][-1, -1] += 1
    with pytest.raises(HurefError):
        verify_sketches(commitment, replace(proof, sketches=sketches))


def test_verifying_twice_and_in_another_order_changes_nothing() -> None:
    for _ in range(2):
        verify_commitment(kit.commitment_a())
        verify_sketches(kit.commitment_a(), kit.fingerprint_proof())


def test_a_point_outside_the_subgroup_is_no_point() -> None:
    with pytest.raises(CorruptFileError):
        decode_points(b"\x80" + bytes(46) + b"\x04", "x")
