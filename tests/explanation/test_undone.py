"""The undone model: it computes what the rearranged one computes, and its weights are the original's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import huref
from huref.attacks import KINDS
from huref.errors import InconclusiveError, InputError, OutputError, UsageError
from huref.explanation import explain, load_evidence, save_undone
from huref.explanation.writing import RECORD
from huref.forward.decoder import Decoder
from huref.forward.passes import logits
from huref.forward.rewriting import logit_error, prompt
from huref.kinship.recovery.places import completed
from huref.kinship.recovery.recovering import Recovered, recover
from huref.kinship.recovery.undoing import Undone, undo
from huref.model.model import Model
from kit.command_line import Outcome
from kit.explanations import VOCABULARY, attacked, family, opened, relayered, saved, trained_further, upcycled

MOVABLE = np.arange(VOCABULARY - 6)
FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma3",
    "gpt2",
    "gpt-neox",
    "opt",
    "opt-350m",
    "mixtral",
    "qwen2-moe",
    "olmo2",
)
FAMILIES += ("starcoder", "bloom", "phi3", "llama-bias-tied", "cohere", "cohere2", "stablelm", "glm")


def undone(a: Model, b: Model, decoder: Decoder) -> tuple[Undone, Decoder]:
    """B undone, and as a decoder whose settings are still those of the unwritten B."""
    found = recover(a, b)
    assert isinstance(found, Recovered), found
    result = undo(decoder.tensors, b, a, found, movable=MOVABLE, activation=decoder.settings.activation)
    back = replace(
        decoder,
        tensors=result.tensors,
        geometry=replace(decoder.geometry, n_layers=len(result.origins)),
        settings=replace(decoder.settings, eps=decoder.settings.eps / result.scale**2),
        layer_origins=tuple(decoder.layer_origins[layer] for layer in result.origins),
    )
    return result, back


def function_error(decoder: Decoder, result: Undone, back: Decoder) -> float:
    """Of the logits, tokens numbered as in B."""
    ids = prompt(decoder)
    order = np.arange(VOCABULARY) if result.token_order is None else result.token_order
    new = np.argsort(order)
    return logit_error(logits(decoder, ids), logits(back, new[ids])[..., new])


def farthest(back: Decoder, original: Decoder) -> float:
    """Largest difference of a weight, of its tensor's largest."""
    assert set(back.tensors) == set(original.tensors)
    errors = [np.abs(back.tensors[n] - t).max() / np.abs(t).max() for n, t in original.tensors.items()]
    return float(max(errors))


@pytest.mark.parametrize("name", FAMILIES)
def test_everything_at_once_comes_off_the_weights_of_every_family(name: str) -> None:
    decoder = attacked(name, "all")
    result, back = undone(opened(name), opened(name, decoder, "b"), decoder)
    assert result.left == ()
    assert function_error(decoder, result, back) < 1e-6
    assert farthest(back, family(name)[1]) < 2e-6
    assert back.settings.eps == pytest.approx(family(name)[1].settings.eps, rel=1e-6)


ALONE = [
    (name, kind)
    for name in ("llama", "gpt2", "qwen3", "qwen2-moe", "cohere", "gemma3")
    for kind, entry in KINDS.items()
    if not entry.obstacle(family(name)[1])
]


@pytest.mark.parametrize(("name", "kind"), ALONE)
def test_every_attack_alone_comes_off_the_weights(name: str, kind: str) -> None:
    decoder = attacked(name, kind)
    result, back = undone(opened(name), opened(name, decoder, "b"), decoder)
    assert result.left == () and function_error(decoder, result, back) < 1e-7
    assert farthest(back, family(name)[1]) < 1e-6
    if kind in ("permute_neurons", "permute_heads", "permute_residual", "permute_vocabulary", "insert_layers"):
        assert farthest(back, family(name)[1]) == 0  # an order comes back to the last bit


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(["llama", "gpt2", "mixtral"]), st.floats(0.01, 0.4))
def test_training_stays_in_what_is_undone(seed: int, name: str, strength: float) -> None:
    """A fine-tune that was rearranged comes out with its own function, and nearer to itself than to its base."""
    tuned = trained_further(family(name)[1], strength, seed)
    decoder = attacked(name, "all", seed, tuned)
    result, back = undone(opened(name), opened(name, decoder, "b"), decoder)
    assert function_error(decoder, result, back) < 1e-6
    names = [n for n, t in tuned.tensors.items() if t.ndim > 1]
    off = sum(float(np.square(back.tensors[n] - tuned.tensors[n]).sum()) for n in names)
    trained = sum(float(np.square(family(name)[1].tensors[n] - tuned.tensors[n]).sum()) for n in names)
    assert off < 0.5 * trained


@given(st.lists(st.integers(-1, 11), min_size=1, max_size=12), st.integers(1, 12))
def test_places_are_completed_to_an_order(partners: list[int], n_places: int) -> None:
    order = completed(np.array(partners), n_places)
    assert sorted(order.tolist()) == list(range(len(partners)))
    if n_places == len(partners):
        for part, place in enumerate(partners):
            if place >= 0 and place < n_places and partners.count(place) == 1:
                assert order[place] == part


def transformers_logits(folder: Path, ids: np.ndarray) -> np.ndarray:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, experts_implementation="eager"
    ).eval()
    with torch.no_grad():
        found: np.ndarray = model(torch.from_numpy(ids)).logits.numpy()
    return found


def numbers(folder: Path) -> dict[str, int]:
    """Token -> number, by the tokenizers library."""
    from tokenizers import Tokenizer

    found: dict[str, int] = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    return found


@pytest.mark.parametrize(
    "kinds", ["all", "rotate_residual+permute_vocabulary", "permute_neurons+vo_map+split_layers"]
)
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mixtral"])
def test_transformers_finds_the_function_kept_and_compare_the_weights_back(
    name: str, kinds: str, tmp_path: Path
) -> None:
    base = saved(tmp_path / "base", name)
    huref.attack(base, tmp_path / "suspect", kinds=kinds)
    found = explain(base, tmp_path / "suspect", write_undone=tmp_path / "undone")
    assert found.undone is not None and found.undone.left == () and found.undone.error < 1e-5
    before, after = numbers(tmp_path / "suspect"), numbers(tmp_path / "undone")
    tokens = sorted(before)
    old, new = (np.array([each[token] for token in tokens]) for each in (before, after))
    ids = np.random.default_rng(0).integers(0, len(tokens), (2, 20))
    expected = transformers_logits(tmp_path / "suspect", old[ids])[..., old]
    got = transformers_logits(tmp_path / "undone", new[ids])[..., new]
    assert np.abs(got - expected).max() < 1e-4 * np.ptp(expected)
    assert numbers(base) == after
    compared = huref.compare(tmp_path / "undone", base)
    assert compared.pcs == pytest.approx(1.0, abs=1e-6)
    assert compared.verdict in ("identical", "requantised", "derived")


@pytest.mark.parametrize(
    "kinds", ["permute_neurons+permute_heads+permute_residual+permute_vocabulary", "insert_layers"]
)
def test_an_order_comes_back_identical(kinds: str, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", "llama")
    huref.attack(base, tmp_path / "suspect", kinds=kinds)
    explain(base, tmp_path / "suspect", write_undone=tmp_path / "undone")
    assert huref.compare(tmp_path / "undone", base).verdict == "identical"


def test_the_story_and_the_document_say_what_was_written(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    base = saved(tmp_path / "base", "llama")
    suspect = saved(tmp_path / "suspect", "llama", attacked("llama", "all"))
    told = cli("explain", base, suspect, "--write-undone", tmp_path / "undone")
    assert told.code == 0 and f"{tmp_path / 'undone'}: suspect with the transform undone" in told.out
    again = cli("explain", base, suspect, "--write-undone", tmp_path / "undone", "--json").document["undone"]
    assert again["out"] == str(tmp_path / "undone") and again["n_layers"] == [3, 2] and again["not_undone"] == []
    assert 0 <= again["logits_error"] <= again["tolerance"]
    record = json.loads((tmp_path / "undone" / RECORD).read_text())
    assert record == {key: value for key, value in again.items() if key != "out"}
    assert cli("explain", base, suspect, "--json").document["undone"] is None


def test_saved_evidence_is_undone_as_well(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", "gpt2")
    suspect = saved(tmp_path / "suspect", "gpt2", attacked("gpt2", "all"))
    explain(base, suspect, out=tmp_path / "x.evidence.safetensors")
    found = load_evidence(tmp_path / "x.evidence.safetensors")
    assert save_undone(found, base, suspect, tmp_path / "undone").error < 1e-5
    with pytest.raises(InputError, match="about other models"):
        save_undone(found, suspect, base, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_map_that_is_wrong_in_the_evidence_keeps_the_function(tmp_path: Path) -> None:
    """Whoever bends evidence does not get another function out: only another order and other scales."""
    base = saved(tmp_path / "base", "llama")
    suspect = saved(tmp_path / "suspect", "llama", attacked("llama", "rotate_residual+permute_neurons+qk_map"))
    found = explain(base, suspect)
    layer = found.layers[0]
    bent = replace(layer, neurons=np.roll(layer.neurons, 1), qk=None if layer.qk is None else layer.qk[::-1] * 2)
    written = save_undone(replace(found, layers=(bent, *found.layers[1:])), base, suspect, tmp_path / "undone")
    assert written.error < 1e-5
    assert huref.compare(tmp_path / "undone", base).pcs < 0.95


def test_what_cannot_be_undone_is_said(tmp_path: Path) -> None:
    """Layers that are missing, or doubled, stay so; the rest comes off."""
    a = opened("llama")
    b = relayered("llama", [0, 1, 1])
    from huref.forward.decoder import load_decoder

    decoder = load_decoder(b.weights)
    result, back = undone(a, b, decoder)
    assert any("layers stand as they stood: 0, 1, 1 of A's" in what for what in result.left)
    assert len(result.origins) == 3 and function_error(decoder, result, back) < 1e-9
    dense, sparse = upcycled()
    mixture = load_decoder(sparse.weights)
    mixture = replace(mixture, settings=replace(mixture.settings, experts_per_token=2))
    result, back = undone(dense, sparse, mixture)
    assert function_error(mixture, result, back) < 1e-9
    for expert in range(3):  # every expert stands in the order of the dense block
        mine = back.tensors["layers.0.up"][expert * 48 : (expert + 1) * 48]
        assert np.allclose(mine, load_decoder(dense.weights).tensors["layers.0.up"], atol=1e-6)


def test_refusals(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    base = saved(tmp_path / "base", "llama")
    suspect = saved(tmp_path / "suspect", "llama", attacked("llama", "rotate_residual"))
    stranger = saved(tmp_path / "stranger", "llama", family("llama", 1)[1])
    with pytest.raises(UsageError, match="some layers"):
        explain(base, suspect, layers="0", write_undone=tmp_path / "undone")
    (tmp_path / "taken").mkdir()
    for place in (tmp_path / "taken", base, suspect):
        with pytest.raises(OutputError, match="in the way"):
            explain(base, suspect, write_undone=place)
    with pytest.raises(InconclusiveError):
        explain(base, stranger, write_undone=tmp_path / "undone")
    assert not (tmp_path / "undone").exists()
    assert cli("explain", base, suspect, "--layers", "0", "--write-undone", tmp_path / "undone").code == 2
    assert cli("explain", base, suspect, "--check", tmp_path / "x", "--write-undone", tmp_path / "undone").code == 2


def test_streams_of_two_widths_are_refused_before_the_work(tmp_path: Path) -> None:
    from kit.tiny_llama import TinyLlama

    places: list[Any] = []
    for width in (64, 96):
        places.append(TinyLlama(width=width).save(tmp_path / str(width)))
    with pytest.raises(InputError, match="other widths"):
        explain(*places, write_undone=tmp_path / "undone")
