"""Families put together from traits, and what they read, held against transformers: never huref against huref."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from huref.attacks import examine
from huref.errors import ArchitectureError, MissingTensorError
from huref.model.arch import families, open_weights
from huref.model.arch.families import MAX_FAMILIES, family_named, known_families, load_families
from huref.model.arch.names import choose_prefix, roots
from huref.model.source import open_checkpoint
from kit.any_family import VOCAB, save_tiny

_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 4,
}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "full_attention"],
}
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_ROTATION = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_PICTURES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
_KEYS_OF_PICTURES = {"num_key_value_heads": 2, "head_dim": 8}
_CODES = {"base_channels": 32, "channel_multiplier": [1], "num_embeddings": 8, "embed_dim": 8, "latent_channels": 8}
_SEQUENCES = "AutoModelForSeq2SeqLM"
_MASKED = "AutoModelForMaskedLM"
_IMAGE_TEXT = "AutoModelForImageTextToText"

TYPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deepseek_v2": ("deepseek_v3", "", {**_LATENT, "first_k_dense_replace": 1, "n_shared_experts": 1}),
    "deepseek_v3": ("deepseek_v3", "", {**_LATENT, "first_k_dense_replace": 1}),
    "minicpm3": ("minicpm3", "", _LATENT),
    "gpt_oss": ("gpt_oss", "", {}),
    "glm4_moe": ("glm4_moe", "", {"first_k_dense_replace": 1, "n_shared_experts": 1}),
    "granitemoe": ("granitemoe", "", {}),
    "afmoe": ("afmoe", "", {"num_dense_layers": 1}),
    "qwen3_next": ("qwen3_next", "", {**_LINEAR, "shared_expert_intermediate_size": 16}),
    "qwen3_5_text": ("qwen3_5", "", _LINEAR),
    "lfm2": ("lfm2", "", {"layer_types": ["conv", "full_attention"]}),
    "gemma4_text": (
        "gemma4",
        "",
        {
            "global_head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "hidden_size_per_layer_input": 4,
            "vocab_size_per_layer_input": VOCAB,
            "num_kv_shared_layers": 0,
            "tie_word_embeddings": True,
        },
    ),
    "dbrx": (
        "dbrx",
        "",
        {
            "n_heads": 4,
            "n_layers": 2,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    "longcat_flash": (
        "longcat_flash",
        "",
        {**_LATENT, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "moe_topk": 2, "zero_expert_num": 2},
    ),
    "hy_v4": (
        "hy_v4",
        "",
        {
            **_LATENT,
            "mlp_layer_types": ["dense", "sparse"],
            "indexer_types": ["full", "shared"],
            "index_head_dim": 8,
            "index_n_heads": 2,
            "index_topk": 4,
        },
    ),
    "laguna": (
        "laguna",
        "",
        {
            "num_attention_heads_per_layer": [8, 4],
            "mlp_layer_types": ["dense", "sparse"],
            "shared_expert_intermediate_size": 16,
        },
    ),
    "nemotron": ("nemotron", "", {}),
    "bitnet": ("bitnet", "", {}),
    "llama4_text": ("llama4", "", {"intermediate_size_mlp": 48, "moe_layers": [1]}),
    "bert": ("bert", _MASKED, {"tie_word_embeddings": True}),
    "modernbert": ("modernbert", _MASKED, {"tie_word_embeddings": True}),
    "deberta-v2": ("deberta_v2", _MASKED, {"tie_word_embeddings": True, "relative_attention": True}),
    "bart": ("bart", _SEQUENCES, {"tie_word_embeddings": True}),
    "t5": ("t5", _SEQUENCES, {"tie_word_embeddings": True}),
    "mt5": ("t5_gated", _SEQUENCES, {"tie_word_embeddings": True}),
    "chameleon": (
        "chameleon",
        _IMAGE_TEXT,
        {"vq_config": {**_CODES, "resolution": 16}, "vocabulary_map": {"<image>": 300}},
    ),
    "cosmos3_edge": (
        "cosmos3_edge",
        _IMAGE_TEXT,
        {"text_config": {**_TEXT, "rope_parameters": _ROTATION}, "vision_config": _PICTURES},
    ),
    "ernie4_5_vl_moe": (
        "ernie4_5_vl_moe",
        _IMAGE_TEXT,
        {
            "text_config": {
                **_TEXT,
                "moe_intermediate_size": [16, 8],
                "moe_num_experts": 4,
                "moe_k": 2,
                "moe_num_shared_experts": 1,
                "mlp_layer_types": ["dense", "sparse"],
                "rope_parameters": _ROTATION,
            },
            "vision_config": {"hidden_size": 16, "intermediate_size": 24, "depth": 1, "num_heads": 2},
            "tie_word_embeddings": True,
        },
    ),
    "molmo2": (
        "molmo2",
        _IMAGE_TEXT,
        {
            "text_config": {**_TEXT, "additional_vocab_size": VOCAB},
            "vision_config": {**_PICTURES, **_KEYS_OF_PICTURES},
            "adapter_config": {**_PICTURES, **_KEYS_OF_PICTURES, "text_hidden_size": 32, "vision_feature_layer": [0]},
        },
    ),
    "muse_glimmer": (
        "muse_glimmer",
        _IMAGE_TEXT,
        {"text_config": _TEXT, "vision_config": _PICTURES, "projector_hidden_size": 16, "out_hidden_size": 64},
    ),
}
"""Type -> the family that reads it, the head it is built with, and its sizes: one for each way of building."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Models by type, written when first asked for."""
    place = tmp_path_factory.mktemp("families")

    def of(model_type: str) -> Path:
        folder: Path = place / model_type
        if not folder.exists():
            _, head, changes = TYPES[model_type]
            save_tiny(model_type, folder, head or "AutoModelForCausalLM", **changes)
        return folder

    return of


@pytest.mark.parametrize("model_type", TYPES)
def test_a_rearranged_copy_computes_the_same_in_transformers(model_type: str, saved: Any) -> None:
    found = examine(saved(model_type))
    assert found.family == TYPES[model_type][0]
    assert found.is_right, found.to_text()
    assert {"permute_neurons"} < set(found.kinds)
    assert found.own_error is None or found.own_error < 1e-4  # a family with a pass of ours computes what it should


def test_wrong_descriptions_are_found_out(saved: Any, tmp_path: Path) -> None:
    """Each reads without an error, and each is named by what it moves wrongly."""
    model = saved("glm4_moe")
    wrong = {
        "sizes: {n_kv_heads: {value: 1}, head_dim: {value: 16}, n_heads: {value: 2}}": "permute_heads",
        "position: rope_interleaved": "qk_map",
    }
    for line, kind in wrong.items():
        path = tmp_path / "wrong.yaml"
        path.write_text(
            f"name: wrong\nextends: glm4_moe\n{line}\nhuggingface: {{tensors: {{q_norm: null, k_norm: null}}}}\n"
        )
        found = examine(model, path)
        assert not found.is_right
        assert kind in found.wrong
    shutil.copytree(saved("bert"), tmp_path / "bert")
    path.write_text("name: wrong\nextends: bert\nnorm_after_residual: false\n")
    assert "absorb_gains" in examine(tmp_path / "bert", path).wrong


def test_latent_heads_are_products_whatever_basis_the_latents_have(saved: Any, tmp_path: Path) -> None:
    """Latents mixed by a rotation, scaled in front of their norm, and undone behind it: the same heads."""
    shutil.copytree(saved("deepseek_v3"), tmp_path / "mixed")
    tensors = load_file(tmp_path / "mixed" / "model.safetensors")
    at, rng = "model.layers.1.self_attn.", np.random.default_rng(3)
    for norm, first, second, n in (
        ("q_a_layernorm", "q_a_proj", "q_b_proj", 8),
        ("kv_a_layernorm", "kv_a_proj_with_mqa", "kv_b_proj", 8),
    ):
        gain = tensors[f"{at}{norm}.weight"].copy()
        turn = np.linalg.qr(rng.standard_normal((n, n)))[0].astype(np.float32)
        tensors[f"{at}{first}.weight"][:n] = 3.0 * turn @ tensors[f"{at}{first}.weight"][:n]
        tensors[f"{at}{second}.weight"] = tensors[f"{at}{second}.weight"] * gain @ turn.T
        tensors[f"{at}{norm}.weight"] = np.ones_like(gain)
    save_file(tensors, tmp_path / "mixed" / "model.safetensors", {"format": "pt"})
    with open_checkpoint(saved("deepseek_v3")) as one, open_checkpoint(tmp_path / "mixed") as other:
        a, b = open_weights(one).attention(1), open_weights(other).attention(1)
    for left, right in ((a.Wq, b.Wq), (a.Wk, b.Wk), (a.Wv, b.Wv), (a.Wo, b.Wo)):
        np.testing.assert_allclose(left, right, rtol=2e-5, atol=2e-6)


def test_layers_are_found_under_other_names_that_a_family_knows(saved: Any, tmp_path: Path) -> None:
    """As transformers saves Kimi-K2.5; a name that the family does not list is refused."""
    for name, is_known in (("blocks", True), ("stages", False)):
        copy = tmp_path / name
        shutil.copytree(saved("deepseek_v3"), copy)
        tensors = load_file(copy / "model.safetensors")
        renamed = {key.replace("model.layers.", f"model.{name}."): tensor for key, tensor in tensors.items()}
        save_file(renamed, copy / "model.safetensors", {"format": "pt"})
        if not is_known:
            with open_checkpoint(copy) as checkpoint, pytest.raises(MissingTensorError):
                open_weights(checkpoint)
            continue
        with open_checkpoint(saved("deepseek_v3")) as one, open_checkpoint(copy) as other:
            usual, found = open_weights(one), open_weights(other)
            assert found.names() == usual.names()
            assert all(np.array_equal(found.read(role), usual.read(role)) for role in usual.names())


def test_experts_for_pictures_behind_those_for_text_are_not_read(saved: Any) -> None:
    with open_checkpoint(saved("ernie4_5_vl_moe")) as checkpoint:
        weights = open_weights(checkpoint)
        stored = weights.stored_names("layers.1.up")
    assert [name.split(".experts.")[1][0] for name in stored[:-1]] == ["0", "1", "2", "3"]
    assert weights.shape("layers.1.up") == (4 * 16 + 16, 32)
    assert any(".experts.4." in name for name in weights.beside)


def test_stacks_are_read_either_way_round(saved: Any, tmp_path: Path) -> None:
    """The makers of Qwen3-VL-MoE store experts (in, out), transformers (out, in)."""
    save_tiny("qwen3_vl_moe_text", tmp_path / "one", "Qwen3VLMoeTextModel", moe_intermediate_size=24)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    turned = {
        name: np.ascontiguousarray(t.swapaxes(1, 2)) if "experts." in name else t for name, t in tensors.items()
    }
    save_file(turned, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with open_checkpoint(tmp_path / "one") as one, open_checkpoint(tmp_path / "other") as other:
        a, b = open_weights(one).feed_forward(1), open_weights(other).feed_forward(1)
    assert np.array_equal(a.gate, b.gate) and np.array_equal(a.up, b.up) and np.array_equal(a.down, b.down)


def test_what_is_not_read_is_told(saved: Any) -> None:
    with open_checkpoint(saved("qwen3_next")) as checkpoint:
        weights = open_weights(checkpoint)
        assert [weights.has(layer, "o") for layer in range(4)] == [False, False, True, True]
        assert weights.notes() == (
            "not read, beside the decoder: linear_attn (14 tensors)",
            "2 of 4 layers have no attention to read",
        )
        with pytest.raises(ArchitectureError, match="recipe"):
            from huref.fingerprints.recipe import Recipe
            from huref.fingerprints.terms import layer_terms

            layer_terms(weights, 0, Recipe("canonical"))


def test_a_tensor_that_no_line_claims_is_refused_inside_the_decoder_alone(saved: Any, tmp_path: Path) -> None:
    shutil.copytree(saved("nemotron"), tmp_path / "more")
    tensors = load_file(tmp_path / "more" / "model.safetensors")
    head = {**tensors, "score.weight": np.ones((2, 32), np.float32)}
    save_file(head, tmp_path / "more" / "model.safetensors", {"format": "pt"})
    with open_checkpoint(tmp_path / "more") as checkpoint:
        assert open_weights(checkpoint).notes() == ("not read, beside the decoder: score (1 tensor)",)
    inside = {**tensors, "model.layers.0.self_attn.extra.weight": np.ones((2, 32), np.float32)}
    save_file(inside, tmp_path / "more" / "model.safetensors", {"format": "pt"})
    with open_checkpoint(tmp_path / "more") as checkpoint, pytest.raises(MissingTensorError, match="no place"):
        open_weights(checkpoint)


@given(st.lists(st.sampled_from(["module", "_orig_mod", "model", "base_model", "text_model", "x"]), max_size=4))
@settings(max_examples=30, deadline=None)
def test_any_names_in_front_are_found(front: list[str]) -> None:
    names = family_named("llama").huggingface
    assert names is not None
    start = "".join(f"{part}." for part in front)
    stored = {
        f"{start}{name}.weight"
        for name in ("embed_tokens", "norm", "layers.0.mlp.down_proj", "layers.0.self_attn.q_proj")
    }
    assert choose_prefix(names, stored) == start
    assert roots(start)[0] == start and roots(start)[-1] == ""


def test_layers_for_further_tokens_are_passed_over(saved: Any, tmp_path: Path) -> None:
    shutil.copytree(saved("deepseek_v3"), tmp_path / "mtp")
    tensors = load_file(tmp_path / "mtp" / "model.safetensors")
    last = {name.replace("layers.1.", "layers.2."): t for name, t in tensors.items() if ".layers.1." in name}
    more = {**tensors, **last, "model.layers.2.eh_proj.weight": np.ones((32, 64), np.float32)}
    save_file(more, tmp_path / "mtp" / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "mtp" / "config.json").read_text())
    (tmp_path / "mtp" / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    with open_checkpoint(tmp_path / "mtp") as checkpoint:
        weights = open_weights(checkpoint)
        assert weights.geometry.n_layers == 2
        assert len(weights.beside) == len(last) + 1


# --- documents


def _document(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_family_of_three_lines(tmp_path: Path) -> None:
    (mine,) = load_families(_document(tmp_path, "name: mine\nextends: qwen2\nmodel_types: [mine]\n"))
    whole = family_named("qwen2")
    assert mine.huggingface == whole.huggingface and mine.sizes == whole.sizes
    assert (mine.gguf_names, mine.class_names, mine.when) == ((), (), {})  # whoever extends says these anew


def test_the_last_word_counts_and_null_takes_away(tmp_path: Path) -> None:
    text = "name: mine\nextends: [decoder, gguf, ungated]\nnorm: layer\nhuggingface: {tensors: {o: other}}\n"
    (mine,) = load_families(_document(tmp_path, text.replace("o: other", 'o: "{p}layers.{i}.other"')))
    assert mine.huggingface is not None
    assert mine.huggingface.tensors["o"].from_ == ("{p}layers.{i}.other",)
    assert "gate" not in mine.huggingface.tensors and "up" in mine.huggingface.tensors
    assert mine.norm[0].value == "layer"


def test_one_family_leaves_the_traits_of_another_as_they_are(tmp_path: Path) -> None:
    """Traits are read once; what a family takes away stays taken away for the next."""
    document = _document(tmp_path, "name: mine\nextends: [ungated, decoder]\nhuggingface: {tensors: {gate: null}}\n")
    for _ in range(2):
        (mine,) = load_families(document)
        assert mine.huggingface is not None and "gate" not in mine.huggingface.tensors
        assert "gate" not in family_named.__wrapped__("starcoder2").gguf.tensors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: a\nextends: nobody\n", "no such trait or family"),
        ("name: a\nextends: [decoder, 3]\n", "no such trait or family"),
        ("name: a\nextends: {decoder: 1}\n", "no such trait or family"),
        ("- 1\n", "does not follow the schema"),
        ("", "does not follow the schema"),
        ("---\n".join(["name: a\n"] * (MAX_FAMILIES + 1)), "too many families"),
    ],
)
def test_documents_that_are_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ArchitectureError, match=named):
        load_families(_document(tmp_path, text))


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ('{q: "{p}layers.{i/2}.q", k: "{p}layers.{i}.k"}', "role 'q': layer roles need {i}"),
        ('{q: {from: "{p}layers.{i}.q", steps: [flat]}}', "role 'q': only gate, up and down have experts"),
        ("{q: null}", "no names for q"),
    ],
)
def test_names_that_do_not_go_together_are_refused(tmp_path: Path, tensors: str, named: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        load_families(_document(tmp_path, f"name: mine\nextends: llama\nhuggingface: {{tensors: {tensors}}}\n"))
    assert named in str(caught.value)


def test_two_of_ours_in_a_stored_layer_are_in_order(saved: Any) -> None:
    with open_checkpoint(saved("longcat_flash")) as checkpoint:
        weights = open_weights(checkpoint)
        assert weights.geometry.n_layers == 4
        assert weights.stored_name("layers.3.down") == "model.layers.1.mlps.1.down_proj.weight"
        assert weights.notes() == ("not read, beside the decoder: mlp (36 tensors)",)


def test_a_circle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    circle = {
        "one": (tmp_path, {"name": "one", "extends": "two"}),
        "two": (tmp_path, {"name": "two", "extends": "one"}),
    }
    monkeypatch.setattr(families, "_known", lambda: circle)
    with pytest.raises(ArchitectureError, match="circle"):
        load_families(_document(tmp_path, "name: mine\nextends: one\n"))


def test_several_families_of_one_file_choose_by_what_the_checkpoint_says(saved: Any, tmp_path: Path) -> None:
    text = "name: x\nextends: bert\nmodel_types: [bert]\n---\nname: y\nextends: nemotron\nmodel_types: [nemotron]\n"
    with open_checkpoint(saved("nemotron")) as checkpoint:
        assert open_weights(checkpoint, _document(tmp_path, text)).architecture.name == "y"


def test_every_family_stands_and_no_two_claim_one_type_alike() -> None:
    claimed = [(name, str(family.when)) for family in known_families() for name in family.model_types]
    assert sorted(claimed) == sorted(set(claimed))
