"""The sketch: golden signs and vectors that any implementation must give, and the laws it rests on."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.fingerprints.sketch import mean_cosine, project, slot_projection, slots_of, token_signs, unit_rms
from huref.numerics.cosine import cosine


def test_token_signs_follow_the_format_page_bit_by_bit() -> None:
    """docs/formats/fingerprint-v1.md, section 4, written out again with nothing but hashlib."""
    tokens, rows, seed = [b" the", "ж".encode(), b"\x00\xff"], 8, "huref/1"
    S1, S2 = token_signs(tokens, rows, seed)
    for column, token in enumerate(tokens):
        message = b"huref/sketch/1" + (7).to_bytes(4, "little") + b"huref/1" + token
        stream = hashlib.shake_256(message).digest(2)
        bits = [(stream[i // 8] >> (i % 8)) & 1 for i in range(16)]
        assert S1[:, column].tolist() == [1 - 2 * bit for bit in bits[:8]]
        assert S2[:, column].tolist() == [1 - 2 * bit for bit in bits[8:]]


def test_golden_signs() -> None:
    """Fixed for ever: a change breaks every fingerprint that exists."""
    S1, S2 = token_signs([b" the", b"huref"], 64, "huref/1")
    packed = [np.packbits(S < 0, axis=0, bitorder="little").T.tobytes().hex() for S in (S1, S2)]
    assert packed == GOLDEN_TOKEN_SIGNS
    slot = np.stack([slot_projection(unit, "qk/-1", "huref/1") for unit in np.eye(4096)[:64]])
    assert hashlib.sha256((slot < 0).tobytes()).hexdigest() == GOLDEN_SLOT_DIGEST


@given(seed=st.integers(0, 999), n=st.sampled_from([64, 144, 4096]))
@settings(max_examples=10, deadline=None)
def test_slot_projection_follows_the_format_page(seed: int, n: int) -> None:
    """Section 4, step 4, with the whole sign matrix."""
    flat = np.random.default_rng(seed).normal(size=n)
    stream = hashlib.shake_256(b"huref/project/1" + (1).to_bytes(4, "little") + b"s" + b"vo/-2").digest(512 * n // 8)
    bits = [(byte >> i) & 1 for byte in stream for i in range(8)]
    signs = 1 - 2 * np.array(bits).reshape(512, n)
    np.testing.assert_allclose(slot_projection(flat, "vo/-2", "s"), signs @ flat, atol=1e-9 * n)


def project_last(sketches: dict[str, np.ndarray], n_layers: int, seed: str) -> np.ndarray:
    return project(sketches, slots_of(sketches, n_layers, is_dual=False), seed)


def test_golden_vector() -> None:
    """Two made-up sketches in, 512 numbers out."""
    grid = np.arange(4096, dtype=np.float64).reshape(64, 64)
    sketches = {"3.qk": unit_rms(np.sin(grid)), "2.vo": unit_rms(np.cos(grid / 7))}
    vector = project_last(sketches, 4, "huref/1")
    assert vector.shape == (512,)
    np.testing.assert_allclose(vector[:6], GOLDEN_VECTOR, rtol=0, atol=2e-6)


@given(n=st.integers(1, 40), rows=st.sampled_from([8, 12, 64]), data=st.data())
@settings(max_examples=20, deadline=None)
def test_signs_belong_to_strings_not_to_places(n: int, rows: int, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.binary(min_size=1, max_size=6), min_size=n, max_size=n, unique=True))
    order = data.draw(st.permutations(range(n)))
    S1, S2 = token_signs(tokens, rows, "s")
    T1, T2 = token_signs([tokens[i] for i in order], rows, "s")
    assert np.array_equal(T1, S1[:, order]) and np.array_equal(T2, S2[:, order])


def test_signs_are_fair_and_independent() -> None:
    S1, S2 = token_signs([b"%d" % i for i in range(4096)], 64, "x")
    rows = np.concatenate([S1, S2])
    gram = rows @ rows.T / 4096
    np.fill_diagonal(gram, 0)
    assert abs(rows.mean(1)).max() < 5 / 64  # standard error 1/64
    assert abs(gram).max() < 6 / 64
    other = np.concatenate(token_signs([b"%d" % i for i in range(4096)], 64, "y"))
    assert abs((rows * other).mean()) < 5 / np.sqrt(rows.size)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, 0.98])
def test_the_cosine_of_sketches_estimates_the_correlation_of_terms(rho: float) -> None:
    """E cos = rho; for full-rank terms the standard error of 64 x 64 numbers is (1 - rho^2) / 64."""
    dice = np.random.default_rng(int(rho * 100))
    K = 600
    S1, S2 = token_signs([b"%d" % i for i in range(K)], 64, "huref/1")
    errors = []
    for _ in range(4):
        A = dice.normal(size=(K, K))
        B = rho * A + np.sqrt(1 - rho**2) * dice.normal(size=(K, K))
        exact = np.corrcoef(A.ravel(), B.ravel())[0, 1]
        errors.append(mean_cosine([(S1 @ A @ S2.T, S1 @ B @ S2.T)]) - exact)
    assert abs(np.mean(errors)) < 4 * (1 - rho**2 + 0.02) / 64 / 2


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_vectors_cosine_is_the_mean_over_terms(rho: float) -> None:
    """Six slots; mixing terms of different slots must not show: standard error (1 - rho^2) / sqrt(512)."""
    dice = np.random.default_rng(int(rho * 10) + 1)
    found = []
    for _ in range(6):
        a = {
            f"{layer}.{kind}": unit_rms(dice.normal(size=(64, 64))) for layer in (2, 3) for kind in ("qk", "vo", "u")
        }
        noise = {key: unit_rms(dice.normal(size=(64, 64))) for key in a}
        b = {key: unit_rms(rho * a[key] + np.sqrt(1 - rho**2) * noise[key]) for key in a}
        found.append(cosine(project_last(a, 4, "huref/1"), project_last(b, 4, "huref/1")))
    assert np.mean(found) == pytest.approx(rho, abs=4 * (1 - rho**2 + 0.02) / np.sqrt(512 * 6))


def test_terms_of_other_slots_do_not_leak() -> None:
    Y = unit_rms(np.random.default_rng(0).normal(size=(64, 64)))
    as_qk, as_vo = project_last({"3.qk": Y}, 4, "huref/1"), project_last({"3.vo": Y}, 4, "huref/1")
    assert abs(cosine(as_qk, as_vo)) < 5 / np.sqrt(512)


def test_slots_count_from_the_last_layer() -> None:
    Y = unit_rms(np.random.default_rng(1).normal(size=(64, 64)))
    assert np.array_equal(project_last({"3.qk": Y}, 4, "s"), project_last({"29.qk": Y}, 30, "s"))


def test_vectors_are_gaussian() -> None:
    """The 512 numbers of a fingerprint, for sketches far from Gaussian: moments of N(0, 1)."""
    Y = np.sign(np.random.default_rng(2).normal(size=(64, 64))) ** 3
    v = project_last({"1.qk": unit_rms(Y)}, 2, "huref/1").astype(np.float64)
    assert abs(v.mean()) < 4 / np.sqrt(512)
    assert np.mean(v**4) == pytest.approx(3, abs=4 * np.sqrt(24 / 512))


GOLDEN_TOKEN_SIGNS = ["68d328f0948d78c72322142b980b9150", "70ca5ab4dabf807b0161873bf74f37e1"]
GOLDEN_SLOT_DIGEST = "30abbb47dec9a740579747d946d941a6817ca2ac386cb7b5da92193325e4ce15"
GOLDEN_VECTOR = [-0.633382, 0.470728, -0.5835624, -1.3003148, 1.9318433, -0.8115429]
