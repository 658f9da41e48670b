"""`--encoder cnn`: from a checkpoint to a vector, comparable only under equal weights; every refusal is clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import huref
from huref.errors import CorruptFileError, InconclusiveError, UsageError, WeightsError
from huref.fingerprints.encoder.file import load_encoder
from huref.fingerprints.encoder.network import encode
from huref.fingerprints.file import load_fingerprint, save_fingerprint
from huref.fingerprints.pipeline import choose_tokens, fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.terms import centred, layer_terms, token_embeddings
from huref.kinship.record import CompareOptions
from huref.kinship.saved import compare_fingerprints
from huref.model.model import open_model
from huref.numerics.arrays import float32
from huref.numerics.cosine import cosine
from kit.checkpoints import save_llama
from kit.command_line import Outcome
from kit.dense_terms import dense
from kit.hostile_files import assert_complete
from kit.tiny_encoders import save_small

CNN = Recipe("canonical", "cnn", n_tokens=256)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("encoder") / "encoder.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("model") / "m", seed=1)


def made(model: Path, weights: Path, **changes: object) -> Fingerprint:
    return fingerprint(model, replace(CNN, **changes), encoder_weights=weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["canonical", "paper"])
def test_the_vector_is_the_encoders_of_the_six_terms(model: Path, weights: Path, name: str) -> None:
    found = made(model, weights, name=name)
    opened = open_model(model)
    with opened.weights.checkpoint:
        recipe = replace(CNN, name=name)
        X = token_embeddings(opened.weights, choose_tokens(opened, recipe).ids, recipe)
        X = centred(X) if name == "canonical" else X
        terms = [float32(dense(t, X)) for layer in (0, 1) for t in layer_terms(opened.weights, layer, recipe)]
    np.testing.assert_allclose(found.vector, encode(np.stack(terms), load_encoder(weights).encoder), atol=1e-3)
    assert found.vector.shape == (512,) and found.sketches == {}
    assert found.recipe.encoder_weights == load_encoder(weights).sha256
    assert found.tokens["used"] == 256 and found.notes == ()


def test_scaling_a_model_changes_nothing(tmp_path: Path, weights: Path) -> None:
    a, b = (made(save_llama(tmp_path / name, seed=1, file_format=kind), weights) for name, kind in _ROUTES)
    assert cosine(a.vector, b.vector) > 1 - 1e-6


_ROUTES = (("a", "safetensors"), ("b", "bin"))


def test_fewer_tokens_and_another_k_are_said(model: Path, tmp_path: Path) -> None:
    other = save_small(tmp_path / "w.safetensors", side=1024)
    found = made(model, other, n_tokens=1024)
    assert found.tokens["used"] == 256 and found.tokens["requested"] == 1024
    assert "256 tokens used of 1024" in found.notes[0] and "calibrate --side 256" in found.notes[1]


def test_a_saved_fingerprint_names_its_weights(model: Path, weights: Path, tmp_path: Path) -> None:
    found = made(model, weights)
    path = tmp_path / "m.huref.safetensors"
    save_fingerprint(found, path)
    again = load_fingerprint(path)
    assert again.recipe == found.recipe and np.array_equal(again.vector, found.vector)
    assert again.header()["recipe"]["encoder_weights"] == found.recipe.encoder_weights
    assert "encoder_weights" not in Recipe().to_dict()
    assert huref.fingerprint(path, CNN).recipe == found.recipe
    with pytest.raises(UsageError, match="keeps the recipe"):
        huref.fingerprint(path, replace(CNN, encoder_weights="0" * 64))
    with pytest.raises(UsageError, match="keeps the recipe"):
        huref.fingerprint(path, encoder_weights=weights)


@pytest.mark.parametrize("value", ["xyz", "0" * 63, "A" * 64, 7])
def test_a_recipe_with_no_digest_is_damage(model: Path, weights: Path, tmp_path: Path, value: object) -> None:
    found = made(model, weights)
    object.__setattr__(found.recipe, "encoder_weights", value)
    save_fingerprint(found, tmp_path / "m.huref.safetensors")
    with pytest.raises(CorruptFileError):
        load_fingerprint(tmp_path / "m.huref.safetensors")


def test_saved_fingerprints_compare_by_their_vectors(model: Path, weights: Path, tmp_path: Path) -> None:
    a, b = made(model, weights), made(save_llama(tmp_path / "other", seed=2), weights)
    found = compare_fingerprints(a, b)
    assert found.vectors == pytest.approx(cosine(a.vector, b.vector)) and found.terms == ()
    assert found.pcs is found.ics is found.ics_canonical_2 is None
    assert "ics and ics_canonical are null: the CNN encoder keeps no terms" in found.notes
    assert compare_fingerprints(a, a).vectors == pytest.approx(1.0)
    moved = replace(b, tokens={**b.tokens, "digest": "0" * 64})
    assert any("says nothing" in note for note in compare_fingerprints(a, moved).notes)


def test_vectors_of_other_weights_do_not_compare(model: Path, weights: Path, tmp_path: Path) -> None:
    a, b = made(model, weights), made(model, save_small(tmp_path / "w.safetensors", seed=3))
    with pytest.raises(InconclusiveError, match="differently trained encoders") as caught:
        compare_fingerprints(a, b)
    assert_complete(caught.value)
    sketch = fingerprint(model, Recipe(n_tokens=256))
    with pytest.raises(InconclusiveError, match="different recipes"):
        compare_fingerprints(a, sketch)


def test_a_model_against_a_saved_fingerprint(model: Path, weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.huref.safetensors"
    save_fingerprint(made(model, weights), path)
    found = huref.compare(path, model, CompareOptions(encoder_weights=weights))
    assert found.vectors == pytest.approx(1.0)
    with pytest.raises(UsageError, match="needs weights"):
        huref.compare(path, model)
    other = save_small(tmp_path / "w.safetensors", seed=3)
    with pytest.raises(WeightsError, match="not the ones asked for"):
        huref.compare(path, model, CompareOptions(encoder_weights=other))
    for a, b in ((path, path), (model, model)):
        with pytest.raises(UsageError, match="without use") as caught:
            huref.compare(a, b, CompareOptions(encoder_weights=weights))
        assert_complete(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"layers": "all"}, {"layers": "0"}, {"n_tokens": 300}, {"encoder": "mean", "encoder_weights": "0" * 64}],
)
def test_recipes_that_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        replace(CNN, **changes)  # type: ignore[arg-type]
    assert_complete(caught.value)


def test_no_weights_and_weights_for_nothing(model: Path, weights: Path) -> None:
    for recipe, path, said in ((CNN, None, "needs weights"), (Recipe(n_tokens=256), weights, "for another encoder")):
        with pytest.raises(UsageError, match=said) as caught:
            fingerprint(model, recipe, encoder_weights=path)
        assert_complete(caught.value)


def test_a_model_of_one_layer_is_refused(tmp_path: Path, weights: Path) -> None:
    folder = save_llama(tmp_path / "m", seed=1, n_layers=1)
    with pytest.raises(UsageError, match="cannot take these matrices"):
        made(folder, weights)


def test_the_command(model: Path, weights: Path, tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    run = ("fingerprint", model, "--encoder", "cnn", "--out", tmp_path)
    done = cli(*run, "--encoder-weights", weights, "--json")
    assert done.code == 0 and done.document["encoder"] == "cnn"
    assert done.document["recipe"]["n_tokens"] == 256  # what the weights say
    assert done.document["recipe"]["encoder_weights"] == load_encoder(weights).sha256
    file = done.document["fingerprint_file"]
    compared = cli("compare", file, model, "--encoder-weights", weights, "--json")
    assert compared.code == 3 and compared.document["vectors"] == pytest.approx(1.0)
    assert json.loads(cli("compare", file, file, "--json").out)["ics"] is None
    refused = cli(*run)
    assert refused.code == 2 and "huref train encoder" in refused.err and "huref encoder convert" in refused.err
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    assert cli(*run, "--encoder-weights", broken).code == 4
