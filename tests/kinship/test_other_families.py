"""Scores, saved codes, recovery and parents of models whose layers are not all of one kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import huref
from huref.attacks import examine
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from kit.any_family import save_tiny
from kit.checkpoints import write_tokenizer

_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 4,
    "first_k_dense_replace": 1,
}


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model without attention in its last layer, and a copy that transformers finds equal in logits."""
    place = tmp_path_factory.mktemp("hybrid")
    kinds = ["full_attention", "full_attention", "conv"]
    save_tiny("lfm2", place / "model", layer_types=kinds, num_hidden_layers=3)
    write_tokenizer(place / "model", range(300))
    found = huref.attack(place / "model", place / "copy", kinds="all")
    assert found.checked_by == "transformers" and found.error < 1e-5
    return place / "model", place / "copy"


def test_layers_without_attention_give_what_they_have(hybrid: tuple[Path, Path]) -> None:
    found = huref.compare(*hybrid)
    assert (found.verdict, found.ics) == ("derived", None)
    assert found.ics_canonical_2 == pytest.approx(1.0, abs=1e-6) and found.agreement == 1.0
    assert any("lacks attention or a feed-forward block" in note for note in found.notes)
    assert sum("1 of 3 layers have no attention to read" in note for note in found.notes) == 2


def test_so_do_their_saved_codes(hybrid: tuple[Path, Path], tmp_path: Path) -> None:
    files = [tmp_path / f"{model.name}.huref.safetensors" for model in hybrid]
    for model, file in zip(hybrid, files, strict=True):
        huref.save_fingerprint(huref.fingerprint(model, codes=True), file)
        assert huref.load_fingerprint(file) == huref.fingerprint(model, codes=True)
    found = huref.compare(*files)
    assert (found.verdict, found.agreement) == ("derived", 1.0)


def test_what_was_moved_is_recovered_but_parents_of_a_hybrid_are_not_undone(hybrid: tuple[Path, Path]) -> None:
    explained = huref.explain(*hybrid).to_dict()
    assert explained["pcs_before"] < 0.5 and explained["pcs_after"] == pytest.approx(1.0, abs=1e-9)
    found = huref.parents(hybrid[1], [hybrid[0]])
    assert found.verdict == "inconclusive"
    assert any("hold weights that are not read" in note for note in found.notes)


def test_latent_factors_are_not_explained(tmp_path: Path) -> None:
    save_tiny("deepseek_v3", tmp_path / "latent", **_LATENT)
    write_tokenizer(tmp_path / "latent", range(300))
    with pytest.raises(huref.HurefError, match="nothing to explain") as caught:
        huref.explain(tmp_path / "latent", tmp_path / "latent")
    assert "latent attention" in caught.value.got


def test_a_tied_head_that_alone_is_stored_is_the_embedding(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path / "one", tie_word_embeddings=True)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with open_checkpoint(tmp_path / "one") as one, open_checkpoint(tmp_path / "other") as other:
        a, b = open_weights(one), open_weights(other)
        assert np.array_equal(a.embedding(), b.embedding())


def test_norms_that_are_exchanged_are_found_on_a_model_as_made(tmp_path: Path) -> None:
    """As `transformers` makes it, every gain is one: without a stir nothing would tell them apart."""
    import transformers

    config = transformers.AutoConfig.for_model(
        "llama", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=320
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "fresh")
    assert examine(tmp_path / "fresh").is_right
    wrong = tmp_path / "wrong.yaml"
    for line in (
        "norm_after_residual: true",
        "huggingface: {tensors: {attention_norm: '{p}layers.{i}.post_attention_layernorm', "
        "feed_forward_norm: '{p}layers.{i}.input_layernorm'}}",
    ):
        wrong.write_text(f"name: wrong\nextends: llama\n{line}\n")
        assert not examine(tmp_path / "fresh", wrong).is_right
