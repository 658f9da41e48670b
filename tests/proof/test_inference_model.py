"""The integer reference model: against a float model that shares no code with it; its tables against libm."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from huref.errors import ArchitectureError, InconclusiveError
from huref.forward.checkpoint_writer import config_json, stored_name
from huref.forward.passes import logits
from huref.model.arch import open_weights
from huref.model.arch.canonical import Geometry
from huref.numerics.arrays import float32
from huref.proof.inference.model import IntegerModel, causal_pairs, divided, exact_product, run_model
from huref.proof.inference.precision import PRECISIONS, Scales, Shape, limbs
from huref.proof.inference.tables import exp_table, rope_tables, silu_table
from huref.proof.inference.weights import integer_model
from kit.llamas import as_weights, tiny_llama
from kit.memory_checkpoint import MemoryCheckpoint

SIZES = Geometry(n_layers=3, d_model=48, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=80, vocab_size=90)
TOKENS = [5, 7, 9, 50, 7, 0]
STANDARD = PRECISIONS["standard"]


@pytest.mark.parametrize("is_tied", [True, False])
def test_logits_are_those_of_the_float_model(is_tied):
    model = tiny_llama(3, is_tied=is_tied, sizes=SIZES)
    found = run_model(integer_model(as_weights(model)), TOKENS, STANDARD).logits / 2.0**STANDARD.logit_scale
    wanted = logits(model, np.array([TOKENS]))[0, -1]
    assert np.abs(found - wanted).max() < 0.02 * wanted.std()
    assert found.argmax() == wanted.argmax()


def test_the_gauge_is_canonical():
    """Rows of the transposed down projection have unit length; gains and scales that move leave no trace."""
    model = tiny_llama(4, sizes=SIZES)
    scales = np.random.default_rng(0).uniform(0.5, 1.5, SIZES.d_ff)
    moved = dict(model.tensors)
    moved["layers.1.down"] = moved["layers.1.down"] * scales
    moved["layers.1.up"] = moved["layers.1.up"] / scales[:, None]
    moved["layers.1.attention_norm"] = moved["layers.1.attention_norm"] * 2
    for role in "qkv":
        moved[f"layers.1.{role}"] = moved[f"layers.1.{role}"] / 2
    a, b = (integer_model(as_weights(m)) for m in (model, replace(model, tensors=moved)))
    length = np.linalg.norm(a.layer(1, "down").astype(float), axis=1) / 2.0 ** a.shape.exponents["layers.1.down"]
    assert np.allclose(length, 1, atol=1e-3)
    assert all(np.abs(a.matrices[name].astype(int) - b.matrices[name]).max() <= 1 for name in a.matrices)


def test_products_are_exact():
    dice = np.random.default_rng(0)
    x, w = dice.integers(-(1 << 58), 1 << 58, (3, 40)), dice.integers(-(1 << 15), 1 << 15, (5, 40)).astype(np.int16)
    for values in (x, x >> 40, x >> 34, -abs(x)):
        wanted = values.astype(object) @ w.T.astype(object)
        assert (exact_product(values, w).astype(object) == wanted).all()


def test_rounding_is_half_up_and_rests_fit():
    values = np.arange(-40, 40)
    quotient, rest = divided(values, 3)
    assert (quotient == np.floor(values / 8 + 0.5)).all()
    assert ((rest >= 0) & (rest < 8) & (quotient * 8 + rest == values + 4)).all()


@pytest.mark.parametrize("name", list(PRECISIONS))
def test_tables_hold_the_nearest_integers(name):
    p = PRECISIONS[name]
    z = np.arange(1 << p.score_bits) / 2.0**p.score_scale
    assert np.abs(exp_table(p) - np.exp(-z) * 2.0**p.exp_scale).max() <= 0.5 + 1e-9
    x = (np.arange(1 << p.gate_bits) - (1 << (p.gate_bits - 1))) / 2.0**p.gate_scale
    assert np.abs(silu_table(p) - x / (1 + np.exp(-x)) * 2.0**p.silu_scale).max() <= 0.5 + 1e-6


def test_rotary_table_holds_the_nearest_integers():
    shape = integer_model(as_weights(tiny_llama(0, sizes=SIZES))).shape
    cos, sin = rope_tables(STANDARD, shape, 50)
    angle = np.arange(50)[:, None] * 10000.0 ** -(np.arange(4) / 4)
    assert np.abs(cos - np.cos(angle) * 2.0**14).max() <= 0.5 + 1e-6
    assert np.abs(sin - np.sin(angle) * 2.0**14).max() <= 0.5 + 1e-6


def test_roots_and_weights_are_the_defined_integers():
    model = integer_model(as_weights(tiny_llama(5, sizes=SIZES)))
    scales, run = Scales(STANDARD, model.shape), run_model(model, TOKENS, STANDARD)
    for norm in run.norms:
        for squares, root in zip(norm.squares, norm.root, strict=True):
            exact = math.isqrt(scales.root_target // (squares + scales.epsilon))
            assert root == exact
            assert root**2 * (squares + scales.epsilon) <= scales.root_target
    t, _ = causal_pairs(len(TOKENS))
    for attention in run.attention:
        assert all((attention.distance[h, t == 3] == 0).any() for h in range(SIZES.n_heads))
        sums = np.array([attention.weight[:, t == i].sum(axis=1) for i in range(len(TOKENS))])
        assert np.abs(sums - (1 << STANDARD.prob_scale)).max() <= len(TOKENS)


def test_limbs_cover_all_bits():
    assert limbs(36, 18) == (18, 18)
    assert limbs(40, 18) == (18, 18, 4)
    assert all(sum(limbs(bits, 9)) == bits for bits in range(1, 80))


def test_what_leaves_the_range_is_refused():
    model = integer_model(as_weights(tiny_llama(3, sizes=SIZES)))
    loud = {name: m if not name.endswith("q") else np.full_like(m, 32767) for name, m in model.matrices.items()}
    shape = replace(model.shape, exponents={**model.shape.exponents, "layers.0.q": 5, "layers.0.k": 5})
    with pytest.raises(InconclusiveError, match="an attention score"):
        run_model(IntegerModel(shape, loud), TOKENS, STANDARD)


def test_only_plain_llamas_are_taken():
    model = tiny_llama(0, sizes=SIZES)
    tensors = {stored_name(name): float32(tensor) for name, tensor in model.tensors.items()}
    config = {**config_json(model, np.float32), "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    with pytest.raises(ArchitectureError, match="plain Llama"):
        integer_model(open_weights(MemoryCheckpoint(tensors, config)))


def test_shapes_are_checked():
    shape = integer_model(as_weights(tiny_llama(0, sizes=SIZES))).shape
    assert Shape.from_dict(shape.to_dict()) == shape
    assert Fraction(shape.epsilon) == Fraction(1e-5)
    wrong = [
        {"heads": 5},
        {"layers": 0},
        {"width": True},
        {"theta": "2/4"},
        {"theta": "1/0"},
        {"theta": "1e9999999"},
        {"theta": 10},
        {"layers": 1 << 40},
        {"epsilon": "0"},
        {"hidden": 1 << 30},
    ]
    wrong += [{"exponents": shape.to_dict()["exponents"][1:]}, {"layers": 2}, {"is_tied": 1}, {"more": 1}]
    for change in wrong:
        with pytest.raises((ValueError, TypeError, KeyError)):
            Shape.from_dict({**shape.to_dict(), **change})
