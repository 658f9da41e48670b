"""The law of canonical-2: no attack, alone, with others, or in any order, changes sketches, vector or portrait."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import ALL, KINDS, apply, parse_kinds
from huref.attacks.kinds import dice_for
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import project, slots_of, split_key
from huref.fingerprints.sketching import sketch_model
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.renumbering import new_ids
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.model.arch import open_weights
from huref.model.tokens import TokenSelection
from huref.numerics.cosine import cosine
from huref.portraits.image import render
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import MODELS, VOCAB, state_of

IDS = np.arange(VOCAB - 6)
RECIPE = Recipe()


@cache
def original(name: str) -> Decoder:
    return load_decoder(open_weights(MemoryCheckpoint(*state_of(name)))).with_tokens(IDS)


def fingerprint(name: str, model: Decoder) -> tuple[dict[tuple[str, int], np.ndarray], np.ndarray]:
    """Sketches by kind and slot, and the vector, of the checkpoint as the attack would write it."""
    layout = layout_of(open_weights(MemoryCheckpoint(*state_of(name))))
    tensors, config = stored_tensors(layout, model, np.float32), stored_config(layout, model, np.float32)
    weights = open_weights(MemoryCheckpoint(tensors, config))
    strings = tuple(b"token %d" % i for i in IDS)
    tokens = TokenSelection(new_ids(model)[IDS], strings, "sampled", len(IDS))
    sketches = sketch_model(SimpleNamespace(weights=weights, name=name), tokens, RECIPE).terms  # type: ignore[arg-type]
    slots = slots_of(sketches, weights.geometry.n_layers, is_dual=True)
    vector = project(sketches, slots, RECIPE.seed)
    return {(split_key(key)[1], slots[key]): sketch for key, sketch in sketches.items()}, vector


@cache
def expected(name: str) -> tuple[dict[tuple[str, int], np.ndarray], np.ndarray]:
    return fingerprint(name, original(name))


def assert_unchanged(name: str, model: Decoder, why: str) -> None:
    (sketches, vector), (found, other) = expected(name), fingerprint(name, model)
    assert sketches.keys() == found.keys(), why
    for key, sketch in sketches.items():
        assert cosine(sketch, found[key]) > 0.9999, f"{why}: {key}"
    assert cosine(vector, other) > 0.9999, why


@pytest.mark.parametrize("name", MODELS)
def test_no_attack_changes_a_fingerprint(name: str) -> None:
    allowed = [kind for kind, entry in KINDS.items() if not entry.obstacle(original(name))]
    for kind in allowed:
        assert_unchanged(name, apply(original(name), (kind,), 3).model, kind)
    assert len(allowed) >= 7


@pytest.mark.parametrize("name", MODELS)
def test_nor_do_all_of_them_together(name: str) -> None:
    assert_unchanged(name, apply(original(name), parse_kinds(ALL), 5).model, ALL)


@pytest.mark.parametrize("name", ["llama-bias-tied", "qwen3", "gemma3", "gpt2", "gpt-neox", "opt", "phi3", "mixtral"])
@settings(max_examples=4, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**20))
def test_nor_does_any_order_of_some(name: str, data: st.DataObject, seed: int) -> None:
    model, applied = original(name), list[str]()
    for _ in range(data.draw(st.integers(2, 7))):
        kind = data.draw(st.sampled_from([kind for kind, entry in KINDS.items() if not entry.obstacle(model)]))
        model = KINDS[kind].change(model, dice_for(kind, seed + len(applied)))
        applied.append(kind)
    assert_unchanged(name, model, "+".join(applied))


def test_the_portrait_is_the_same_picture() -> None:
    _, vector = expected("llama")
    _, attacked = fingerprint("llama", apply(original("llama"), parse_kinds(f"{ALL}+split_layers"), 1).model)
    before, after = (render(v)[0].astype(int) for v in (vector, attacked))
    assert np.abs(before - after).max() <= 2


def test_blocks_that_add_nothing_are_passed_over_wherever_they_stand() -> None:
    """Attention silent in the last layer, feed-forward in the one before: each part has its own last two."""
    model = original("llama")
    split = apply(apply(model, ("split_layers",), 1).model, ("insert_layers",), 2).model
    sketches, _ = fingerprint("llama", split)
    assert sorted(sketches) == [(kind, slot) for kind in ("qk", "up_down", "vo") for slot in (-2, -1)]


@pytest.mark.parametrize("name", ["llama", "gpt-neox", "gemma3"])
def test_nor_do_inserted_layers_of_tiny_weights(name: str) -> None:
    """They hardly change the function, and the fingerprint not at all."""
    model, dice = original(name), np.random.default_rng(0)
    inserted = apply(model, ("insert_layers",), 3).model
    tensors = dict(inserted.tensors)
    for layer in inserted.layers:
        for role, behind in (("o", "post_attention_norm"), ("down", "post_feed_forward_norm")):
            at = f"layers.{layer}.{role}"
            if tensors[at].any():
                continue
            tensors[at] = 1e-5 * dice.standard_normal(tensors[at].shape)
            if f"layers.{layer}.{behind}" in tensors:
                gain = tensors[f"layers.{layer}.{behind}"]
                tensors[f"layers.{layer}.{behind}"] = 1e-4 * np.ones_like(gain)
    assert_unchanged(name, replace(inserted, tensors=tensors), "tiny layers")
