"""Kinship: what no rearrangement changes, what strangers lack, and formulas written a second time in numpy."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import KINDS, apply, parse_kinds
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.renumbering import new_ids
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.kinship.alignment import (
    Heads,
    Neurons,
    Relation,
    ResidualMap,
    Stack,
    aligned_scores,
    operators,
    pair_heads,
    pair_layers,
    pair_neurons,
    plan_layers,
    read_heads,
    read_neurons,
    relate,
    rotation_deviation,
    weights_map,
)
from huref.kinship.alignment import relation as relation_module
from huref.kinship.partners import match_layers
from huref.model.arch import open_weights
from huref.model.model import Model
from huref.model.tokens import Vocabulary
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import VOCAB, state_of

FAMILIES = (
    "llama",
    "qwen3",
    "gemma",
    "gemma3",
    "gpt2",
    "gpt-neox",
    "opt",
    "phi3",
    "mixtral",
    "qwen2-moe-mixed",
    "falcon-7b",
    "bloom",
)
ALIGNED_LESS: tuple[str, ...] = ()
"""Attacks that lower the aligned score of random weights."""


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny vocabularies: 90 tokens fix a map of 32 dimensions."""
    monkeypatch.setattr("huref.model.tokens.selection.MIN_TOKENS", 64)


@cache
def opened(name: str) -> tuple[object, Decoder]:
    state, config = state_of(name)
    weights = open_weights(MemoryCheckpoint(state, config))
    return layout_of(weights), load_decoder(weights).with_tokens(np.arange(VOCAB - 6))


def model_of(name: str, decoder: Decoder, *, spelling: str = "t") -> Model:
    """The decoder as it would be stored, with its tokens' strings where its embedding rows went."""
    layout, _ = opened(name)
    tensors = stored_tensors(layout, decoder, np.float32)
    weights = open_weights(MemoryCheckpoint(tensors, stored_config(layout, decoder, np.float32)))
    strings: list[bytes | None] = [None] * VOCAB
    for old, new in enumerate(new_ids(decoder).tolist()):
        strings[new] = f"{spelling}{old}".encode()
    return Model(name, weights, Vocabulary(tuple(strings), frozenset(), "bpe", "test"))


def related(a: Model, b: Model) -> Relation:
    found = relate(a, b)
    assert isinstance(found, Relation), found
    return found


def stranger(name: str, seed: int) -> Model:
    """The same shapes with other random numbers."""
    dice = torch.Generator().manual_seed(seed)
    _, decoder = opened(name)
    fresh = {
        key: 0.25 * torch.randn(t.shape, generator=dice, dtype=torch.float64).numpy() if t.ndim > 1 else t
        for key, t in decoder.tensors.items()
    }
    return model_of(name, replace(decoder, tensors=fresh))


@pytest.mark.parametrize("name", FAMILIES)
def test_no_attack_hides_the_pairing(name: str) -> None:
    """Every attack that the family allows, and all of them together: every neuron keeps its partner."""
    _, decoder = opened(name)
    base = model_of(name, decoder)
    for kind in (*(kind for kind, entry in KINDS.items() if not entry.obstacle(decoder)), "all"):
        found = related(base, model_of(name, apply(decoder, parse_kinds(kind), 6).model))
        assert found.agreement == 1.0, (kind, found.tried, [layer.agreement for layer in found.layers])
        assert found.aligned is not None and (found.aligned > 0.999 or kind in ALIGNED_LESS), kind


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stranger_of_the_same_shape_is_at_chance(name: str) -> None:
    base, other = model_of(name, opened(name)[1]), stranger(name, 11)
    found = related(base, other)
    assert found.agreement < 0.2 and abs(found.aligned or 0) < 0.25
    widths = {base.weights.shape(f"layers.{i}.up")[0] for i in range(base.weights.geometry.n_layers)}
    assert {layer.chance for layer in found.layers} <= {1 / width for width in widths}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["llama", "gpt2", "mixtral"]))
def test_any_seed_of_every_attack_at_once(seed: int, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huref.model.tokens.selection.MIN_TOKENS", 64)
        _, decoder = opened(name)
        found = related(model_of(name, decoder), model_of(name, apply(decoder, parse_kinds("all"), seed).model))
    assert found.agreement == 1.0


def test_which_is_first_does_not_matter() -> None:
    _, decoder = opened("llama")
    a, b = model_of("llama", decoder), model_of("llama", apply(decoder, ("all",), 2).model)
    there, back = related(a, b), related(b, a)
    assert there.agreement == back.agreement and there.aligned == pytest.approx(back.aligned, abs=1e-5)
    assert [(x.layer_b, x.layer_a) for x in back.layers] == [(x.layer_a, x.layer_b) for x in there.layers]


def test_models_without_a_common_token_are_aligned_by_their_weights() -> None:
    """A replaced tokenizer and a turned stream: 64 neurons a layer and 32 dimensions are enough."""
    dice = np.random.default_rng(3)
    layers = [_random_neurons(96, 24, dice) for _ in range(3)]
    turn = _turn(24, dice)
    moved = []
    for layer in layers:
        order, signs = dice.permutation(96), _signs(96, dice)
        parts = [_near(t, 0.05, dice)[order] @ turn for t in (layer.acts, layer.ups, layer.downs)]
        moved.append(Neurons(parts[0], parts[1] * signs, parts[2] * signs))
    found = weights_map(layers, moved)
    assert found is not None and found.R is not None and float((found.R * turn).sum()) / 24 > 0.99
    pairs = [
        pair_layers(Stack.of([x], found.forward), Stack.of([y]))[0][0] for x, y in zip(layers, moved, strict=True)
    ]
    assert min(pair.agreement for pair in pairs) > 0.95


def test_the_weights_alone_align_no_strangers() -> None:
    dice = np.random.default_rng(4)
    a, b = ([_random_neurons(96, 24, dice) for _ in range(3)] for _ in range(2))
    found = weights_map(a, b)
    if found is not None:
        pairs = [pair_layers(Stack.of([x], found.forward), Stack.of([y]))[0][0] for x, y in zip(a, b, strict=True)]
        assert max(pair.agreement for pair in pairs) < 0.1


def test_a_dropped_layer_and_a_doubled_one_are_found() -> None:
    dice = np.random.default_rng(1)
    layers = [_random_neurons(64, 16, dice) for _ in range(4)]
    deep = [layers[0], layers[1], layers[1], layers[2], layers[3]]
    table = np.array(
        [[pair_neurons(x, y).agreement for y in deep] for x in (layers[0], layers[1], layers[3])],
    )
    assert match_layers(table)[0] == (0, 0) and match_layers(table)[2] == (2, 4)
    assert match_layers(table)[1][1] in (1, 2) and (table[1, 1:3] == 1).all()


# The parts


def test_agreement_is_what_numpy_says() -> None:
    dice = np.random.default_rng(0)
    x, y = _random_neurons(40, 12, dice), _random_neurons(50, 12, dice)
    y = Neurons(*(np.concatenate([t[:20] * 0.9 + 0.1 * u[:20], u[20:]]) for t, u in _parts(x, y)))
    G = x.acts @ y.acts.T
    UD = (x.ups @ y.ups.T) * (x.downs @ y.downs.T)
    agreeing = np.flatnonzero(G.argmax(1) == UD.argmax(1))
    expected = len(set(G.argmax(1)[agreeing])) / 40  # each candidate counts once
    found = pair_neurons(x, y)
    assert found.agreement == expected >= 0.45 and found.chance == 1 / 50


def test_candidates_that_attract_everybody_or_are_all_alike_agree_with_nobody() -> None:
    dice = np.random.default_rng(0)
    x = Neurons(*(dice.choice(np.float32([-0.25, 0.25]), (64, 16)) for _ in range(3)))  # products without rounding
    one = np.full((64, 16), 0.25, np.float32)
    assert pair_neurons(x, Neurons(one, one, one)).agreement <= 1 / 64
    hub = Neurons(*(np.concatenate([t.mean(axis=0, keepdims=True) * 50, t[1:]]) for t in (x.acts, x.ups, x.downs)))
    assert pair_neurons(_random_neurons(64, 16, dice), hub).agreement < 0.15


def test_dead_neurons_have_no_partner() -> None:
    dice = np.random.default_rng(0)
    x = _random_neurons(64, 16, dice)
    masked = [t.copy() for t in (x.acts, x.ups, x.downs)]
    for tensor in masked:
        tensor[:32] = 0
    half = Neurons(*masked)
    assert pair_neurons(half, half).agreement == 0.5 and pair_neurons(half, x).agreement == 0.5


def test_copies_of_a_neuron_in_several_experts_all_find_the_dense_one() -> None:
    dice = np.random.default_rng(0)
    x = _random_neurons(40, 16, dice)
    experts = Neurons(*(np.concatenate([t] * 4) for t in (x.acts, x.ups, x.downs)), n_copies=4)
    assert pair_neurons(experts, x).agreement == 1.0
    assert (
        pair_neurons(Neurons(experts.acts, experts.ups, experts.downs), x).agreement == 0.25
    )  # not if they are none


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_signs_and_order_of_neurons_change_nothing(seed: int) -> None:
    dice = np.random.default_rng(seed)
    x, y = _random_neurons(48, 12, dice), _random_neurons(48, 12, dice)
    order, signs = dice.permutation(48), _signs(48, dice)
    other = Neurons(y.acts[order], (y.ups * signs)[order], (y.downs * signs)[order])
    plain, moved = pair_neurons(x, y), pair_neurons(x, other)
    assert plain.agreement == moved.agreement
    np.testing.assert_array_equal(plain.first, order[moved.first])
    np.testing.assert_array_equal(plain.second, order[moved.second])


def test_heads_are_paired_by_their_operators() -> None:
    """Any invertible map inside a head, its inverse on the other side, and another order of the heads."""
    dice = np.random.default_rng(5)
    h, e, d = 8, 4, 32
    a = _random_heads(h, e, d, dice)
    C, D = (np.eye(e, dtype=np.float32) + 0.3 * dice.standard_normal((h, e, e), np.float32) for _ in range(2))
    order = dice.permutation(h)
    undo = [np.linalg.inv(m).swapaxes(1, 2) for m in (C, D)]
    b = Heads((C @ a.q)[order], (undo[0] @ a.k)[order], (D @ a.v)[order], (undo[1] @ a.o)[order])
    found = pair_heads(a, b)
    assert found.agreement == 1.0 and order[found.first].tolist() == list(range(h))
    assert pair_heads(a, _random_heads(h, e, d, dice)).agreement <= 0.5


def test_head_likeness_is_the_cosine_of_the_operators() -> None:
    dice = np.random.default_rng(6)
    a, b = (_random_heads(3, 4, 10, dice) for _ in range(2))
    best = []
    for left, right in (("q", "k"), ("v", "o")):
        A, B = (np.einsum("hei,hej->hij", getattr(x, left), getattr(x, right)).reshape(3, -1) for x in (a, b))
        B /= np.linalg.norm(B, axis=1, keepdims=True)
        best.append((A @ B.T).argmax(1))
    found = pair_heads(a, b)
    assert found.first.tolist() == best[0].tolist() and found.second.tolist() == best[1].tolist()


def test_aligned_scores_are_what_numpy_says_and_probes_come_near(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(7)
    d = 80
    x = _random_neurons(120, d, dice)
    turn = _turn(d, dice)
    y = Neurons(*(_near(t, 0.6, dice) @ turn for t in (x.acts, x.ups, x.downs)))
    a, b = (_random_heads(4, 20, d, dice) for _ in range(2))
    where = ResidualMap(turn, "embeddings")
    exact = aligned_scores(operators(x, a), operators(y, b), where)
    R = turn.astype(np.float64)
    for kind, (left, right) in operators(x, a).items():
        A = R.T @ (left.astype(np.float64).T @ right.astype(np.float64)) @ R
        B = operators(y, b)[kind][0].astype(np.float64).T @ operators(y, b)[kind][1].astype(np.float64)
        A, B = (M - np.trace(M) / d * np.eye(d) for M in (A, B))
        assert exact[kind] == pytest.approx((A * B).sum() / np.linalg.norm(A) / np.linalg.norm(B), abs=1e-4)
    assert exact["gate_down"] > 0.5 and abs(exact["qk"]) < 0.1
    monkeypatch.setattr("huref.kinship.alignment.aligned.PROBES", 64)
    probed = aligned_scores(operators(x, a), operators(y, b), where)
    assert all(probed[kind] == pytest.approx(exact[kind], abs=4 / 64) for kind in exact)


def test_under_random_rotations_the_aligned_score_has_the_mean_and_spread_it_claims() -> None:
    """Schur: mean 0, and never more than sqrt(2) / (d - 1), whatever the operators; here as skewed as can be."""
    dice, d = np.random.default_rng(0), 16
    for A in (np.diag(np.arange(d) * 1.0), dice.normal(size=(d, d)), np.triu(np.ones((d, d)), 1)):
        B = np.outer(dice.normal(size=d), dice.normal(size=d)) + np.diag(np.arange(d) > 10)
        A0, B0 = (M - np.trace(M) / d * np.eye(d) for M in (A, B))
        scores = []
        for _ in range(4000):
            Q, R = np.linalg.qr(dice.normal(size=(d, d)))
            Q = Q * np.sign(np.diag(R))
            scores.append((Q.T @ A0 @ Q * B0).sum() / np.linalg.norm(A0) / np.linalg.norm(B0))
        assert abs(np.mean(scores)) < 0.006 and np.std(scores) < 1.05 * rotation_deviation(d)
        parts = [[(M + s * M.T) / 2 for s in (1, -1)] for M in (A0, B0)]
        dims = (d * (d + 1) / 2 - 1, d * (d - 1) / 2)
        exact = sum((np.linalg.norm(a) * np.linalg.norm(b)) ** 2 / n for a, b, n in zip(*parts, dims, strict=True))
        assert np.std(scores) == pytest.approx(exact**0.5 / np.linalg.norm(A0) / np.linalg.norm(B0), rel=0.05)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 1 << 29))
def test_a_plan_covers_what_it_can_afford(n_a: int, n_b: int, weights: int) -> None:
    plan = plan_layers(n_a, n_b, weights)
    assert len(plan.rows) == len(plan.windows) == len(set(plan.rows)) >= 1
    assert list(plan.rows) == sorted(plan.rows) and all(0 <= i < n_a for i in plan.rows)
    assert all(window and all(0 <= j < n_b for j in window) for window in plan.windows)
    if plan.is_complete:
        assert plan.rows == tuple(range(n_a)) and all(len(window) == n_b for window in plan.windows)
    elif n_a == n_b:
        assert all(i in window for i, window in zip(plan.rows, plan.windows, strict=True))


def test_layers_the_user_names_are_compared_with_every_layer() -> None:
    plan = plan_layers(40, 30, 1 << 29, (0, 39))
    assert plan.rows == (0, 39) and all(len(window) == 30 for window in plan.windows)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_layers_are_matched_as_well_as_can_be(n: int, m: int, seed: int) -> None:
    table = np.random.default_rng(seed).uniform(size=(n, m))
    small = table if n <= m else table.T
    best = max(sum(small[i, j] for i, j in enumerate(order)) for order in permutations(range(max(n, m)), min(n, m)))
    found = match_layers(table)
    assert sum(table[i, j] for i, j in found) == pytest.approx(best) and len(found) == min(n, m)


def test_pairs_that_were_not_tried_are_never_partners() -> None:
    table = np.full((3, 3), np.nan)
    table[0, 1] = table[2, 1] = 0.5
    assert match_layers(table) in ([(0, 1)], [(2, 1)])


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "olmo2", "mixtral"])
def test_rows_have_unit_length_and_layernorm_rows_no_mean(name: str) -> None:
    weights = model_of(name, opened(name)[1]).weights
    layer = read_neurons(weights, 0)
    for rows in (layer.acts, layer.downs):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        if weights.architecture.norm == "layer":
            assert np.abs(rows.mean(axis=1)).max() < 1e-6
    assert read_heads(weights, 0).k.shape[0] == weights.geometry.n_heads


def test_too_few_neurons_and_nothing_in_common_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    base = model_of("llama", opened("llama")[1])
    monkeypatch.setattr(relation_module, "MIN_NEURONS", 1000)
    assert "fewer than 1000 feed-forward neurons" in str(relate(base, base))
    monkeypatch.undo()
    monkeypatch.setattr("huref.kinship.alignment.relation.weights_map", lambda a, b: None)
    other = model_of("llama", opened("llama")[1], spelling="other")
    assert isinstance(relate(base, other), Relation)  # of equal width: the identity is a map
    wide = model_of("gpt2", opened("gpt2")[1], spelling="other")
    wide.weights.geometry = wide.weights.geometry.__class__(**{**wide.weights.geometry.__dict__, "d_model": 33})
    assert "no map between residual streams" in str(relate(base, wide))


def _random_neurons(n: int, d: int, dice: np.random.Generator) -> Neurons:
    return Neurons(*(_unit(dice.standard_normal((n, d), np.float32)) for _ in range(3)))


def _random_heads(h: int, e: int, d: int, dice: np.random.Generator) -> Heads:
    return Heads(*(dice.standard_normal((h, e, d), np.float32) for _ in range(4)))


def _near(rows: np.ndarray, amount: float, dice: np.random.Generator) -> np.ndarray:
    """Unit rows with so much noise."""
    return _unit(rows + amount * dice.standard_normal(rows.shape, np.float32) / rows.shape[1] ** 0.5)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _turn(d: int, dice: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(dice.standard_normal((d, d), np.float32))[0]


def _signs(n: int, dice: np.random.Generator) -> np.ndarray:
    return dice.choice(np.float32([-1, 1]), (n, 1))


def _parts(x: Neurons, y: Neurons) -> list[tuple[np.ndarray, np.ndarray]]:
    assert x.ups is not None and y.ups is not None
    return [(x.acts, y.acts), (x.ups, y.ups), (x.downs, y.downs)]


def test_a_wide_layer_is_aligned_by_its_outstanding_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["huref.kinship.alignment.weights_map"], "_MOST_NEURONS", 80)
    dice = np.random.default_rng(8)
    layers = [_random_neurons(200, 16, dice) for _ in range(3)]
    turn = _turn(16, dice)
    moved = []
    for layer in layers:
        order = dice.permutation(200)
        moved.append(Neurons(*(t[order] @ turn for t in (layer.acts, layer.ups, layer.downs))))
    found = weights_map(layers, moved)
    assert found is not None and found.R is not None and float((found.R * turn).sum()) / 16 > 0.999


@pytest.mark.parametrize("turned", [False, True])
def test_deep_kin_are_found_by_a_strip_of_the_table_and_deep_strangers_by_all_of_it(
    monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    monkeypatch.setattr(relation_module, "_SHALLOW", 1)
    _, decoder = opened("llama")
    base = model_of("llama", decoder)
    kin = model_of("llama", apply(decoder, parse_kinds("all" if turned else "permute_neurons"), 4).model)
    if kin.weights.geometry.n_layers != base.weights.geometry.n_layers:  # `all` may add layers
        kin = model_of("llama", apply(decoder, parse_kinds("rotate_residual+permute_neurons"), 4).model)
    found = related(base, kin)
    assert found.agreement == 1.0 and not found.is_complete
    assert found.where.method == ("embeddings" if turned else "identity")
    whole = related(base, stranger("llama", 3))
    assert whole.is_complete and not np.isnan(whole.table).any() and whole.agreement < 0.2
