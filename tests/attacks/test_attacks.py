"""Attacked models are other weights with the same function: for every family, by transformers' own forward pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import ALL, KINDS, apply, logit_error, parse_kinds
from huref.errors import ArchitectureError, UsageError
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.forward.renumbering import new_ids
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.model.arch import open_weights
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import MODELS, VOCAB, state_of, tiny_model

IDS = np.array([[5, 17, 3, 88, 41, 41, 9, 60, 23, 11], [9, 1, 95, 7, 7, 30, 2, 64, 50, 8]])
IN_FULL = (
    "llama-bias-tied",
    "qwen3",
    "gemma3",
    "gpt2",
    "gpt-neox",
    "opt",
    "phi3",
    "mixtral",
)
"""Families whose every attack transformers runs; between them they have every structure there is."""

REFUSED = {
    "llama": {"shift_mean", "permute_experts"},
    "gemma": {"shift_mean", "permute_experts"},
    "gemma3": {"shift_mean", "permute_experts", "rotate_residual"},
    "gpt2": {"permute_experts", "scale_neurons", "flip_neurons"},
    "gpt-neox": {"permute_experts", "scale_neurons", "flip_neurons", "split_layers"},
    "opt": {"permute_experts", "flip_neurons", "scale_residual"},
    "galactica": {"permute_experts", "flip_neurons", "scale_residual", "absorb_gains"},
    "opt-350m": {"permute_experts", "flip_neurons", "absorb_gains", "rotate_residual", "shift_mean"}
    | {"scale_residual", "insert_layers", "split_layers"},
    "bloom": {"permute_experts", "scale_neurons", "flip_neurons", "rotate_residual", "permute_heads"},
    "mixtral": {"shift_mean"},
    "qwen3-moe-mixed": {"shift_mean", "insert_layers", "split_layers"},
}
"""What a family does not allow, beside merging layers before any are silent."""


@cache
def opened(name: str) -> tuple[Any, Decoder]:
    """A tiny model's layout and decoder; all but its last token numbers can be changed."""
    state, config = state_of(name)
    weights = open_weights(MemoryCheckpoint(state, config))
    return layout_of(weights), load_decoder(weights).with_tokens(np.arange(VOCAB - 6))


def attacked(name: str, kinds: str, seed: int = 3) -> Decoder:
    return apply(opened(name)[1], parse_kinds(kinds), seed).model


def by_transformers(name: str, model: Decoder) -> np.ndarray:
    """Logits that transformers computes from the tensors and configuration as they would be written."""
    layout, _ = opened(name)
    tensors = stored_tensors(layout, model, np.float32)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())  # every row was written
    network = type(tiny_model(name)).from_pretrained(
        None,
        config=type(tiny_model(name).config).from_dict(stored_config(layout, model, np.float32)),
        state_dict={stored: torch.from_numpy(tensor) for stored, tensor in tensors.items()},
        attn_implementation=MODELS[name].attention,
    )
    new = new_ids(model)
    with torch.no_grad():
        return network.float().eval()(torch.from_numpy(new[IDS])).logits.numpy()[..., new]


@cache
def expected(name: str) -> np.ndarray:
    with torch.no_grad():
        return tiny_model(name)(torch.from_numpy(IDS)).logits.double().numpy()


def allowed(name: str) -> list[str]:
    return [kind for kind, entry in KINDS.items() if not entry.obstacle(opened(name)[1])]


@pytest.mark.parametrize("name", MODELS)
def test_the_forward_pass_is_that_of_transformers(name: str) -> None:
    assert logit_error(expected(name), logits(opened(name)[1], IDS)) < 2e-6


@pytest.mark.parametrize("name", MODELS)
def test_every_attack_keeps_the_function_and_changes_the_weights(name: str) -> None:
    _, original = opened(name)
    before = logits(original, IDS)
    for kind in allowed(name):
        model = attacked(name, kind)
        new = new_ids(model)
        assert logit_error(before, logits(model, new[IDS])[..., new]) < 1e-9, kind
        same = len(model.tensors) == len(original.tensors) and all(
            np.array_equal(t, model.tensors[n]) for n, t in original.tensors.items()
        )
        assert same == (kind == "identity"), kind
    assert len(allowed(name)) >= 7


@pytest.mark.parametrize("name", MODELS)
def test_all_attacks_together_keep_the_function_in_transformers(name: str) -> None:
    assert logit_error(expected(name), by_transformers(name, attacked(name, ALL))) < 1e-5


@pytest.mark.parametrize("name", IN_FULL)
def test_every_attack_keeps_the_function_in_transformers(name: str) -> None:
    for kind in allowed(name):
        model = attacked(name, kind)
        assert logit_error(expected(name), by_transformers(name, model)) < 1e-5, kind


@pytest.mark.parametrize("name", MODELS)
def test_the_identity_writes_every_tensor_as_it_was(name: str) -> None:
    layout, original = opened(name)
    state, _ = state_of(name)
    written = stored_tensors(layout, original, np.float32)
    assert set(written) == set(state)
    assert all(np.array_equal(written[stored], tensor.numpy()) for stored, tensor in state.items())


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_family_does_not_allow_is_refused_with_the_reason(name: str) -> None:
    refused = {kind for kind in KINDS if kind not in allowed(name)} - {"merge_layers"}
    assert refused == REFUSED[name]
    for kind in refused:
        with pytest.raises(UsageError) as fault:
            attacked(name, kind)
        assert len(fault.value.got) > 10
    outcome = apply(opened(name)[1], (ALL,), 1)
    assert set(outcome.skipped) == {kind for kind in refused if KINDS[kind].in_all}
    assert all(outcome.skipped.values())


@pytest.mark.parametrize("name", ["llama-bias-tied", "gpt2", "gemma3", "qwen2-moe"])
@settings(max_examples=4)
@given(seed=st.integers(0, 2**31 - 1), data=st.data())
def test_attacks_compose_in_any_order(name: str, seed: int, data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(allowed(name)), min_size=1, max_size=5))
    _, original = opened(name)
    model = apply(original, tuple(kinds), seed).model
    new = new_ids(model)
    assert logit_error(logits(original, IDS), logits(model, new[IDS])[..., new]) < 1e-8


def test_one_seed_is_one_attack_and_a_kind_does_not_depend_on_its_company() -> None:
    first, again, other = (attacked("llama", "vo_map", seed) for seed in (5, 5, 6))
    assert np.array_equal(first.tensors["layers.0.v"], again.tensors["layers.0.v"])
    assert not np.array_equal(first.tensors["layers.0.v"], other.tensors["layers.0.v"])
    joined = attacked("llama", "qk_map+vo_map", 5)
    assert np.array_equal(first.tensors["layers.0.v"], joined.tensors["layers.0.v"])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "qwen2-moe"])
@pytest.mark.parametrize("grown", ["insert_layers", "split_layers", "split_layers+insert_layers"])
def test_merging_undoes_what_was_inserted_and_split(name: str, grown: str) -> None:
    _, original = opened(name)
    larger = attacked(name, grown)
    assert larger.geometry.n_layers > original.geometry.n_layers
    merged = apply(larger, ("merge_layers",), 1).model
    assert set(merged.tensors) == set(original.tensors)
    assert all(np.array_equal(tensor, merged.tensors[n]) for n, tensor in original.tensors.items())


def test_layers_that_do_something_are_not_merged() -> None:
    with pytest.raises(UsageError, match="cannot be merged exactly"):
        attacked("llama", "merge_layers")


def test_a_layer_norm_keeps_its_rotation_away_from_the_mean() -> None:
    model = attacked("gpt2", "rotate_residual")
    before = opened("gpt2")[1].tensors["embedding"].sum(axis=1)
    assert np.allclose(model.tensors["embedding"].sum(axis=1), before)


def test_a_gain_of_zero_beside_a_bias_is_not_divided_by() -> None:
    _, original = opened("gpt2")
    gain = original.tensors["layers.1.attention_norm"].copy()
    gain[3] = 0.0
    model = original.changed({"layers.1.attention_norm": gain})
    for kind in ("absorb_gains", "rotate_residual", "shift_mean"):
        with pytest.raises(UsageError, match=r"layers\.1\.attention_norm has gains of zero"):
            apply(model, (kind,), 1)
    assert "absorb_gains" in apply(model, (ALL,), 1).skipped


@pytest.mark.parametrize("text", ["", "qk_map+", "shuffle", "all,turn"])
def test_an_unknown_attack_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="no such attack"):
        parse_kinds(text)


def test_kinds_are_joined_by_plus_or_comma() -> None:
    assert parse_kinds("qk-map + vo_map,all") == ("qk_map", "vo_map", "all")


@pytest.mark.parametrize(
    ("config", "said"), [({"clip_qkv": 8.0}, "clip_qkv"), ({"hidden_act": "swish2"}, "swish2"), ({}, "")]
)
def test_a_function_that_cannot_be_checked_is_refused(config: dict[str, Any], said: str) -> None:
    state, stated = state_of("llama")
    weights = open_weights(MemoryCheckpoint(state, {**stated, **config}))
    if not said:
        assert load_decoder(weights).settings.notes == ()
        return
    with pytest.raises(ArchitectureError, match=said):
        load_decoder(weights)
