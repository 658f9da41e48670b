"""What was done is found again: every rearrangement, alone and composed, against what was planted."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import KINDS, dice_for
from huref.errors import InconclusiveError
from huref.explanation import explain_csv, explain_text
from huref.explanation.transform import Explanation, dropped_layers
from huref.forward.decoder import Decoder
from huref.kinship.recovery.transform import LayerTransform
from kit.explanations import (
    VOCABULARY,
    attacked,
    explained,
    family,
    in_memory,
    opened,
    relayered,
    state,
    trained_further,
    upcycled,
)

SEEDS = st.integers(0, 2**31 - 1)

FAMILIES = ("llama", "qwen3", "gemma3", "gpt2", "gpt-neox", "opt", "opt-350m", "mixtral", "qwen2-moe", "olmo2")
FAMILIES += ("starcoder", "bloom", "phi3", "llama-bias-tied")
"""Between them: both norms, norms on queries, behind branches and after the sum, biases, learned and rotary positions
on all or half of a head, parallel blocks, one KV head, plain and gated blocks, experts, also with a shared one."""


def explain(name: str, kinds: str, seed: int = 3) -> Explanation:
    return explained(opened(name), opened(name, attacked(name, kinds, seed), "b"))


def tensors(decoder: Decoder, role: str, layer: int = 0) -> np.ndarray:
    return decoder.tensors[f"layers.{layer}.{role}"]


def random_orders(kind: str, seed: int, n: int, n_layers: int) -> list[np.ndarray]:
    """What an attack draws for every layer."""
    dice = dice_for(kind, seed)
    return [dice.permutation(n) for _ in range(n_layers)]


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_at_once_is_undone_in_every_family(name: str) -> None:
    found = explain(name, "all")
    assert found.total.equal > 0.999
    assert found.total.cosine > 0.999999
    assert found.total_before.cosine < 0.2
    assert found.agreement == 1.0
    assert {layer.feed_forward for layer in found.layers} >= {0, 1}
    for layer in found.layers:
        assert layer.heads_agreed.sum() == len(layer.heads) or not len(layer.heads)


ALONE = [kind for kind, entry in KINDS.items() if not entry.obstacle(family("llama")[1])]


@pytest.mark.parametrize("kind", ALONE)
def test_every_attack_alone_is_undone(kind: str) -> None:
    found = explain("llama", kind)
    assert found.total.equal > 0.999
    residual = {
        "rotate_residual": "rotation",
        "permute_residual": "permutation",
        "flip_residual": "signed permutation",
    }
    assert found.residual.kind == residual.get(kind, "identity")
    assert (found.residual.scale == 1.0) == (kind != "scale_residual")
    live = [layer for layer in found.layers if layer.feed_forward >= 0]
    moved = any((layer.neurons != np.arange(len(layer.neurons))).any() for layer in live)
    assert moved == (kind == "permute_neurons")
    assert any((layer.scales < 0).any() for layer in live) == (kind == "flip_neurons")
    assert any((np.abs(layer.scales) != 1).any() for layer in live) == (kind == "scale_neurons")
    attending = [layer for layer in found.layers if layer.attention >= 0]
    assert any((layer.heads != np.arange(len(layer.heads))).any() for layer in attending) == (kind == "permute_heads")
    assert all(layer.qk is not None for layer in attending) == (kind == "qk_map")
    assert all(layer.vo is not None for layer in attending) == (kind == "vo_map")
    assert found.vocabulary["renumbered"] > 0 or kind != "permute_vocabulary"
    absorbed = {"absorb_gains": "absorbed", "rotate_residual": "absorbed"}.get(kind, "same")
    assert set(found.gains) == {absorbed}


@settings(max_examples=3)
@given(seed=SEEDS)
def test_the_planted_orders_scales_and_signs_of_neurons_are_found(seed: int) -> None:
    kinds = "rotate_residual+permute_neurons+scale_neurons+flip_neurons"
    before, after = family("llama")[1], attacked("llama", "permute_neurons+scale_neurons+flip_neurons", seed)
    found = explain("llama", kinds, seed)
    orders = random_orders("permute_neurons", seed, before.geometry.d_ff, 2)
    for layer, order in zip(found.layers, orders, strict=True):
        assert layer.neurons.tolist() == order.tolist()
        assert layer.first.tolist() == layer.second.tolist() == order.tolist()
        up = tensors(before, "up", layer.layer)[order]
        factors = (tensors(after, "up", layer.layer) / up)[:, 0]
        assert np.allclose(layer.scales, factors, rtol=1e-4)


@settings(max_examples=3)
@given(seed=SEEDS)
def test_the_planted_order_of_heads_is_found(seed: int) -> None:
    before, after = family("llama")[1], attacked("llama", "permute_heads", seed)
    found = explain("llama", "permute_heads+qk_map+vo_map", seed)
    e = before.geometry.head_dim
    for layer in found.layers:
        q, k = (tensors(before, role, layer.layer).reshape(-1, e, 32) for role in ("q", "k"))
        assert np.array_equal(q[layer.heads], tensors(after, "q", layer.layer).reshape(-1, e, 32))
        assert np.array_equal(k[layer.groups], tensors(after, "k", layer.layer).reshape(-1, e, 32))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt-neox", "qwen3", "starcoder"])
def test_the_planted_maps_of_heads_are_found(name: str) -> None:
    before, after = family(name)[1], attacked(name, "qk_map+vo_map")
    found, e = explain(name, "qk_map+vo_map"), before.geometry.head_dim
    assert len(found.layers) == 2
    for layer in found.layers:
        for maps, role in ((layer.qk, "q"), (layer.vo, "v")):
            old, new = (tensors(model, role, layer.layer).reshape(-1, e, 32) for model in (before, after))
            gains = [
                _head_gain(model, layer.layer, e) if role == "q" else np.ones((1, e, 1)) for model in (before, after)
            ]
            per_group = len(old) // len(layer.groups)
            assert np.allclose(np.repeat(maps, per_group, 0) @ (old * gains[0]), new * gains[1], atol=1e-4)
        assert (layer.commutes is None) == (before.architecture.rotary_dim == 0)
        assert (layer.commutes or 0.0) < 1e-5


def _head_gain(model: Decoder, layer: int, e: int) -> np.ndarray:
    gain = model.tensors.get(f"layers.{layer}.q_norm")
    return np.ones((1, e, 1)) if gain is None else gain.reshape(-1, e, 1)


@settings(max_examples=3)
@given(seed=SEEDS)
def test_the_planted_order_and_signs_of_the_stream_are_found(seed: int) -> None:
    before, after = family("llama")[1], attacked("llama", "permute_residual+flip_residual", seed)
    found = explain("llama", "permute_residual+flip_residual+permute_neurons", seed)
    assert found.residual.kind == "signed permutation"
    old, new = before.tensors["embedding"], after.tensors["embedding"]
    assert np.array_equal(old[:, found.residual.axis] * found.residual.sign, new)


def test_the_planted_rotation_and_scale_are_found() -> None:
    before, after = family("llama")[1], attacked("llama", "rotate_residual+scale_residual")
    found = explain("llama", "rotate_residual+scale_residual")
    old, new = before.tensors["embedding"], after.tensors["embedding"]
    assert np.allclose(old @ found.residual.rotation * found.residual.scale, new, atol=1e-4)


@pytest.mark.parametrize("name", ["mixtral", "qwen2-moe"])
def test_the_planted_order_of_experts_is_found(name: str) -> None:
    found = explain(name, "permute_experts+permute_neurons")
    n = family(name)[1].architecture.n_experts
    shared = [n] if family(name)[1].architecture.shared_width else []
    for layer, order in zip(found.layers, random_orders("permute_experts", 3, n, 2), strict=True):
        assert layer.experts.tolist() == order.tolist() + shared
    assert found.kinds["router"].equal > 0.999


def test_training_and_rearranging_together_are_told_apart() -> None:
    tuned = trained_further(family("llama")[1], 0.2)
    b = opened("llama", attacked("llama", "all", 7, tuned), "b")
    found = explained(opened("llama"), b)
    orders = random_orders("permute_neurons", 7, 48, 2)
    for layer in found.layers:
        if layer.feed_forward >= 0:
            assert layer.neurons.tolist() == orders[layer.feed_forward].tolist()
    assert found.total_before.cosine < 0.2
    assert 0.97 < found.total.cosine < 0.99  # 1 / sqrt(1 + 0.2^2) is 0.981
    assert found.total.equal < 0.1
    assert found.gains["absorbed"] == 5


def test_training_alone_leaves_no_transform() -> None:
    found = explained(opened("llama"), opened("llama", trained_further(family("llama")[1], 0.2), "b"))
    assert found.residual.kind == "identity"
    assert found.residual.scale == 1.0
    for layer in found.layers:
        assert layer.neurons.tolist() == list(range(48))
        assert set(layer.scales.tolist()) == {1.0}
        assert layer.qk is None
        assert layer.vo is None
    assert found.total.cosine == pytest.approx(found.total_before.cosine, abs=1e-6)


def test_dropped_and_duplicated_layers_are_found() -> None:
    a = relayered("llama", [0, 1, 0])
    assert [(x.feed_forward, x.attention) for x in explained(opened("llama"), a).layers] == [(0, 0), (1, 1), (0, 0)]
    found = explained(opened("llama"), relayered("llama", [1]))
    assert [layer.feed_forward for layer in found.layers] == [1]
    assert dropped_layers(found) == (0,)
    assert found.total.equal == 1.0
    assert any("0 of a dropped" in line for line in explain_text(found))


def test_split_layers_are_found_in_two_halves() -> None:
    found = explain("llama", "split_layers+permute_heads")
    assert [(x.feed_forward, x.attention) for x in found.layers] == [(-1, 0), (0, -1), (-1, 1), (1, -1)]
    assert found.total.equal > 0.999
    back = explained(opened("llama", attacked("llama", "split_layers")), opened("llama"))
    assert [(x.feed_forward, x.attention) for x in back.layers] == [(1, 0), (3, 2)]


def test_an_upcycled_mixture_is_one_dense_block_again_and_again() -> None:
    dense, sparse = upcycled()
    found = explained(dense, sparse)
    for layer in found.layers:
        assert layer.experts.tolist() == [0, 0, 0]
        assert sorted(layer.neurons.tolist()) == sorted(list(range(48)) * 3)
    assert found.total.equal == 1.0
    turned = explained(sparse, dense)  # the dense one is the reference, whichever way they are given
    assert (turned.a.name, turned.b.name) == ("dense", "sparse")
    assert any("is dense" in note for note in turned.notes)
    assert any("one dense block" in line for line in explain_text(found))


def test_pruned_neurons_and_heads_leave_the_others_their_partners() -> None:
    stored, config = state("llama")
    kept, heads = np.arange(0, 48).reshape(4, 12)[:3].ravel()[::-1], np.arange(16, 32)
    pruned = {}
    for name, tensor in stored.items():
        if "gate_proj" in name or "up_proj" in name:
            tensor = tensor[kept]
        elif "down_proj" in name:
            tensor = tensor[:, kept]
        elif "q_proj" in name:
            tensor = tensor[heads]
        elif "o_proj" in name:
            tensor = tensor[:, heads]
        elif "k_proj" in name or "v_proj" in name:
            tensor = tensor[8:]
        pruned[name] = tensor
    changes = {"intermediate_size": 36, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    smaller = in_memory(pruned, {**config, **changes}, "pruned")
    found = explained(opened("llama"), smaller)
    for layer in found.layers:
        assert layer.neurons.tolist() == kept.tolist()
        assert layer.heads.tolist() == [2, 3]
        assert layer.groups.tolist() == [1]
    assert found.total.equal == 1.0
    back = explained(smaller, opened("llama"))
    for layer in back.layers:
        assert sorted(layer.neurons.tolist()) == [-1] * 12 + list(range(36))
        assert layer.heads.tolist() == [-1, -1, 0, 1]
    assert any("12 of" in line or "24 of a without a partner" in line for line in explain_text(back))


@pytest.mark.parametrize("role", ["q", "v"])
def test_heads_without_a_map_are_explained_all_the_same(role: str) -> None:
    """Of zeros no map can be fitted; it used to be an error of the solver."""
    stored, config = state("llama")
    silent = {name: np.zeros_like(x) if f".0.self_attn.{role}_proj" in name else x for name, x in stored.items()}
    found = explained(in_memory(silent, config, "a"), opened("llama", title="b"))
    for layer in found.layers:
        assert layer.heads.tolist() == [0, 1, 2, 3]
        assert layer.qk is None
        assert layer.vo is None
    assert found.shares["layers.0.o"].equal == 1.0
    assert found.shares[f"layers.0.{role}"].equal == 0.0


@cache
def noisy() -> Explanation:
    return explained(opened("llama"), opened("llama", trained_further(family("llama")[1], 0.1), "b"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_strangers_have_no_explanation(name: str) -> None:
    with pytest.raises(InconclusiveError, match="nothing to explain") as fault:
        explained(opened(name), opened(name, family(name, seed=1)[1], "b"))
    assert fault.value.exit_code == 3
    assert "% of the neurons" in fault.value.got or "map" in fault.value.got


def test_a_stranger_with_our_embeddings_has_no_explanation() -> None:
    stranger, ours = family("llama", seed=1)[1], family("llama")[1]
    grafted = stranger.changed({name: ours.tensors[name] for name in ("embedding", "unembedding", "final_norm")})
    with pytest.raises(InconclusiveError):
        explained(opened("llama"), opened("llama", grafted, "b"))


def test_layers_from_elsewhere_are_not_explained() -> None:
    ours, stranger = family("llama")[1], family("llama", seed=1)[1]
    mixed = ours.changed({name: stranger.tensors[name] for name in ours.tensors if name.startswith("layers.1.")})
    found = explained(opened("llama"), opened("llama", mixed, "b"))
    assert [layer.feed_forward for layer in found.layers] == [0, -1]
    assert not any(name.startswith("layers.1.") for name in found.shares)
    assert any("1 not found in a" in line for line in explain_text(found))


def test_the_story_and_the_table_say_what_was_found() -> None:
    found = explain("llama", "all")
    text = "\n".join(explain_text(found))
    for said in ("orthogonal matrix", "scaled by", "signs flipped", "adding nothing", "absorbed", "another number"):
        assert said in text
    assert "100.00 %" in text
    rows = explain_csv(found).splitlines()
    assert rows[0].startswith("layer_b,layer_a,kind,weights,equal")
    assert len(rows) == 1 + len(found.shares)
    assert sum(int(row.split(",")[3]) for row in rows[1:]) == found.total.n


def test_few_layers_can_be_asked_for() -> None:
    found = explained(opened("llama"), opened("llama", title="b"), "-1")
    assert [layer.layer for layer in found.layers] == [1]
    assert dropped_layers(found) == ()


def test_shares_are_of_what_was_compared() -> None:
    found = noisy()
    n = sum(tensor.size for name, tensor in family("llama")[1].tensors.items() if tensor.ndim > 1)
    special = 2 * 32 * (VOCABULARY - found.vocabulary["shared"])
    assert found.total.n == n - special
    assert isinstance(found.layers[0], LayerTransform)
