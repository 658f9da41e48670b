"""The main job on real checkpoints: formats agree, only what is needed is read, nothing depends on the route."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import NotFiniteError, UsageError
from huref.fingerprints.pipeline import choose_tokens, fingerprint
from huref.fingerprints.recipe import Recipe
from huref.model.model import open_model
from kit.checkpoints import save_llama, smollm2
from kit.threads import threads

SMALL = Recipe(n_tokens=256)


def test_safetensors_and_pickle_give_one_fingerprint(tmp_path: Path) -> None:
    a = fingerprint(save_llama(tmp_path / "a", seed=1), SMALL)
    b = fingerprint(save_llama(tmp_path / "b", seed=1, file_format="bin"), SMALL)
    assert np.array_equal(a.vector, b.vector)
    assert sorted(a.sketches) == ["0.qk", "0.up_down", "0.vo", "1.qk", "1.up_down", "1.vo"]
    assert a.vector.shape == (512,) and np.mean(a.vector.astype(float) ** 2) == pytest.approx(1.0, abs=1e-5)


def test_other_weights_give_another_fingerprint(tmp_path: Path) -> None:
    a, b = (fingerprint(save_llama(tmp_path / str(seed), seed=seed), SMALL) for seed in (1, 2))
    assert abs(a.similarity(b)) < 0.3


def test_only_the_layers_of_the_recipe_are_read(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "deep", seed=1, n_layers=6)
    last2, everything = (fingerprint(folder, replace(SMALL, layers=layers)) for layers in ("last2", "all"))
    assert last2.weights["bytes_read"] < everything.weights["bytes_read"] < everything.weights["bytes_total"]
    assert {key.split(".")[0] for key in last2.sketches} == {"4", "5"}
    assert len(everything.sketches) == 18
    listed = fingerprint(folder, replace(SMALL, layers="-1,-2"))
    assert np.array_equal(listed.vector, last2.vector)


def test_the_number_of_threads_changes_nothing_beyond_the_tolerance(tmp_path: Path) -> None:
    folder, found = save_llama(tmp_path / "m", seed=3), []
    for count in (1, 2):
        with threads(count):
            found.append(fingerprint(folder, SMALL))
    assert found[0].similarity(found[1]) > 1 - 1e-6


@given(order=st.permutations(range(300)))
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_permuting_the_vocabulary_with_its_tokenizer_changes_nothing(tmp_path: Path, order: list[int]) -> None:
    a = fingerprint(save_llama(tmp_path / "a", seed=1), SMALL)
    b = fingerprint(save_llama(tmp_path / "b", seed=1, vocabulary_order=order), SMALL)
    assert a.similarity(b) > 1 - 1e-6
    assert a.tokens["digest"] == b.tokens["digest"]


def test_a_small_vocabulary_is_used_and_said(tmp_path: Path) -> None:
    found = fingerprint(save_llama(tmp_path / "m", seed=1), Recipe(n_tokens=4096))
    assert found.tokens["requested"] == 4096 and found.tokens["used"] < 4096
    assert "asked for" in found.notes[0]


def test_mean_pooling_lowers_k_to_whole_bands(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "m", seed=1)
    found = fingerprint(folder, Recipe(name="paper", encoder="mean"))
    assert found.tokens["used"] == 256 and found.sketches == {}
    assert found.vector.std(ddof=1) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("part", ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damage_in_a_used_tensor_is_refused_by_place(tmp_path: Path, part: str, value: float) -> None:
    folder = save_llama(tmp_path / "m", seed=1, damage=(f"model.layers.1.{part}.weight", value))
    with pytest.raises(NotFiniteError, match="layer 1"):
        fingerprint(folder, SMALL)


def test_damage_in_an_unused_tensor_is_not_our_business(tmp_path: Path) -> None:
    folder = save_llama(
        tmp_path / "m", seed=1, n_layers=4, damage=("model.layers.0.mlp.up_proj.weight", float("nan"))
    )
    assert np.isfinite(fingerprint(folder, SMALL).vector).all()


@pytest.mark.parametrize("layers", ["", "last3", "0,9", "1;2"])
def test_bad_layer_lists(tmp_path: Path, layers: str) -> None:
    with pytest.raises(UsageError, match="layer"):
        fingerprint(save_llama(tmp_path / "m", seed=1), replace(SMALL, layers=layers))


@pytest.mark.skipif(smollm2() is None, reason="the demo model is not installed")
def test_smollm2_reads_a_small_share_of_its_bytes() -> None:
    found = fingerprint(smollm2() or "", Recipe())
    assert found.weights["bytes_read"] < 0.1 * found.weights["bytes_total"]
    assert found.tokens["used"] == 4096 and found.architecture == "llama"
    model = open_model(smollm2() or "")
    with model.weights.checkpoint:
        assert choose_tokens(model, Recipe()).digest == found.tokens["digest"]
