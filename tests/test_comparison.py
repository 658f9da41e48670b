"""Comparisons: which score for which kinship, and a reason wherever there is no number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import huref
from checkpoints import VOCAB, llama_state, save_llama
from huref.artefact import CompareOptions, Comparison
from huref.errors import InconclusiveError

SMALL = CompareOptions(n_tokens=256)


def noisy(state: dict[str, torch.Tensor], amount: float, seed: int = 7) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return {name: t + amount * t.std() * torch.randn(t.shape, generator=dice) for name, t in state.items()}


def test_a_copy_is_identical(tmp_path: Path) -> None:
    a, b = save_llama(tmp_path / "a", seed=1), save_llama(tmp_path / "b", seed=1, file_format="bin")
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "identical" and found.pcs == pytest.approx(1.0)
    assert found.ics == pytest.approx(1.0, abs=1e-4) and found.ics_canonical == pytest.approx(1.0, abs=1e-4)
    assert found.vectors == pytest.approx(1.0, abs=1e-6)


def test_a_bfloat16_copy_is_requantised(tmp_path: Path) -> None:
    state = llama_state(1)
    rounded = {name: t.bfloat16() for name, t in state.items()}
    found = huref.compare(save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=rounded), SMALL)
    assert found.verdict == "requantised" and found.ics_canonical > 0.9999


def test_an_offspring_is_close_and_a_stranger_is_not_and_neither_is_a_verdict(tmp_path: Path) -> None:
    base = save_llama(tmp_path / "base", seed=1)
    child = save_llama(tmp_path / "child", state=noisy(llama_state(1), 0.05))
    kin, strangers = huref.compare(base, child, SMALL), huref.compare(base, save_llama(tmp_path / "x", seed=2), SMALL)
    for found in (kin, strangers):
        assert found.verdict == "inconclusive" and any("not calibrated" in note for note in found.notes)
    assert min(kin.pcs, kin.ics, kin.ics_canonical, kin.vectors) > 0.95
    assert max(abs(x) for x in (strangers.pcs, strangers.ics_canonical, strangers.vectors)) < 0.3


def test_every_term_is_reported_with_its_layers(tmp_path: Path) -> None:
    a, b = save_llama(tmp_path / "a", seed=1), save_llama(tmp_path / "b", state=noisy(llama_state(1), 0.2))
    terms = huref.compare(a, b, SMALL).terms
    kinds = ["qk", "vo", "gate_down", "ffn_exact", "paper/qk", "paper/vo", "paper/ffn"]
    assert sorted((t.layer_a, t.term) for t in terms) == sorted((i, kind) for i in (0, 1) for kind in kinds)


def test_models_of_other_depth_are_matched_by_assignment(tmp_path: Path) -> None:
    """Layers 0, 2, 3 of four are kept: each is matched to itself."""
    deep = llama_state(1, n_layers=4)
    kept = {0: 0, 2: 1, 3: 2}
    shallow = {k: v for k, v in deep.items() if ".layers." not in k}
    for old, new in kept.items():
        old_at, new_at = f"model.layers.{old}.", f"model.layers.{new}."
        shallow |= {k.replace(old_at, new_at): v for k, v in deep.items() if k.startswith(old_at)}
    a = save_llama(tmp_path / "a", n_layers=4, state=deep)
    b = save_llama(tmp_path / "b", n_layers=3, state=shallow)
    found = huref.compare(a, b, CompareOptions(n_tokens=256, layers="all"))
    assert {(t.layer_a, t.layer_b) for t in found.terms} == {(0, 0), (2, 1), (3, 2)}
    assert found.ics_canonical == pytest.approx(1.0, abs=1e-4)
    assert any("PCS skips" in note for note in found.notes) and found.verdict == "inconclusive"


def test_an_extended_vocabulary_is_compared_over_what_is_shared(tmp_path: Path) -> None:
    state = llama_state(1)
    order = [*range(1, VOCAB), 0]
    a, b = save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=state, vocabulary_order=order)
    found = huref.compare(a, b, SMALL)
    assert found.ics_canonical == pytest.approx(1.0, abs=1e-4) and found.ics == pytest.approx(1.0, abs=1e-4)
    assert found.verdict == "inconclusive" and found.pcs < 1
    assert any("vocabularies differ" in note and "256 token strings" in note for note in found.notes)
    ranking = tmp_path / "ranking.txt"
    ranking.write_text("\n".join(map(str, range(VOCAB))))
    ranked = huref.compare(a, b, CompareOptions(n_tokens=256, tokens_file=ranking))
    assert any("ranking is not used" in note for note in ranked.notes)


def test_saved_fingerprints_compare_without_weights(tmp_path: Path) -> None:
    base = save_llama(tmp_path / "base", seed=1)
    child = save_llama(tmp_path / "child", state=noisy(llama_state(1), 0.1))
    recipe = huref.Recipe(n_tokens=256)
    files = []
    for model in (base, child):
        files.append(tmp_path / f"{model.name}.huref.safetensors")
        huref.save_fingerprint(huref.fingerprint(model, recipe), files[-1])
    exact, saved, mixed = (huref.compare(*pair, SMALL) for pair in ((base, child), files, (base, files[1])))
    assert saved.ics_canonical == pytest.approx(exact.ics_canonical, abs=0.03)
    assert saved.vectors == pytest.approx(exact.vectors, abs=1e-5) and mixed.vectors == pytest.approx(saved.vectors)
    assert saved.pcs is None and saved.verdict == "inconclusive"


def test_fingerprints_of_two_recipes_do_not_compare(tmp_path: Path) -> None:
    base, files = save_llama(tmp_path / "base", seed=1), []
    for name in ("canonical", "paper"):
        files.append(tmp_path / f"{name}.huref.safetensors")
        huref.save_fingerprint(huref.fingerprint(base, huref.Recipe(name=name, n_tokens=256)), files[-1])
    with pytest.raises(InconclusiveError, match="different recipes"):
        huref.compare(*files)


def test_matrix_is_symmetric_and_agrees_with_compare(tmp_path: Path) -> None:
    models = [save_llama(tmp_path / str(seed), seed=seed) for seed in (1, 2, 3)]
    table = huref.matrix(models, "ics_canonical", SMALL)
    assert (table.values == table.values.T).all() and table.values.diagonal().tolist() == [1, 1, 1]
    assert table.values[0, 2] == pytest.approx(huref.compare(models[0], models[2], SMALL).ics_canonical)


def test_comparison_document_has_the_contracts_keys() -> None:
    keys = "schema_version a b pcs ics ics_canonical aligned agreement terms background z p_value verdict notes"
    document = Comparison("a", "b", None, None, None, None, (), "inconclusive", ()).to_dict()
    assert set(keys.split()) <= set(document)
