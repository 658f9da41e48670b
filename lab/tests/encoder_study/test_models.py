"""The study's models, tiny: they are trained, changed, measured and saved as the real ones are."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.demo.tensors import as_tensor
from huref.errors import CorruptFileError, InconclusiveError, MissingFileError, NotFiniteError, UsageError
from huref.fingerprints.encoder.file import load_encoder, save_encoder
from huref.fingerprints.encoder.network import EncoderConfig
from huref.fingerprints.encoder.network import encode as encode_terms
from huref.fingerprints.pipeline import fingerprint
from huref.fingerprints.recipe import Recipe
from huref.kinship.comparison import compare_models
from huref.kinship.record import CompareOptions
from huref.model.model import open_model
from huref.model.source import open_checkpoint
from huref_lab.encoder.network import EncoderCNN
from huref_lab.encoder_study.measurement import by_recipe, by_terms, measure, study_recipes
from huref_lab.encoder_study.models import BASES, BaseSpec, ZooOptions, make_families
from huref_lab.encoder_study.offspring import TOLERANCE, Noise, make_noisy, make_requantised, noise_levels
from huref_lab.encoder_study.record import Study, StudyModel, load_study, save_study
from huref_lab.encoder_study.similarity import all_pairs, changed, self_ics
from huref_lab.training.language_models import (
    FAMILIES,
    Shape,
    TrainJob,
    TrainOptions,
    encode,
    load_trained,
    train_base,
    train_tokenizer,
    tune_further,
    unigram_loss,
)
from huref_lab.training.texts import read_text

pytestmark = pytest.mark.training

TINY = Shape(width=32, depth=2, heads=2, kv_heads=1, feed_forward=64)
QUICK = TrainOptions(steps=60, batch=8, length=32, learning_rate=1e-2)
TOKENS = 512


@pytest.fixture(scope="module")
def text() -> str:
    return read_text("python:stdlib", 60_000, Path("nowhere"))


@pytest.fixture(scope="module")
def tokenizer(text: str) -> str:
    return train_tokenizer(text, 800)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, text: str, tokenizer: str) -> Path:
    """Two trained bases, a fine-tune of the first, and a stranger with other words."""
    folder = tmp_path_factory.mktemp("study")
    ids = encode(tokenizer, text)
    for seed, family in enumerate(("llama", "gpt_neox")):
        job = TrainJob(folder / family, replace(QUICK, seed=seed), family)
        train_base(job, family, TINY, tokenizer, ids)
    other = train_tokenizer(text[:30_000], 700)
    train_base(
        TrainJob(folder / "other-words", replace(QUICK, steps=2), ""), "llama", TINY, other, encode(other, text)
    )
    tune_further(TrainJob(folder / "tuned", replace(QUICK, steps=5, learning_rate=1e-3), "t"), folder / "llama", ids)
    return folder


def test_training_beats_guessing_by_frequency(place: Path) -> None:
    trained = load_trained(TrainJob(place / "llama", QUICK, "llama"))
    assert trained is not None
    assert trained.after < trained.unigram - 0.1 < trained.before


def test_a_run_is_known_again_only_as_the_same_job(place: Path) -> None:
    assert load_trained(TrainJob(place / "llama", QUICK, "other text")) is None
    assert load_trained(TrainJob(place / "llama", replace(QUICK, steps=41), "llama")) is None
    assert load_trained(TrainJob(place / "absent", QUICK, "llama")) is None


def test_the_seed_decides_the_weights(tmp_path: Path, text: str, tokenizer: str) -> None:
    options, ids = replace(QUICK, steps=3), encode(tokenizer, text)
    state = torch.random.get_rng_state()
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train_base(TrainJob(tmp_path / name, replace(options, seed=seed), ""), "llama", TINY, tokenizer, ids)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_huref_reads_every_family(family: str, tmp_path: Path, text: str, tokenizer: str) -> None:
    job = TrainJob(tmp_path / family, replace(QUICK, steps=1), "")
    train_base(job, family, TINY, tokenizer, encode(tokenizer, text))
    vector = by_recipe(Recipe("canonical", n_tokens=TOKENS))(job.folder)
    assert vector.shape == (512,)
    assert np.isfinite(vector).all()


def test_unigram_loss_is_the_entropy_of_equal_tokens() -> None:
    ids = torch.arange(1000).repeat(100)
    assert unigram_loss(ids, ids[:1000], 1000) == pytest.approx(np.log(1000), abs=1e-9)


def test_a_diverging_run_is_refused(tmp_path: Path, text: str, tokenizer: str) -> None:
    job = TrainJob(tmp_path / "x", replace(QUICK, learning_rate=float("inf")), "")
    with pytest.raises(NotFiniteError, match="diverged"):
        train_base(job, "llama", TINY, tokenizer, encode(tokenizer, text))
    assert not job.folder.exists()


def test_too_little_text_and_unknown_families_are_refused(tmp_path: Path, tokenizer: str) -> None:
    job = TrainJob(tmp_path / "x", QUICK, "")
    with pytest.raises(UsageError, match="too little text"):
        train_base(job, "llama", TINY, tokenizer, torch.zeros(100, dtype=torch.int64))
    with pytest.raises(UsageError, match="no such family"):
        train_base(job, "rnn", TINY, tokenizer, torch.zeros(100, dtype=torch.int64))


@settings(max_examples=6, deadline=None)
@given(target=st.floats(0.2, 0.97), family=st.sampled_from(["llama", "gpt_neox"]))
def test_noise_reaches_the_wanted_similarity(place: Path, target: float, family: str) -> None:
    (sigma,) = noise_levels(place / family, [target], TOKENS)
    noisy = make_noisy(place / "noisy", place / family, sigma)
    found = compare_models(place / family, noisy, CompareOptions(method="ics", n_tokens=TOKENS, recipe="canonical"))
    assert found.ics_canonical == pytest.approx(target, abs=TOLERANCE + 1e-4)


def test_more_noise_is_less_alike(place: Path) -> None:
    base = open_model(place / "llama")
    with base.weights.checkpoint as checkpoint:
        noise = Noise(checkpoint)
        copies = [changed(base, noise.at(sigma)) for sigma in (0.0, 0.1, 0.3, 1.0, 3.0)]
        found = self_ics(base, copies, Recipe("canonical", n_tokens=TOKENS))
    assert found[0] == pytest.approx(1.0, abs=1e-5)
    assert all(more > less for more, less in pairwise(found))


def test_noise_of_some_rows_is_those_rows_of_the_noise(place: Path) -> None:
    with open_checkpoint(place / "llama") as checkpoint:
        name = "model.embed_tokens.weight"
        change, rows = Noise(checkpoint).at(0.5), np.array([7, 3, 11])
        whole = change(name, as_tensor(checkpoint.read(name)), None)
        some = change(name, as_tensor(checkpoint.read(name, rows)), rows)
        assert torch.equal(some, whole[torch.from_numpy(rows)])
        gain = as_tensor(checkpoint.read("model.norm.weight"))
        assert torch.equal(change("model.norm.weight", gain, None), gain)


def test_an_impossible_similarity_is_refused(place: Path) -> None:
    with pytest.raises(InconclusiveError, match="no strength of noise"):
        noise_levels(place / "llama", [-0.5], TOKENS)


def test_four_bits_keep_the_model(place: Path) -> None:
    child = make_requantised(place / "four", place / "llama")
    found = compare_models(place / "llama", child.path, CompareOptions(n_tokens=TOKENS, recipe="canonical"))
    assert 0.9 < (found.ics_canonical or 0.0) < 1.0
    assert 0.99 < (found.pcs or 0.0) < 1.0


@pytest.mark.parametrize("name", ["canonical-2", "canonical", "paper"])
def test_all_pairs_agree_with_the_comparison_of_two(place: Path, name: str) -> None:
    paths = [place / "llama", place / "gpt_neox", place / "tuned", place / "other-words"]
    table = all_pairs(paths, Recipe(name=name, n_tokens=TOKENS), 300)
    for i, a in enumerate(paths):
        for j, b in enumerate(paths):
            n_tokens = 300 if (i == 3) != (j == 3) else TOKENS
            asked = CompareOptions(method="ics", n_tokens=n_tokens, recipe="canonical" if name == "paper" else name)
            found = compare_models(a, b, asked)
            expected = {"canonical-2": found.ics_canonical_2, "canonical": found.ics_canonical, "paper": found.ics}
            assert table[i, j] == pytest.approx(expected[name], abs=2e-5), (i, j)


@pytest.mark.parametrize("name", ["canonical", "paper"])
def test_encoders_of_terms_see_what_the_pipeline_shows_them(place: Path, name: str) -> None:
    encoder = EncoderCNN(EncoderConfig(channels=(2, 2, 2, 512), kernel=12), seed=3).encoding()
    save_encoder(encoder, place / "encoder.safetensors", {})
    loaded = load_encoder(place / "encoder.safetensors").encoder
    recipe = Recipe(name=name, encoder="cnn", n_tokens=256)
    expected = fingerprint(place / "llama", recipe, encoder_weights=place / "encoder.safetensors").vector
    found = by_terms(recipe, lambda terms: encode_terms(terms.numpy(), loaded))(place / "llama")
    assert np.allclose(found, expected, atol=1e-3)


def test_pairs_of_different_vocabularies_can_be_left_out(place: Path) -> None:
    table = all_pairs([place / "llama", place / "other-words"], Recipe("canonical", n_tokens=TOKENS), 0)
    assert np.array_equal(np.isnan(table), [[False, True], [True, False]])


def test_a_whole_small_study(tmp_path: Path) -> None:
    specs = [BaseSpec(n, "python:stdlib", shape=TINY, other="python:stdlib") for n in "ab"]
    options = ZooOptions(
        QUICK, {"light": replace(QUICK, steps=2, learning_rate=1e-3)}, (0.8,), TOKENS, with_real=False
    )
    families = list(make_families(tmp_path, specs, options))
    encoders = {name: by_recipe(recipe) for name, recipe in study_recipes(TOKENS).items()}
    study = measure(families, encoders, TOKENS)
    assert [m.name for m in study.models] == [f"{b}{c}" for b in "ab" for c in ("", "/light", "/4-bit", "/noise-80")]
    assert [m.kind for m in study.models[:4]] == ["base", "fine-tune", "requantised", "noise"]
    assert study.models[3].ics_canonical == pytest.approx(0.8, abs=0.01)
    assert abs(study.ics[0, 4]) < 0.3, "twins of one shape share no first weights"
    assert abs(study.ics[3, 7]) < 0.3, "nor noise"
    assert study.is_twin()[0, 4]
    assert not study.is_kin()[0, 4]
    assert np.allclose(np.diag(study.ics), 1.0, atol=1e-5)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert list(make_families(tmp_path, specs, options)) == families
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_real_list_is_one(tmp_path: Path) -> None:
    names = {spec.name for spec in BASES}
    texts = {spec.text for spec in BASES}
    assert len(names) == len(BASES)
    assert len(texts) >= 17
    assert {spec.architecture for spec in BASES} == set(FAMILIES)
    assert all(spec.other != spec.text for spec in BASES)
    assert len({spec.seed for spec in BASES}) == len(BASES)


def test_texts_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such kind"):
        read_text("web:everything", 10, tmp_path)
    with pytest.raises(MissingFileError, match="not installed"):
        read_text("python:no_such_package_here", 10, tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingFileError, match="Debian package"):
        read_text("debian:no-such-package-here", 10, tmp_path)


def sample_study(n: int = 3) -> Study:
    dice = np.random.default_rng(0)
    models = tuple(
        StudyModel(f"m{i}", "m0", "noise" if i else "base", 1.0 - 0.1 * i, 0.5, text="t", tokenizer="k")
        for i in range(n)
    )
    ics = np.eye(n)
    ics[0, 1] = ics[1, 0] = np.nan
    vectors = {name: dice.normal(size=(n, 512)).astype(np.float32) for name in ("sketch", "cnn")}
    return Study(models, vectors, ics, np.eye(n), {"cnn": "trained for 3 steps"})


def test_a_saved_study_comes_back(tmp_path: Path) -> None:
    study = sample_study()
    save_study(tmp_path / "new", study)
    again = load_study(tmp_path / "new")
    assert again.models == study.models
    assert again.encoders == study.encoders
    assert all(np.array_equal(again.vectors[name], study.vectors[name]) for name in study.vectors)
    assert np.array_equal(again.ics, study.ics, equal_nan=True)
    assert again.vectors.keys() == study.vectors.keys()


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "models.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _model(**changes: object) -> dict[str, object]:
    return {"name": "m", "base": "m", "kind": "base", "ics_canonical": 1.0, "ics_paper": 1.0} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "huref.study/9"},
        {"models": "all of them"},
        {"models": []},
        {"models": [_model()]},
        {"models": [_model(name=n) for n in ("m", "m", "m")]},
        {"models": [_model(name=n, base="lost") for n in "abc"]},
        {"models": [_model(name=n, base=n, kind="cousin") for n in "abc"]},
        {"models": [_model(name=n, base=n, ics_paper="high") for n in "abc"]},
        {"models": [_model(name=n, base=n, path="/etc") for n in "abc"]},
        {"models": [{"name": "a"}, 3, None]},
        {"encoders": []},
    ],
)
def test_a_list_of_models_that_contradicts_itself(tmp_path: Path, changes: dict[str, object]) -> None:
    save_study(tmp_path, sample_study())
    _edit(tmp_path, **changes)
    with pytest.raises(CorruptFileError, match="contradicts its format"):
        load_study(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000], ids=range(5))
def test_models_that_are_no_document(tmp_path: Path, content: bytes) -> None:
    save_study(tmp_path, sample_study())
    (tmp_path / "models.json").write_bytes(content)
    with pytest.raises(CorruptFileError):
        load_study(tmp_path)


def _archive(**changes: object) -> bytes:
    arrays = {"ics": np.eye(3), "ics_paper": np.eye(3), "vectors.sketch": np.ones((3, 512), np.float32)}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and nothing else",
        _archive()[:-200],
        _archive(ics=None),
        _archive(ics=np.eye(4)),
        _archive(**{"vectors.sketch": np.ones((3, 511), np.float32)}),
        _archive(**{"vectors.sketch": np.full((3, 512), np.nan, np.float32)}),
        _archive(**{"vectors.sketch": np.ones((3, 512), np.int64)}),
        _archive(**{"vectors.sketch": np.array([[{"run": "this"}] * 512] * 3, dtype=object)}),
    ],
    ids=range(9),
)
def test_arrays_that_contradict_the_models(tmp_path: Path, content: bytes) -> None:
    save_study(tmp_path, sample_study())
    (tmp_path / "vectors.npz").write_bytes(content)
    with pytest.raises(CorruptFileError):
        load_study(tmp_path)


def test_no_study_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="cannot be read"):
        load_study(tmp_path / "absent")
