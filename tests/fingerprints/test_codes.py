"""Codes in fingerprint files: what is written is what is read, a verdict without weights, and damage never passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import huref
from huref.errors import CorruptFileError, UsageError
from huref.files.canonical_json import canonical_json
from huref.fingerprints.codes import CodeRecipe, Codes
from huref.fingerprints.coding import code_tokens, dual_projection, make_codes, plain_projection
from huref.fingerprints.file import SUFFIX, _digest, load_fingerprint, save_fingerprint
from huref.fingerprints.record import Fingerprint
from huref.kinship.record import CompareOptions
from huref.kinship.saved import compare_fingerprints
from huref.model import open_model
from huref.model.tokens.common_strings import common_strings
from kit.checkpoints import llama_state, save_llama
from kit.tiny_llama import TinyLlama

RECIPE = huref.Recipe(n_tokens=256)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyLlama(seed=1).save(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def made(model: Path) -> Fingerprint:
    return huref.fingerprint(model, RECIPE, plain_codes=True)


@pytest.fixture
def saved(made: Fingerprint, tmp_path: Path) -> Path:
    path = tmp_path / f"base{SUFFIX}"
    save_fingerprint(made, path)
    return path


def test_round_trip(saved: Path, made: Fingerprint, tmp_path: Path) -> None:
    again = load_fingerprint(saved)
    assert again == made and again.codes is not None and again.header() == made.header()
    save_fingerprint(again, tmp_path / f"again{SUFFIX}")
    assert (tmp_path / f"again{SUFFIX}").read_bytes() == saved.read_bytes()
    assert again != replace(made, codes=None)


def test_the_layout_is_the_documented_one(saved: Path, made: Fingerprint) -> None:
    data = saved.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    document = json.loads(header.pop("__metadata__")["huref"])
    assert document["schema_version"] == "huref.fingerprint/1.1" and document["codes"]["schema"] == "huref.codes/1"
    assert document["codes"]["recipe"] == {
        "bits": 256,
        "n_tokens": 4096,
        "ridge": 0.03,
        "side": 64,
        "seed": "huref/codes/1",
    }
    assert document["codes"]["layers"] == [0, 1, 2] == document["codes"]["plain_layers"]
    found = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if "sketch/" not in name}
    assert found == {
        "vector": ("F32", [512]),
        "codes/listed": ("U8", [2048]),
        **{f"codes/{i}.{part}": ("U8", [64, 32]) for i in range(3) for part in ("gate", "up", "down")},
        **{f"codes/{i}.{part}": ("U8", [4, 32]) for i in range(3) for part in ("qk", "vo")},
        **{f"codes/{i}.operators": ("F16", [3, 64, 64]) for i in range(3)},
        **{f"plain/{i}.{part}": ("U8", [64, 32]) for i in range(3) for part in ("gate", "up", "down")},
    }


def test_a_file_without_codes_stays_what_it_was(model: Path, made: Fingerprint, tmp_path: Path) -> None:
    plain = huref.fingerprint(model, RECIPE)
    weights = {**made.weights, "bytes_read": plain.weights["bytes_read"]}
    assert plain == replace(made, codes=None, weights=weights) and plain.header()["schema_version"].endswith("/1.0")
    assert made.weights["bytes_read"] > plain.weights["bytes_read"]  # what was read for the codes is told


def test_golden_values(model: Path, made: Fingerprint) -> None:
    """Signs of the plain frame, and of codes in it: sums of a few integers and floats, the same everywhere."""
    P = plain_projection(32, CodeRecipe()).P
    assert hashlib.sha256((P < 0).tobytes()).hexdigest() == PLAIN_SIGNS
    codes = made.codes
    assert codes is not None and hashlib.sha256(codes.plain[0].gate.tobytes()).hexdigest() == PLAIN_CODES
    assert codes.tokens == CODE_TOKENS


PLAIN_SIGNS = "29efd0e0102524d6ea97ed65e3971f5855163e6d9281df24e55a4c2011fcb99c"
PLAIN_CODES = "da02277a546995c8cf5ee1b354e7408a55ecb2b5f9ed8ef40ac88b1895451ed9"
CODE_TOKENS = "a8970948fa73f424f2803ae1555190e091c0c3b8fabcf6203636e009ccbb8862"


def test_the_frame_rests_on_the_public_list(model: Path, made: Fingerprint) -> None:
    opened = open_model(model)
    with opened.weights.checkpoint:
        tokens = code_tokens(opened, CodeRecipe())
        codes = make_codes(opened, has_plain=True)
        projection = dual_projection(opened, tokens, CodeRecipe())
    bits = np.unpackbits(codes.listed, bitorder="little").astype(bool)
    assert {s for s, b in zip(common_strings(), bits, strict=True) if b} == set(tokens.strings) & set(
        common_strings()
    )
    assert codes.tokens == tokens.digest == projection.tokens and codes.n_tokens == len(tokens)
    other = replace(codes, tokens="other")
    assert codes.shared_tokens(codes) == len(tokens) and codes.shared_tokens(other) == int(bits.sum())
    assert made.codes is not None and made.codes.header() == codes.header()


# A verdict without weights


def test_saved_codes_give_the_verdict_that_weights_give(tmp_path: Path) -> None:
    base, child, other = (
        TinyLlama(seed=seed, noise=noise).save(tmp_path / name)
        for name, seed, noise in (("base", 1, 0.0), ("child", 1, 0.2), ("other", 2, 0.0))
    )
    files = {model.name: tmp_path / f"{model.name}{SUFFIX}" for model in (base, child, other)}
    for model in (base, child, other):
        save_fingerprint(huref.fingerprint(model, RECIPE, plain_codes=True), files[model.name])
    options = CompareOptions(n_tokens=256)
    for partner, verdict in ((child, "derived"), (other, "independent")):
        exact, read = huref.compare(base, partner, options), huref.compare(files["base"], files[partner.name])
        assert read.verdict == exact.verdict == verdict
        assert read.pcs is None and read.alignment["tried"].items() <= exact.alignment["tried"].items()
        if verdict == "derived":
            assert read.p_value == exact.p_value and read.witnesses == exact.witnesses
            assert read.agreement == exact.agreement and read.aligned == pytest.approx(exact.aligned, abs=1e-3)
            assert [(m.layer_a, m.layer_b) for m in read.layers] == [(m.layer_a, m.layer_b) for m in exact.layers]
        mixed = huref.compare(base, files[partner.name], options)
        assert mixed.verdict == verdict and mixed.agreement == read.agreement
        assert any("from saved codes" in note for note in read.notes)


def test_without_plain_codes_strangers_of_one_width_stay_open(tmp_path: Path) -> None:
    """Another model's embeddings before the same layers hide from the tokens' frame; of other widths none can."""
    base, same, wide = (
        huref.fingerprint(TinyLlama(seed=seed, width=width).save(tmp_path / str(seed)), RECIPE, codes=True)
        for seed, width in ((1, 32), (2, 32), (3, 48))
    )
    found = [compare_fingerprints(base, other) for other in (same, wide)]
    assert [each.verdict for each in found] == ["inconclusive", "independent"]
    assert "behind another model's embeddings" in found[0].notes[-1]


def test_another_vocabulary_is_met_in_the_streams_own_dimensions(tmp_path: Path, model: Path) -> None:
    """A replaced tokenizer: other strings for the same rows."""
    other = TinyLlama(seed=1, noise=0.01).save(tmp_path / "other")
    document = json.loads((other / "tokenizer.json").read_text())
    words = list(document["model"]["vocab"])
    document["model"]["vocab"] = {f"{word}Q{i}Z" if i > 260 else word: i for i, word in enumerate(words)}
    ids = np.random.default_rng(0).permutation(len(words)).tolist()
    document["model"]["vocab"] = dict(zip(document["model"]["vocab"], ids, strict=True))
    document["model"]["merges"] = []
    (other / "tokenizer.json").write_text(json.dumps(document))
    files = [tmp_path / f"{name}{SUFFIX}" for name in ("a", "b")]
    for path, name in zip(files, (model, other), strict=True):
        save_fingerprint(huref.fingerprint(name, RECIPE, plain_codes=True), path)
    found = huref.compare(*files)
    assert (found.verdict, found.alignment["method"]) == ("derived", "identity")
    for path, name in zip(files, (model, other), strict=True):
        save_fingerprint(huref.fingerprint(name, RECIPE, codes=True), path)
    blind = huref.compare(*files)
    assert blind.verdict == "inconclusive" and any("do not see a replaced tokenizer" in note for note in blind.notes)


def test_one_file_without_codes_leaves_the_verdict_open(saved: Path, made: Fingerprint, tmp_path: Path) -> None:
    save_fingerprint(replace(made, codes=None), tmp_path / f"plain{SUFFIX}")
    found = huref.compare(saved, tmp_path / f"plain{SUFFIX}")
    assert found.verdict == "inconclusive" and found.vectors == pytest.approx(1.0)
    assert any("fingerprint with --codes" in note for note in found.notes)


def test_codes_of_another_recipe_leave_the_verdict_open(saved: Path, made: Fingerprint, tmp_path: Path) -> None:
    assert made.codes is not None
    for name, change in (("seed", {"seed": "other"}), ("frame", {"ridge": 1.0})):
        other = replace(made.codes, recipe=replace(made.codes.recipe, **change))
        save_fingerprint(replace(made, codes=other), tmp_path / f"{name}{SUFFIX}")
        found = huref.compare(saved, tmp_path / f"{name}{SUFFIX}")
        assert found.verdict == "inconclusive" and any("codes of different recipes" in note for note in found.notes)


def test_too_few_tokens_in_common_say_nothing_of_strangers(made: Fingerprint, tmp_path: Path) -> None:
    assert made.codes is not None
    stranger = huref.fingerprint(TinyLlama(seed=5, width=48).save(tmp_path / "x"), RECIPE, plain_codes=True)
    assert stranger.codes is not None
    alone = replace(stranger.codes, tokens="other", listed=np.zeros_like(stranger.codes.listed))
    files = [tmp_path / f"{name}{SUFFIX}" for name in ("a", "b")]
    vocabulary = {**stranger.tokens, "vocabulary": "other"}
    save_fingerprint(made, files[0])
    save_fingerprint(replace(stranger, codes=alone, tokens=vocabulary), files[1])
    found = huref.compare(*files)
    assert found.verdict == "inconclusive" and any("too few" in note for note in found.notes)


def test_codes_of_an_unknown_schema_are_left_alone(saved: Path) -> None:
    path = _rewritten(saved, lambda document, tensors: document["codes"].update(schema="huref.codes/2"))
    assert load_fingerprint(path).codes is None
    with pytest.raises(UsageError, match="without these neuron codes"):
        huref.fingerprint(path, codes=True)


def test_plain_codes_are_no_others(model: Path, tmp_path: Path) -> None:
    save_fingerprint(huref.fingerprint(model, RECIPE, codes=True), tmp_path / f"a{SUFFIX}")
    with pytest.raises(UsageError, match="without these neuron codes") as raised:
        huref.fingerprint(tmp_path / f"a{SUFFIX}", plain_codes=True)
    assert "--plain-codes" in str(raised.value.next_step)


def test_a_saved_fingerprint_with_codes_is_taken_for_one(saved: Path, made: Fingerprint) -> None:
    assert huref.fingerprint(saved, codes=True) == huref.fingerprint(saved) == made


# Hostile files


def _cut(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def apply(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = np.ascontiguousarray(change(tensors[name]))

    return apply


def _without(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def apply(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        del tensors[name]

    return apply


def _told(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda document, tensors: document["codes"].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        _cut("codes/1.gate", lambda t: t[:-1]),
        _cut("codes/1.gate", lambda t: t[:, :-1]),
        _cut("codes/1.gate", lambda t: t[:0]),
        _cut("codes/1.down", lambda t: t.astype(np.int16)),
        _cut("codes/1.qk", lambda t: t[:2]),
        _cut("codes/2.operators", lambda t: t[:2]),
        _cut("codes/2.operators", lambda t: np.full_like(t, np.nan)),
        _cut("codes/2.operators", lambda t: t.astype(np.float32)),
        _cut("codes/listed", lambda t: t[:100]),
        _cut("plain/0.up", lambda t: t[:3]),
        _without("codes/1.down"),
        _without("codes/listed"),
        lambda document, tensors: tensors.update({"codes/9.gate": tensors["codes/1.gate"]}),
        lambda document, tensors: tensors.update({"codes/../x": tensors["codes/1.gate"]}),
        lambda document, tensors: tensors.update({"codes/1.copies": np.array([65], np.int32)}),
        lambda document, tensors: tensors.update({"codes/1.copies": np.array([0], np.int32)}),
        lambda document, tensors: document.pop("codes"),
        lambda document, tensors: document.update(codes=[1]),
        lambda document, tensors: document["geometry"].pop("d_ff"),
        lambda document, tensors: document["geometry"].update(n_layers=2),
        lambda document, tensors: document["geometry"].update(n_layers=10**6),
        lambda document, tensors: document["geometry"].update(d_ff=32),
        lambda document, tensors: document["geometry"].update(d_model=0),
        lambda document, tensors: document["geometry"].update(n_heads=5),
        lambda document, tensors: document["tokens"].pop("vocabulary"),
        lambda document, tensors: document["tokens"].update(vocabulary=["a"]),
        lambda document, tensors: document.update(model="a\n  verdict: derived"),
        lambda document, tensors: tensors.update({"codes/1.copies": np.array([4], np.int32)}),
        _without("codes/1.up"),
        _told(n_experts=-3),
        _told(tokens={"digest": "00", "used": -5}),
        _told(tokens={"digest": "00", "used": 10**40}),
        _told(layers=[0, 1]),
        _told(layers=[0, 1, 1, 2]),
        _told(layers=[0, 1, 2, "3"]),
        _told(plain_layers=[]),
        _told(n_experts=True),
        _told(tokens={"digest": 3, "used": 1}),
        _told(recipe={}),
        _told(recipe={**CodeRecipe().to_dict(), "bits": 250}),
        _told(recipe={**CodeRecipe().to_dict(), "bits": 1 << 40}),
        _told(recipe={**CodeRecipe().to_dict(), "ridge": "0.03"}),
        _told(recipe={**CodeRecipe().to_dict(), "side": 4096}),
    ],
)
def test_codes_that_contradict_their_format_are_refused(
    saved: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    """Each with a digest that is right, as a forger would write it."""
    with pytest.raises(CorruptFileError, match="not a readable fingerprint"):
        load_fingerprint(_rewritten(saved, change))


def test_a_flipped_bit_is_found(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-1000] ^= 1
    saved.write_bytes(data)
    with pytest.raises(CorruptFileError, match="not a readable fingerprint"):
        load_fingerprint(saved)


def _rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Path:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    document, tensors = json.loads(header["__metadata__"]["huref"]), load(data)
    change(document, tensors)
    document.pop("sha256", None)
    document["sha256"] = _digest(document, tensors)
    other = path.with_name(f"other{SUFFIX}")
    other.write_bytes(save(tensors, {"huref": canonical_json(document)}))
    return other


def test_mixtures_keep_their_number_of_experts(tmp_path: Path) -> None:
    codes = huref.fingerprint(save_llama(tmp_path / "m", state=llama_state(1)), RECIPE, codes=True).codes
    assert isinstance(codes, Codes)
    layer = replace(codes.layers[0], n_copies=4)
    made = huref.fingerprint(tmp_path / "m", RECIPE, codes=True)
    with_copies = replace(made, codes=replace(codes, layers={**codes.layers, 0: layer}, n_experts=4))
    save_fingerprint(with_copies, tmp_path / f"m{SUFFIX}")
    again = load_fingerprint(tmp_path / f"m{SUFFIX}").codes
    assert again is not None and again.layers[0].n_copies == 4 and again.n_experts == 4
