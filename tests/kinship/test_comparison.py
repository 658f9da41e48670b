"""Comparisons: which score for which kinship, and a reason wherever there is no number."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import huref
from huref.attacks import AttackOptions, attack
from huref.errors import CorruptFileError, InconclusiveError
from huref.kinship.record import CompareOptions, Comparison
from kit.checkpoints import VOCAB, llama_state, save_llama
from kit.tiny_llama import TinyLlama, tokenizer_json

SMALL = CompareOptions(n_tokens=256)


def noisy(state: dict[str, torch.Tensor], amount: float, seed: int = 7) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return {name: t + amount * t.std() * torch.randn(t.shape, generator=dice) for name, t in state.items()}


def test_a_copy_is_identical(tmp_path: Path) -> None:
    a, b = save_llama(tmp_path / "a", seed=1), save_llama(tmp_path / "b", seed=1, file_format="bin")
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "identical" and found.pcs == pytest.approx(1.0)
    assert found.ics == pytest.approx(1.0, abs=1e-4) and found.ics_canonical_2 == pytest.approx(1.0, abs=1e-4)
    assert found.vectors == pytest.approx(1.0, abs=1e-6)


def test_a_bfloat16_copy_is_requantised(tmp_path: Path) -> None:
    state = llama_state(1)
    rounded = {name: t.bfloat16() for name, t in state.items()}
    found = huref.compare(save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=rounded), SMALL)
    assert found.verdict == "requantised" and found.ics_canonical_2 > 0.9999


def test_an_offspring_is_derived_and_a_stranger_independent(tmp_path: Path) -> None:
    base = save_llama(tmp_path / "base", seed=1)
    child = save_llama(tmp_path / "child", state=noisy(llama_state(1), 0.05))
    kin, strangers = huref.compare(base, child, SMALL), huref.compare(base, save_llama(tmp_path / "x", seed=2), SMALL)
    assert (kin.verdict, strangers.verdict) == ("derived", "independent")
    assert kin.agreement == 1.0 and kin.aligned > 0.95 and kin.p_value <= 0.01 and kin.z > 10
    assert strangers.agreement < 0.15 and strangers.p_value > 0.01 and abs(strangers.aligned) < 0.25
    assert kin.derivation["kind"] == "fine-tuned" and kin.derivation["direction"] == "unknown"
    assert kin.background["nearest"]["score"] == kin.background["max"] < 0.2
    assert min(kin.pcs, kin.ics, kin.ics_canonical_2, kin.vectors) > 0.95
    assert max(abs(x) for x in (strangers.pcs, strangers.ics_canonical_2, strangers.vectors)) < 0.3


def test_every_term_is_reported_with_its_layers(tmp_path: Path) -> None:
    a, b = save_llama(tmp_path / "a", seed=1), save_llama(tmp_path / "b", state=noisy(llama_state(1), 0.2))
    terms = huref.compare(a, b, SMALL).terms
    kinds = ["qk", "vo", "up_down", "paper/qk", "paper/vo", "paper/ffn"]
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
    assert found.ics_canonical_2 == pytest.approx(1.0, abs=1e-4)
    assert any("PCS skips" in note for note in found.notes) and found.verdict == "derived"
    assert [(x.layer_a, x.layer_b) for x in found.layers] == [(0, 0), (2, 1), (3, 2)]
    assert found.derivation["kind"] == "depth-changed"


def test_an_extended_vocabulary_is_compared_over_what_is_shared(tmp_path: Path) -> None:
    state = llama_state(1)
    order = [*range(1, VOCAB), 0]
    a, b = save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=state, vocabulary_order=order)
    found = huref.compare(a, b, SMALL)
    assert found.ics_canonical_2 == pytest.approx(1.0, abs=1e-4) and found.ics == pytest.approx(1.0, abs=1e-4)
    assert found.verdict == "derived" and found.pcs < 1
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
    assert saved.ics_canonical_2 == pytest.approx(exact.ics_canonical_2, abs=0.03)
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
    table = huref.matrix(models, "ics_canonical_2", SMALL)
    assert (table.values == table.values.T).all() and table.values.diagonal().tolist() == [1, 1, 1]
    assert table.values[0, 2] == pytest.approx(huref.compare(models[0], models[2], SMALL).ics_canonical_2)


def test_comparison_document_has_the_contracts_keys() -> None:
    keys = "schema_version a b pcs ics ics_canonical_2 aligned agreement terms background z p_value verdict notes"
    document = Comparison("a", "b", None, None, None, None, (), "inconclusive", ()).to_dict()
    assert set(keys.split()) <= set(document)


# Bad input: the reason, never a number out of nothing


def reshaped(folder: Path, seed: int, **sizes: int) -> Path:
    """A tiny Llama of other sizes, with the tokens of `save_llama`."""
    import json

    from safetensors.torch import save_file

    from kit.checkpoints import llama_config, write_tokenizer

    config = llama_config(sizes.get("num_hidden_layers", 2)) | sizes
    d, f, v = (int(str(config[key])) for key in ("hidden_size", "intermediate_size", "vocab_size"))
    e = d // int(str(config["num_attention_heads"]))
    kv = e * int(str(config["num_key_value_heads"]))
    dice = torch.Generator().manual_seed(seed)
    shapes = {"q": (d, d), "k": (kv, d), "v": (kv, d), "o": (d, d)}
    state = {"model.embed_tokens.weight": torch.randn(v, d, generator=dice), "model.norm.weight": torch.ones(d)}
    for i in range(int(str(config["num_hidden_layers"]))):
        at = f"model.layers.{i}."
        state |= {f"{at}self_attn.{n}_proj.weight": torch.randn(s, generator=dice) for n, s in shapes.items()}
        state |= {f"{at}mlp.{n}_proj.weight": torch.randn(f, d, generator=dice) for n in ("gate", "up")}
        state[f"{at}mlp.down_proj.weight"] = torch.randn(d, f, generator=dice)
        state |= {f"{at}{n}_layernorm.weight": torch.ones(d) for n in ("input", "post_attention")}
    folder.mkdir()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, range(VOCAB))
    if v < VOCAB:  # a tokenizer with as few tokens as rows
        document = json.loads((folder / "tokenizer.json").read_text())
        document["model"]["vocab"] = {t: i for t, i in document["model"]["vocab"].items() if i < v}
        document["model"]["merges"] = []
        (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def test_one_layer_models_get_a_verdict(tmp_path: Path) -> None:
    a, b = reshaped(tmp_path / "a", 1, num_hidden_layers=1), reshaped(tmp_path / "b", 2, num_hidden_layers=1)
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "independent" and found.self_null is None and len(found.layers) == 1
    assert huref.compare(a, a, SMALL).verdict == "identical"


def test_too_few_neurons_are_inconclusive_with_the_reason(tmp_path: Path) -> None:
    a, b = (reshaped(tmp_path / str(seed), seed, intermediate_size=16) for seed in (1, 2))
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "inconclusive" and found.agreement is None and found.p_value is None
    assert any("fewer than 32 feed-forward neurons" in note for note in found.notes)


def test_a_tiny_vocabulary_and_another_width_leave_nothing_to_align(tmp_path: Path) -> None:
    a = reshaped(tmp_path / "a", 1, vocab_size=100)
    b = reshaped(tmp_path / "b", 2, vocab_size=100, hidden_size=48)
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "inconclusive" and found.ics is None and found.ics_canonical_2 is None
    assert any("share too few tokens" in note for note in found.notes)
    assert found.agreement is None or (found.alignment or {})["method"] == "weights"


def test_a_tiny_vocabulary_alone_hides_no_kin(tmp_path: Path) -> None:
    """Of equal width, the identity is a map: kin are found, strangers stay open."""
    a, b = (reshaped(tmp_path / str(seed), seed, vocab_size=100) for seed in (1, 2))
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "inconclusive" and any("too few shared tokens" in note for note in found.notes)


def test_untrained_weights_that_are_all_alike_accuse_nobody(tmp_path: Path) -> None:
    """Every neuron has the same rows in both: every criterion points at the first."""
    state = {name: torch.ones_like(t) if t.ndim > 1 else t for name, t in llama_state(1).items()}
    other = {name: 2 * t if t.ndim > 1 else t for name, t in state.items()}
    dice = torch.Generator().manual_seed(0)
    other["model.embed_tokens.weight"] = torch.randn(VOCAB, 32, generator=dice)
    a, b = save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=other)
    with pytest.raises(CorruptFileError, match="all tokens have one embedding"):
        huref.compare(a, b, SMALL)
    state["model.embed_tokens.weight"] = torch.randn(VOCAB, 32, generator=dice)
    found = huref.compare(save_llama(tmp_path / "distinct", state=state), b, SMALL)
    assert found.verdict in ("independent", "inconclusive") and (found.agreement or 0) < 0.1


def test_zeroed_layers_are_no_evidence(tmp_path: Path) -> None:
    state = {name: torch.zeros_like(t) if ".mlp." in name else t for name, t in llama_state(1).items()}
    other = {name: torch.zeros_like(t) if ".mlp." in name else t for name, t in llama_state(2).items()}
    a, b = save_llama(tmp_path / "a", state=state), save_llama(tmp_path / "b", state=other)
    for method in ("all", "agreement"):
        with pytest.raises(CorruptFileError, match="a matrix of zeros"):
            huref.compare(a, b, replace(SMALL, method=method))


@pytest.mark.parametrize("method", ["aligned", "agreement", "pcs", "ics"])
def test_one_method_leaves_the_others_null(tmp_path: Path, method: str) -> None:
    a, b = save_llama(tmp_path / "a", seed=1), save_llama(tmp_path / "b", state=noisy(llama_state(1), 0.05))
    found = huref.compare(a, b, CompareOptions(method=method, n_tokens=256))
    for name in ("pcs", "ics", "aligned", "agreement"):
        is_told = name == method or {name, method} == {"agreement", "aligned"}
        assert (getattr(found, name) is not None) == is_told, name
    assert any(f"only {method} was asked for" in note for note in found.notes)
    assert found.verdict == ("derived" if method in ("aligned", "agreement") else "inconclusive")


def test_layers_that_are_named_are_the_ones_looked_at(tmp_path: Path) -> None:
    states = llama_state(1, n_layers=4), noisy(llama_state(1, n_layers=4), 0.01)
    a, b = (save_llama(tmp_path / n, n_layers=4, state=state) for n, state in zip("ab", states, strict=True))
    found = huref.compare(a, b, CompareOptions(n_tokens=256, layers="1,3", method="agreement"))
    assert [(x.layer_a, x.layer_b) for x in found.layers] == [(1, 1), (3, 3)]


def test_a_layer_that_adds_nothing_is_like_no_other(tmp_path: Path) -> None:
    """Inserted by an attack, its sketches are zeros: the others still find their partners."""
    base = save_llama(tmp_path / "base", 1)
    attack(base, tmp_path / "deeper", AttackOptions(("insert_layers",), 1, "float32", None))
    for recipe, told in (("canonical-2", "passed over"), ("canonical", "are zero: such layers add nothing")):
        asked = huref.Recipe(recipe, layers="all", n_tokens=256)
        assert any(told in note for note in huref.fingerprint(tmp_path / "deeper", asked).notes)
        assert not huref.fingerprint(base, asked).notes
        options = CompareOptions(method="ics", layers="all", n_tokens=256, recipe=recipe)
        found = huref.compare(base, tmp_path / "deeper", options)
        assert found.invariant_ics == pytest.approx(1.0, abs=1e-3)
        assert any(note.startswith("deeper: ") and told in note for note in found.notes)
    pairs = {(term.layer_a, term.layer_b) for term in found.terms}
    assert [i for i, _ in sorted(pairs)] == list(range(len(pairs)))


@pytest.mark.parametrize("is_equal", [True, False])
def test_an_unembedding_that_the_configuration_ties_is_no_part_of_the_model(tmp_path: Path, is_equal: bool) -> None:
    """Added by a merge tool; transformers does not read it."""
    state = llama_state(1)
    head = state["model.embed_tokens.weight"].clone() if is_equal else torch.randn(VOCAB, 32)
    a, b = (
        save_llama(tmp_path / "a", state=state),
        save_llama(tmp_path / "b", state={**state, "lm_head.weight": head}),
    )
    for folder in (a, b):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    found = huref.compare(a, b, SMALL)
    assert found.verdict == "identical"
    assert any("b: the configuration ties the unembedding" in note for note in found.notes) != is_equal


@pytest.mark.parametrize(("n", "is_told"), [(20, False), (200, True)])
def test_a_tokenizer_with_fewer_tokens_than_rows_is_told(tmp_path: Path, n: int, is_told: bool) -> None:
    """A few are padding."""
    folder, state = save_llama(tmp_path / "a"), llama_state(0)
    state["model.embed_tokens.weight"] = torch.cat([state["model.embed_tokens.weight"], torch.randn(n, 32)])
    save_file(state, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": VOCAB + n}))
    notes = huref.fingerprint(folder, huref.Recipe(n_tokens=256)).notes
    assert any(f"tokens for {VOCAB + n} embedding rows" in note for note in notes) == is_told


def test_a_tokenizer_that_does_not_belong_to_the_rows_is_told(tmp_path: Path) -> None:
    """The same weights beside a longer tokenizer in another order: PCS 100 %, ICS 0 %."""
    a, b = (TinyLlama().save(tmp_path / name) for name in ("a", "b"))
    document = json.loads(tokenizer_json(450))
    ids = np.random.default_rng(0).permutation(len(document["model"]["vocab"])).tolist()
    document["model"]["vocab"] = dict(zip(document["model"]["vocab"], ids, strict=True))
    (b / "tokenizer.json").write_text(json.dumps(document))
    found = huref.compare(a, b)
    assert found.pcs == 1.0 and found.ics_canonical_2 is not None and found.ics_canonical_2 < 0.5
    told = " / ".join(found.notes)
    assert "b: the tokenizer has 450 tokens for 400 embedding rows" in told
    assert "the weights agree and the ICS do not" in told and "no more are in both vocabularies" in told
    same = " / ".join(huref.compare(a, TinyLlama(noise=0.001).save(tmp_path / "c")).notes)
    assert "tokenizer of" not in same and "the ICS do not" not in same
