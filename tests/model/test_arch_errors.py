"""Checkpoints and architecture files that must be refused, and what the refusal says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from huref.demo.tensors import as_tensor
from huref.errors import ArchitectureError, MissingTensorError
from huref.model.arch import open_weights
from huref.model.arch.families import MAX_BYTES, known_families, load_families
from huref.model.source import open_checkpoint
from kit.architectures import written_out
from kit.gguf_export import write_gguf
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import state_of

LLAMA = written_out("llama")


def _llama(**changes: object) -> MemoryCheckpoint:
    state, config = state_of("llama")
    return MemoryCheckpoint(state, {**config, **changes})


def test_an_unknown_family_is_compared_with_the_nearest() -> None:
    state, config = state_of("llama")
    renamed = {name.replace("o_proj", "w_out"): w for name, w in state.items()}
    strange = MemoryCheckpoint(renamed, {**config, "model_type": "zebra", "architectures": ["ZebraForCausalLM"]})
    with pytest.raises(ArchitectureError) as caught:
        open_weights(strange)
    text = str(caught.value)
    assert "zebra" in text
    assert caught.value.expected.startswith("nearest known family: ")
    assert "llama" in caught.value.expected
    assert "only in this checkpoint: model.layers.{i}.self_attn.w_out.weight" in text
    assert ": model.layers.{i}.self_attn.o_proj.weight" in text
    assert "--arch-file" in caught.value.next_step


def test_tensors_that_look_like_llama_are_not_enough() -> None:
    state, _ = state_of("llama")
    with pytest.raises(ArchitectureError, match=r"no config\.json"):
        open_weights(MemoryCheckpoint(state, {}))


def test_an_unknown_gguf_family_is_refused() -> None:
    checkpoint = MemoryCheckpoint(
        {"blk.0.attn_q.weight": torch.ones(2, 2)}, file_format="gguf", metadata={"general.architecture": "zebra"}
    )
    with pytest.raises(ArchitectureError, match="zebra"):
        open_weights(checkpoint)


def test_an_undescribed_variant_says_what_was_expected() -> None:
    with pytest.raises(ArchitectureError, match="multi_query_attention"):
        open_weights(_llama(model_type="chatglm", multi_query_attention=False, architectures=[]))


def test_an_arch_file_serves_an_unknown_family(tmp_path: Path) -> None:
    mine = tmp_path / "zebra.yaml"
    mine.write_text(LLAMA.replace("name: llama", "name: zebra").replace("self_attn.o_proj", "self_attn.w_out"))
    state, config = state_of("llama")
    renamed = {name.replace("o_proj", "w_out"): w for name, w in state.items()}
    weights = open_weights(MemoryCheckpoint(renamed, {**config, "model_type": "zebra"}), mine)
    assert weights.architecture.name == "zebra"
    assert torch.equal(as_tensor(weights.read("layers.1.o")), state["model.layers.1.self_attn.o_proj.weight"])


def test_a_missing_tensor_is_named() -> None:
    state, config = state_of("llama")
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(MissingTensorError, match=re.escape(name)):
        open_weights(MemoryCheckpoint({key: w for key, w in state.items() if key != name}, config))


def test_a_variant_with_other_tensors_is_told_from_a_missing_shard() -> None:
    """A dense family has no place for experts."""
    state, config = state_of("llama")
    experts = {name.replace("mlp.gate_proj", "mlp.experts.0.w1"): w for name, w in state.items()}
    with pytest.raises(MissingTensorError) as caught:
        open_weights(MemoryCheckpoint(experts, config))
    assert "gate_proj" in caught.value.expected
    assert "experts.0.w1" in caught.value.got
    assert "--arch-file" in caught.value.next_step


@pytest.mark.parametrize("shape", [(), (32,), (32, 32, 1), (0, 32)])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.wpe.weight", "transformer.h.1.ln_1.weight"])
def test_tensors_of_the_wrong_rank_are_refused(name: str, shape: tuple[int, ...]) -> None:
    state, config = state_of("gpt2")
    if state[name].shape == shape or (name.endswith("wpe.weight") and shape == (0, 32)):
        return
    with pytest.raises(ArchitectureError, match=name.replace(".", r"\.")):
        open_weights(MemoryCheckpoint({**state, name: torch.ones(shape)}, config))


def test_a_bias_that_the_family_always_has_is_required() -> None:
    state, config = state_of("gpt2")
    without = {name: w for name, w in state.items() if not name.endswith("c_fc.bias")}
    with pytest.raises(MissingTensorError, match=r"h\.0\.mlp\.c_fc\.bias"):
        open_weights(MemoryCheckpoint(without, config))


def test_an_optional_tensor_missing_from_one_layer_is_missing() -> None:
    state, config = state_of("qwen3")
    del state["model.layers.1.self_attn.q_norm.weight"]
    with pytest.raises(MissingTensorError, match=r"layers\.1\.q_norm"):
        open_weights(MemoryCheckpoint(state, config))


def test_a_leftover_tensor_is_named() -> None:
    state, config = state_of("llama")
    state["model.layers.0.self_attn.sinks"] = torch.ones(4)
    with pytest.raises(MissingTensorError, match="sinks"):
        open_weights(MemoryCheckpoint(state, config))


def test_rotary_tables_and_masks_are_ignored_by_name() -> None:
    state, config = state_of("gpt2")
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    state["transformer.h.1.attn.masked_bias"] = torch.ones(1)
    assert open_weights(MemoryCheckpoint(state, config)).geometry.n_layers == 2


@pytest.mark.parametrize(
    ("key", "value", "expected", "got"),
    [
        ("num_hidden_layers", 1, "1 layers", "layer 1"),
        ("intermediate_size", 47, "(47, 32)", "(48, 32)"),
        ("num_key_value_heads", 1, "(8, 32)", "(16, 32)"),
        ("num_key_value_heads", 3, "multiple of 3", "4 query heads"),
        ("vocab_size", 95, "(95, 32)", "(96, 32)"),
        ("hidden_size", None, "hidden_size", "none"),
        ("hidden_size", "32", "number", "'32'"),
        ("hidden_size", 2**40, "1 to", str(2**40)),
        ("num_hidden_layers", 0, "1 to", "0"),
        ("num_hidden_layers", 2.5, "whole number", "2.5"),
    ],
)
def test_a_configuration_that_contradicts_the_shapes(key: str, value: object, expected: str, got: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        open_weights(_llama(**{key: value}))
    assert expected in caught.value.expected
    assert got in caught.value.got
    assert caught.value.where


def test_more_layers_configured_than_stored() -> None:
    with pytest.raises(MissingTensorError, match=r"model\.layers\.2\."):
        open_weights(_llama(num_hidden_layers=3))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("activation: silu", "activation: silu\ncolour: red", "colour"),
        ("v: '{p}layers", "vv: '{p}layers", "huggingface"),
        ("steps: [unpermute_rope]", "steps: [rotate]", "steps"),
        ("norm: rms", "norm: batch", "norm"),
        ("name: llama", "", "name"),
        ("down: blk.{i}.ffn_down", "down: ffn_down", "down"),
        ("q: '{p}layers", "qkv: '{p}layers", "split"),
        ("d_ff: intermediate_size", "d_ff: {key: intermediate_size, over: 0}", "over"),
        ("embedding: '{p}embed_tokens'", "position: '{p}embed_tokens'", "no names for embedding"),
        ("vocab_size: vocab_size", "vocab_size: {key: a, value: 3}", "exactly one"),
        ("gated: true", "gated: [true", "cannot be read"),
        ("name: llama", "name: &a llama\nactivation: *a", "aliases"),
    ],
)
def test_a_bad_architecture_file_names_its_fault(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "bad.yaml"
    assert old in LLAMA
    path.write_text(LLAMA.replace(old, new, 1))
    with pytest.raises(ArchitectureError) as caught:
        load_families(path)
    assert named in str(caught.value)
    assert "bad.yaml" in caught.value.where


def test_an_oversized_or_absent_architecture_file(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ArchitectureError, match="too large"):
        load_families(path)
    with pytest.raises(ArchitectureError, match="cannot be read"):
        load_families(tmp_path / "none.yaml")


def test_deep_nesting_is_refused_not_crashed(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("[" * 20000)
    with pytest.raises(ArchitectureError, match=r"too deeply|nesting depth"):  # by us, or by a PyYAML that has a cap
        load_families(path)


def test_families_are_found_by_folder_and_no_two_claim_the_same() -> None:
    names = [family.name for family in known_families()]
    assert names == sorted(set(names)) and len(names) > 100
    claimed = [(name, str(family.when)) for family in known_families() for name in family.model_types]
    assert len(claimed) == len(set(claimed))


def test_rows_are_read_alone_and_checked() -> None:
    checkpoint = _llama()
    weights = open_weights(checkpoint)
    whole = as_tensor(weights.read("layers.0.k"))
    rows = np.array([3, 0, 3])
    assert torch.equal(as_tensor(weights.read("layers.0.k", rows)), whole[torch.from_numpy(rows)])
    assert torch.equal(as_tensor(weights.read("layers.0.k", slice(2, 5))), whole[2:5])
    with pytest.raises(MissingTensorError, match="no such row"):
        as_tensor(weights.read("layers.0.k", np.array([16])))
    with pytest.raises(MissingTensorError, match=r"layers\.0\.x"):
        as_tensor(weights.read("layers.0.x"))
    with pytest.raises(MissingTensorError, match="no layer 2"):
        weights.attention(2)


@pytest.mark.parametrize("name", ["gpt2", "gpt-neox", "phi3", "falcon-40b", "llama"])
def test_every_layer_costs_its_own_bytes_once(name: str) -> None:
    state, config = state_of(name)
    checkpoint = MemoryCheckpoint(state, config)
    weights = open_weights(checkpoint)
    assert checkpoint.bytes_read == 0
    weights.attention(1)
    roles = ("q", "k", "v", "o", "attention_norm")
    stored = {weights.stored_name(f"layers.1.{role}") for role in roles}
    assert checkpoint.bytes_read == sum(state[tensor].nbytes for tensor in stored)


@pytest.mark.parametrize("name", ["gpt2", "gpt-neox", "falcon-40b"])
def test_rows_of_fused_and_transposed_matrices(name: str) -> None:
    weights = open_weights(MemoryCheckpoint(*state_of(name)))
    rows = np.array([9, 1, 14])
    for role in ("q", "k", "v", "q_bias", "up"):
        if f"layers.1.{role}" in weights:
            whole = as_tensor(weights.read(f"layers.1.{role}"))
            assert torch.equal(as_tensor(weights.read(f"layers.1.{role}", rows)), whole[torch.from_numpy(rows)])
            assert torch.equal(as_tensor(weights.read(f"layers.1.{role}", slice(4, 12))), whole[4:12])


def test_types_are_kept_except_for_gains_stored_as_offsets() -> None:
    state, config = state_of("gemma2")
    weights = open_weights(MemoryCheckpoint({name: w.bfloat16() for name, w in state.items()}, config))
    assert weights.stored_dtype("layers.0.q") == "BF16"
    assert as_tensor(weights.read("layers.0.q")).dtype == torch.bfloat16
    gain = weights.attention(0).gain
    assert gain is not None
    assert gain.dtype == np.float32
    gamma = state["model.layers.0.input_layernorm.weight"].bfloat16().float()
    assert torch.equal(as_tensor(gain), 1 + gamma)


@pytest.mark.parametrize("model_type", ["Yi", "internlm", "internlm3", "xverse", "aquila"])
def test_families_that_kept_llamas_tensors(model_type: str) -> None:
    state, config = state_of("llama-bias-tied")
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    weights = open_weights(MemoryCheckpoint(state, {**config, "model_type": model_type, "architectures": []}))
    assert weights.architecture.name == "llama"


@pytest.mark.parametrize("name", ["phi", "glm"])
def test_older_gguf_files_keep_query_key_and_value_in_one(name: str, tmp_path: Path) -> None:
    state, config = state_of(name)
    path = write_gguf(tmp_path / "model.gguf", {key: w.numpy() for key, w in state.items()}, config)
    with open_checkpoint(path) as checkpoint:
        fused = {key: as_tensor(checkpoint.read(key)) for key in checkpoint.tensors}
        separate = open_weights(checkpoint)
        for layer in range(2):
            for kind in ("weight", "bias"):
                parts = [fused.pop(f"blk.{layer}.attn_{part}.{kind}") for part in "qkv"]
                fused[f"blk.{layer}.attn_qkv.{kind}"] = torch.cat(parts)
        weights = open_weights(MemoryCheckpoint(fused, {}, "gguf", checkpoint.metadata))
        for key in separate.names():
            assert torch.equal(as_tensor(weights.read(key)), as_tensor(separate.read(key)))
        del fused["blk.1.attn_qkv.weight"], fused["blk.1.attn_qkv.bias"]
        with pytest.raises(MissingTensorError, match=r"layers\.1\.q"):
            open_weights(MemoryCheckpoint(fused, {}, "gguf", checkpoint.metadata))


@pytest.mark.parametrize(("name", "prefix"), [("llama", "language_model."), ("gemma3", "language_model.")])
def test_a_multimodal_wrapper_is_seen_through(name: str, prefix: str) -> None:
    state, config = state_of(name)
    wrapped = {prefix + key: w for key, w in state.items()} | {"vision_tower.patch.weight": torch.ones(2, 2)}
    outer = {"model_type": "wrapper", "text_config": config}
    plain, inside = open_weights(MemoryCheckpoint(state, config)), open_weights(MemoryCheckpoint(wrapped, outer))
    assert inside.names() == plain.names()
    assert torch.equal(as_tensor(inside.read("layers.1.q")), as_tensor(plain.read("layers.1.q")))


@pytest.mark.parametrize(
    ("name", "prefix"), [("llama", "model."), ("gpt2", "transformer."), ("bloom", "transformer.")]
)
def test_a_base_model_export_without_prefix_and_head(name: str, prefix: str) -> None:
    state, config = state_of(name)
    bare = {key.removeprefix(prefix): w for key, w in state.items() if not key.startswith("lm_head")}
    weights = open_weights(MemoryCheckpoint(bare, config))
    assert torch.equal(
        as_tensor(weights.read("layers.0.v")),
        as_tensor(open_weights(MemoryCheckpoint(state, config)).read("layers.0.v")),
    )
    assert ("unembedding" in weights) == (name != "llama")  # untied: the head really is not there
