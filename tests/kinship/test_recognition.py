"""Neuron codes: what no rearrangement changes of them, what strangers lack, and formulas written a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import KINDS, apply, parse_kinds
from huref.fingerprints.codes import CodeRecipe, LayerCodes, kept_layers, packed, unpacked
from huref.fingerprints.coding import DualFrame, dual_projection, encode_layer, plain_projection
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.renumbering import new_ids
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.kinship.frames import recognise_models
from huref.kinship.prepared import Prepared
from huref.kinship.recognition import Coded, Recognised, recognise
from huref.kinship.witnesses import GATED, examine, head_agreement, operator_cosines, pair
from huref.model.arch import open_weights
from huref.model.layers import read_neurons
from huref.model.model import Model
from huref.model.tokens import Vocabulary, sampled
from huref.numerics.assignment import assign
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


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny vocabularies: 90 tokens make a frame of 32 dimensions."""
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


def recognised(a: Model, b: Model) -> Recognised:
    found = recognise_models(Prepared(a), Prepared(b))
    assert isinstance(found, Recognised), found
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


# What no rearrangement changes


@pytest.mark.parametrize("name", FAMILIES)
def test_no_attack_hides_the_neurons(name: str) -> None:
    """Every attack that the family allows, and all of them together: every neuron keeps its partner by every witness,
    in the frame of the tokens, without a map."""
    _, decoder = opened(name)
    base = model_of(name, decoder)
    for kind in (*(kind for kind, entry in KINDS.items() if not entry.obstacle(decoder)), "all"):
        found = recognised(base, model_of(name, apply(decoder, parse_kinds(kind), 6).model))
        assert found.found.method == "tokens" and set(found.found.witnesses.values()) == {1.0}, (kind, found.tried)
        assert found.found.aligned is not None and found.found.aligned > 0.99, kind


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_codes_are_the_same_bits_after_a_rotation(name: str) -> None:
    """But for those that lie on the plane within rounding."""
    _, decoder = opened(name)
    recipe, found = CodeRecipe(), []
    for each in (decoder, apply(decoder, parse_kinds("rotate_residual"), 3).model):
        model = model_of(name, each)
        projection = dual_projection(model, sampled(model.vocabulary, 4096, model.n_rows), recipe)
        found.append(encode_layer(model.weights, 1, projection, recipe))
    one, other = found
    for part in ("gate", "down", "qk", "vo"):
        flipped = np.bitwise_count(getattr(one, part) ^ getattr(other, part)).mean() / 8
        assert flipped < 0.002, part
    assert all(score > 0.9999 for score in operator_cosines(one, other).values())


def test_whether_the_stream_was_turned_is_told() -> None:
    _, decoder = opened("llama")
    base = model_of("llama", decoder)
    for kind, is_turned in (("identity", False), ("permute_neurons", False), ("rotate_residual", True)):
        assert recognised(base, model_of("llama", apply(decoder, parse_kinds(kind), 2).model)).is_turned == is_turned


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["llama", "gpt2", "mixtral"]))
def test_any_seed_of_every_attack_at_once(seed: int, name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huref.model.tokens.selection.MIN_TOKENS", 64)
        _, decoder = opened(name)
        found = recognised(model_of(name, decoder), model_of(name, apply(decoder, parse_kinds("all"), seed).model))
    assert found.found.agreement == 1.0


def test_which_is_first_does_not_matter() -> None:
    _, decoder = opened("llama")
    a, b = model_of("llama", decoder), model_of("llama", apply(decoder, ("all",), 2).model)
    for x, y in ((a, b), (a, stranger("llama", 3))):
        there, back = recognised(x, y).found, recognised(y, x).found
        assert there.agreement == back.agreement and there.witnesses == back.witnesses
        assert there.aligned == pytest.approx(back.aligned, abs=1e-6)
        assert {(m.layer_b, m.layer_a) for m in back.layers} == {(m.layer_a, m.layer_b) for m in there.layers}


# Strangers, and what else can be in the way


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stranger_of_the_same_shape_is_at_chance(name: str) -> None:
    """In every frame that is tried: a handful of neurons of 64."""
    found = recognised(model_of(name, opened(name)[1]), stranger(name, 11))
    assert max(found.tried.values()) < 0.13 and abs(found.found.aligned or 0) < 0.1
    assert {"tokens", "identity"} <= set(found.tried) and not found.is_turned


def test_without_a_common_token_the_streams_own_dimensions_are_a_frame() -> None:
    """A replaced tokenizer leaves the stream as it was."""
    _, decoder = opened("llama")
    base, other = model_of("llama", decoder), model_of("llama", decoder, spelling="other")
    found = recognised(base, other)
    assert found.found.method == "identity" and found.found.agreement == 1.0 and found.shared_tokens == 0


def test_a_handful_of_common_tokens_is_no_frame() -> None:
    """Ten strings in common make no frame, and agreement at chance shows nothing then."""
    other = stranger("llama", 7)
    names = [f"new{i}".encode() if token and i >= 10 else token for i, token in enumerate(other.vocabulary.tokens)]
    few = Model("b", other.weights, Vocabulary(tuple(names), frozenset(), "bpe", "test"))
    base = model_of("llama", opened("llama")[1])
    assert recognised(base, other).shared_tokens > 64 and recognised(base, few).shared_tokens == 0


def test_a_frame_without_partners_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*arguments: object) -> object:
        return None if arguments[2] == "rows" else recognise(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("huref.kinship.frames.recognise", found)
    told = recognised(model_of("llama", opened("llama")[1]), stranger("llama", 7))
    assert {"tokens", "identity"} <= set(told.tried) and "rows" not in told.tried


def test_a_tokenizer_that_chose_other_rows_is_compared_over_what_is_shared() -> None:
    """Most of B's strings are of its own; turned, so that its own dimensions tell nothing."""
    _, decoder = opened("llama")
    turned = model_of("llama", apply(decoder, parse_kinds("rotate_residual"), 1).model)
    tokens = list(turned.vocabulary.tokens)
    dice = np.random.default_rng(0)
    rows = dice.permutation(len(tokens))  # the model means by its rows what it meant: some strings are new
    for i in rows[: len(rows) // 4].tolist():
        tokens[i] = f"new{i}".encode() if tokens[i] else None
    other = Model("b", turned.weights, Vocabulary(tuple(tokens), frozenset(), "bpe", "test"))
    found = recognised(model_of("llama", decoder), other)
    assert found.found.agreement > 0.9 and found.found.method in ("tokens", "shared tokens")


def test_too_few_neurons_and_nothing_in_common_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Prepared(model_of("llama", opened("llama")[1]))
    monkeypatch.setattr("huref.kinship.frames.MIN_NEURONS", 1000)
    assert "fewer than 1000 feed-forward neurons" in str(recognise_models(base, base))
    monkeypatch.undo()
    monkeypatch.setattr("huref.model.tokens.selection.MIN_TOKENS", 1000)
    wide = model_of("gpt2", opened("gpt2")[1])
    wide.weights.geometry = wide.weights.geometry.__class__(**{**wide.weights.geometry.__dict__, "d_model": 33})
    monkeypatch.setattr("huref.kinship.frames.weights_map", lambda a, b: None)
    assert "no frame for both models" in str(recognise_models(base, Prepared(wide)))


def test_embeddings_that_are_one_row_show_nothing() -> None:
    frame = DualFrame.of(np.ones((100, 8), np.float32), 0.03)
    assert not frame.seen_by(np.ones((16, 100), np.float32)).any() and not frame.across(frame).any()


# The parts, by numpy


def test_the_projection_is_ridge_regression() -> None:
    """`D r` are the weights with which centred rows make r: the least of |X^T w - r|^2 + lambda |w|^2, by numpy."""
    dice = np.random.default_rng(0)
    rows, signs = dice.normal(size=(60, 8)).astype("f4") + 3, dice.choice([-1.0, 1.0], (16, 60)).astype("f4")
    X = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    ridge = 0.03 * np.trace(X.T @ X) / 8
    r = dice.normal(size=8)
    augmented = np.concatenate([X.T, np.sqrt(ridge) * np.eye(60)])
    w = np.linalg.lstsq(augmented, np.concatenate([r, np.zeros(60)]), rcond=None)[0]
    scale = np.sqrt(np.mean(X**2))  # rows are scaled to root mean square 1, which no sign minds
    frame = DualFrame.of(rows, 0.03)
    np.testing.assert_allclose(frame.seen_by(signs) @ r / scale, signs @ w, rtol=1e-4, atol=1e-6)
    other = DualFrame.of(dice.normal(size=(60, 5)).astype("f4"), 0.03)
    s, everyone = dice.normal(size=5), np.eye(60, dtype=np.float32)
    expected = (frame.seen_by(everyone) @ r) @ (other.seen_by(everyone) @ s)
    np.testing.assert_allclose(r @ frame.across(other) @ s, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "olmo2", "mixtral", "qwen3"])
def test_codes_are_the_signs_of_the_folded_rows(name: str) -> None:
    """Rows as another reader folds them, times the projection."""
    model = model_of(name, opened(name)[1])
    recipe = CodeRecipe()
    projection = dual_projection(model, sampled(model.vocabulary, 4096, model.n_rows), recipe)
    codes, rows = encode_layer(model.weights, 0, projection, recipe), read_neurons(model.weights, 0)
    for part, expected in (("gate", rows.acts), ("up", rows.ups), ("down", rows.downs)):
        if expected is None:
            assert getattr(codes, part) is None
            continue
        seen = expected.astype(np.float64) @ projection.P.T.astype(np.float64)
        clear = np.abs(seen) > 1e-4 * np.abs(seen).max()
        assert (np.sign(seen)[clear] == unpacked(getattr(codes, part))[clear]).all(), part
    assert codes.n_copies == rows.n_copies and codes.qk.shape == (model.weights.geometry.n_heads, 32)


def test_head_codes_are_signs_of_bilinear_forms() -> None:
    model = model_of("llama", opened("llama")[1])
    recipe, weights = CodeRecipe(), model.weights
    P = plain_projection(32, recipe).P.astype(np.float64)
    codes = encode_layer(weights, 0, plain_projection(32, recipe), recipe)
    block = weights.attention(0)
    gain = np.asarray(block.gain, np.float64)
    for h in range(weights.geometry.n_heads):
        g = h // (weights.geometry.n_heads // weights.geometry.n_kv_heads)
        qk = (block.Wq[h] * gain).T.astype(np.float64) @ (block.Wk[g] * gain)
        vo = (block.Wv[g] * gain).T.astype(np.float64) @ block.Wo[h].astype(np.float64).T
        for operator, code in ((qk, codes.qk[h]), (vo, codes.vo[h])):
            seen = np.array([P[i] @ operator @ P[(i - 128) % 256] for i in range(256)])
            assert (np.sign(seen) == unpacked(code[None])[0]).mean() > 0.995


def test_packing_keeps_every_sign() -> None:
    seen = np.random.default_rng(0).normal(size=(32, 5)).astype("f4")
    codes = packed(seen)
    assert codes.shape == (5, 4) and codes.flags.c_contiguous
    np.testing.assert_array_equal(unpacked(codes), np.where(seen < 0, -1, 1).T)
    assert [(codes[0, i // 8] >> i % 8) & 1 for i in range(32)] == (seen[:, 0] < 0).tolist()


def test_agreement_is_what_numpy_says() -> None:
    x, y = _layer(40, 1), _layer(50, 2)
    y = replace(y, **{k: np.concatenate([getattr(x, k)[:20], getattr(y, k)[20:]]) for k in ("gate", "up", "down")})
    G, U, D = (_bits(getattr(x, k)) @ _bits(getattr(y, k)).T for k in ("gate", "up", "down"))
    best = {"gate": G.argmax(1), "up": abs(U).argmax(1), "down": abs(D).argmax(1), "up*down": (U * D).argmax(1)}
    found = pair(x, y, np.arange(40))
    for name in GATED:
        first, second = (best[part] for part in name.split("|"))
        agreeing = np.flatnonzero(first == second)
        assert found[name].agreement == len(set(first[agreeing])) / 40 >= 0.45  # each candidate counts once
        np.testing.assert_array_equal(np.flatnonzero(found[name].partners >= 0), agreeing)
    assert examine(x, y, 2048).chance == 1 / 40


def test_candidates_that_attract_everybody_or_are_all_alike_agree_with_nobody() -> None:
    x = _layer(64, 0)
    one = replace(x, **{k: np.repeat(getattr(x, k)[:1], 64, axis=0) for k in ("gate", "up", "down")})
    assert max(found.agreement for found in pair(x, one, np.arange(64)).values()) <= 1 / 64


def test_silent_neurons_have_no_partner() -> None:
    x = _layer(64, 0)
    half = replace(x, **{k: np.concatenate([np.zeros_like(getattr(x, k)[:32]), getattr(x, k)[32:]]) for k in PARTS})
    for one, other in ((half, half), (half, x)):
        assert {found.agreement for found in pair(one, other, np.arange(64)).values()} == {0.5}
    assert int(half.is_live.sum()) == 32


def test_copies_of_a_neuron_in_several_experts_all_find_the_dense_one() -> None:
    x = _layer(40, 0)
    experts = replace(x, n_copies=4, **{k: np.concatenate([getattr(x, k)] * 4) for k in PARTS})
    assert examine(experts, x, 2048).best == 1.0
    found = recognise(_coded(experts), _coded(x), "tokens")
    assert found is not None and found.copies == 4.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_joint_signs_and_order_of_neurons_change_nothing(seed: int) -> None:
    dice = np.random.default_rng(seed)
    x, y = _layer(48, seed), _layer(48, seed + 1)
    order = dice.permutation(48)
    flips = dice.integers(0, 2, (48, 1), np.uint8) * np.uint8(255)
    moved = replace(y, gate=y.gate[order], up=(y.up ^ flips)[order], down=(y.down ^ flips)[order])
    plain, other = pair(x, y, np.arange(48)), pair(x, moved, np.arange(48))
    for name, found in plain.items():
        if _has_ties(x, y):
            return
        np.testing.assert_array_equal(np.where(found.partners >= 0)[0], np.where(other[name].partners >= 0)[0])
        agreeing = found.partners >= 0
        np.testing.assert_array_equal(found.partners[agreeing], order[other[name].partners[agreeing]])


def test_two_rows_that_are_one_in_both_models_are_one_criterion() -> None:
    """A gate that is the up row in both, or down that is up: agreement of the two is no news, and not counted."""
    x, y = _layer(64, 0), _layer(64, 1)
    one = [replace(layer, up=layer.gate) for layer in (x, y)]
    assert set(examine(*one, 64).agreements) == {"gate|down", "up|down"} and examine(*one, 64).best < 0.1
    assert set(examine(one[0], y, 64).agreements) == set(GATED)  # in one alone, they meet the other's by chance
    assert examine(one[0], one[0], 64).best == 1.0  # kin are known by the other two
    tied = [replace(layer, up=None, down=layer.gate) for layer in (x, y)]
    assert examine(*tied, 64).agreements == {} and recognise(_coded(tied[0]), _coded(tied[1]), "tokens") is None
    flipped = [replace(layer, up=layer.gate ^ np.uint8(255)) for layer in (x, y)]
    assert set(examine(*flipped, 64).agreements) == {"gate|down", "up|down"}


def test_how_alike_a_neurons_own_rows_are() -> None:
    x = _layer(4000, 0)
    chance = float(np.abs(np.random.default_rng(0).choice([-1, 1], (4000, 256)).mean(axis=1)).mean())
    assert all(value == pytest.approx(chance, abs=0.003) for value in x.dependences.values())
    assert replace(x, up=x.gate).dependences["gate|up"] == 1.0
    dice = np.random.default_rng(1)
    rows = dice.standard_normal((500, 24), np.float32)
    near = (rows + dice.standard_normal(rows.shape, np.float32)).astype(np.float32)
    P = dice.standard_normal((4096, 24)).astype(np.float32)
    signs = replace(x, gate=packed((rows @ P.T).T), up=packed((near @ P.T).T), down=packed((near @ P.T).T))
    whole = replace(x, gate=rows, up=near, down=near)
    assert whole.dependences["gate|up"] == pytest.approx(signs.dependences["gate|up"], abs=0.02)


def test_a_block_without_a_gate_against_one_with_a_gate() -> None:
    x = _layer(64, 0)
    plain = replace(x, up=None)
    assert set(pair(plain, plain, np.arange(64))) == {"up|down"}
    assert examine(plain, plain, 64).best == examine(plain, x, 64).best == 1.0


def test_heads_are_found_by_both_of_their_operators() -> None:
    x, y = _layer(8, 0, heads=12), _layer(8, 1, heads=12)
    assert head_agreement(x, x) == 1.0 and head_agreement(x, y) < 0.5
    assert head_agreement(x, replace(y, qk=x.qk)) < 0.5  # by one alone
    silent = replace(x, qk=np.zeros_like(x.qk))
    assert head_agreement(x, silent) is None


# Layers


def test_a_dropped_layer_and_a_doubled_one_are_found() -> None:
    layers = [_layer(64, i) for i in range(12)]
    deep = [*layers[:4], layers[3], *layers[4:9], layers[8], *layers[9:]]
    found = recognise(_coded(*layers), _coded(*deep), "tokens")
    assert found is not None and found.agreement == 1.0 and len(found.layers) == 12
    assert (found.table[3, 3], found.table[3, 4], found.table[8, 9], found.table[8, 10]) == (1, 1, 1, 1)
    shallow = recognise(_coded(*layers), _coded(*layers[:5], *layers[7:]), "tokens")
    assert shallow is not None and shallow.agreement == 1.0
    assert [(m.layer_a, m.layer_b) for m in shallow.layers if m.layer_a > 6] == [(i, i - 2) for i in range(7, 12)]


def test_layers_in_another_order_are_found() -> None:
    layers = [_layer(64, i) for i in range(10)]
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    found = recognise(_coded(*layers), _coded(*(layers[i] for i in order)), "tokens")
    assert (
        found is not None
        and found.agreement == 1.0
        and [m.layer_b for m in found.layers] == np.argsort(order).tolist()
    )


def test_of_deep_kin_every_layer_is_told_and_of_strangers_a_few() -> None:
    a, b = ([_layer(64, seed + i) for i in range(20)] for seed in (0, 100))
    kin, strangers = recognise(_coded(*a), _coded(*a), "tokens"), recognise(_coded(*a), _coded(*b), "tokens")
    assert kin is not None and len(kin.layers) == 20 and kin.agreement == 1.0 and len(kin.mismatched) >= 8
    assert strangers is not None and len(strangers.layers) == 8 and strangers.agreement < 0.1


def test_half_of_the_layers_from_elsewhere_is_half() -> None:
    a, b = ([_layer(64, seed + i) for i in range(8)] for seed in (0, 100))
    found = recognise(_coded(*a), _coded(*a[:4], *b[4:]), "tokens")
    assert found is not None and 0.5 <= found.agreement < 0.55


def test_models_without_a_layer_in_common_places_are_told() -> None:
    layers = [_layer(64, i) for i in range(4)]
    some = Coded(40, (1, 2), lambda i: layers[i])
    other = Coded(90, (50, 51), lambda i: layers[i - 50])
    assert recognise(replace(some, layers=()), other, "tokens") is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 40))
def test_kept_layers_stand_at_the_same_places_from_either_end(n: int, most: int) -> None:
    kept = kept_layers(n, most)
    assert len(kept) == min(n, most) and list(kept) == sorted(set(kept)) and all(0 <= i < n for i in kept)
    if n > 16 and most == 4:
        assert kept == (1, 5, n - 6, n - 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_an_assignment_is_the_best_there_is(n: int, m: int, seed: int) -> None:
    gains = np.random.default_rng(seed).integers(0, 4, size=(n, m)).astype(float)
    small = gains if n <= m else gains.T
    best = max(sum(small[i, j] for i, j in enumerate(order)) for order in permutations(range(max(n, m)), min(n, m)))
    rows, columns = assign(gains)
    assert gains[rows, columns].sum() == best and len(set(columns.tolist())) == len(rows) == min(n, m)


PARTS = ("gate", "up", "down")


def _layer(n: int, seed: int, heads: int = 4) -> LayerCodes:
    """A layer of random codes."""
    dice = np.random.default_rng(seed)
    draw: Callable[[int], np.ndarray] = lambda rows: dice.integers(0, 256, (rows, 32), np.uint8)  # noqa: E731
    return LayerCodes(draw(n), draw(n), draw(n), draw(heads), draw(heads))


def _coded(*layers: LayerCodes) -> Coded:
    return Coded(len(layers), tuple(range(len(layers))), layers.__getitem__)


def _bits(codes: np.ndarray) -> np.ndarray:
    return np.where(np.unpackbits(codes, axis=1, bitorder="little"), -1.0, 1.0)


def _has_ties(x: LayerCodes, y: LayerCodes) -> bool:
    """Whether some neuron has two best partners by one criterion: which of them counts is a matter of order."""
    G, U, D = (_bits(getattr(x, k)) @ _bits(getattr(y, k)).T for k in PARTS)
    return any(((M.max(1, keepdims=True) == M).sum(1) > 1).any() for M in (G, abs(U), abs(D), U * D))
