"""Every GGUF architecture that is described: a tiny file as converters write it opens, with canonical shapes."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest

from huref.errors import ArchitectureError, HurefError, MissingTensorError
from huref.model.arch import CanonicalWeights, families, open_weights
from huref.model.arch.families import known_families
from huref.model.source import open_checkpoint
from kit.gguf_cases import CASES
from kit.gguf_export import ARCHITECTURES
from kit.gguf_tiny import Case
from kit.memory_checkpoint import MemoryCheckpoint


def _id(case: Case) -> str:
    return f"{case.file.arch}-{case.family}-{CASES.index(case)}"


def _memory(case: Case, tensors: dict[str, np.ndarray]) -> MemoryCheckpoint:
    listed = {f"{case.file.arch}.{key}": value for key, value in case.file.metadata().items()}
    return MemoryCheckpoint(tensors, {}, "gguf", {"general.architecture": case.file.arch, **listed})


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_it_opens_with_canonical_shapes(case: Case, tmp_path: Path) -> None:
    stored, w = case.file.tensors(), case.file.widths
    with open_checkpoint(case.file.write(tmp_path / "model.gguf")) as checkpoint:
        weights = open_weights(checkpoint)
        assert weights.architecture.name == case.family
        assert weights.architecture.gated == case.gated
        assert {key: getattr(weights.architecture, key) for key in case.facts} == case.facts
        assert weights.geometry.n_layers == len(case.neurons)
        for layer, neurons in enumerate(case.neurons):
            of_layer = case.file.of_layer.get(layer, {})
            assert weights.has(layer, "o") == (layer not in case.silent)
            if layer not in case.silent:
                _check_attention(case, weights, stored, layer, {**vars(w), **of_layer})
            assert weights.n_neurons(layer) == neurons
            if neurons:
                ff = weights.feed_forward(layer)
                assert ff.up.shape == (neurons, w.d) and ff.down.shape == (w.d, neurons)
                assert (ff.gate is not None) == case.gated
                assert ff.gate is None or ff.gate.shape == ff.up.shape


def _check_attention(
    case: Case, weights: CanonicalWeights, stored: dict[str, np.ndarray], layer: int, w: dict[str, int]
) -> None:
    a = weights.attention(layer)
    assert a.Wq.shape == (w["h"], w["e"], w["d"])
    assert a.Wk.shape == (w["g"], w["e"], w["d"])
    assert a.Wv.shape == (w["g"], w["u"], w["d"])
    assert a.Wo.shape == (w["h"], w["d"], w["u"])
    for role, heads in (("q", w["h"]), ("k", w["g"])):
        name = f"blk.{layer}.attn_{role}.weight"
        if name in stored and len(stored[name]) == heads * w["e"] and weights.has(layer, role):
            expected = stored[name]
            if case.permuted:  # rows 0 2 4 ... of a head, then 1 3 5 ...
                by_pair = expected.reshape(heads, w["e"] // 2, 2, w["d"])
                expected = by_pair.transpose(0, 2, 1, 3).reshape(expected.shape)
            assert np.array_equal(weights.read(f"layers.{layer}.{role}"), expected)


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_a_tensor_that_no_line_claims_is_refused(case: Case) -> None:
    odd = {**case.file.tensors(), "blk.0.attn_secret.weight": np.ones((2, 2), np.float32)}
    with pytest.raises(MissingTensorError, match="no place"):
        open_weights(_memory(case, odd))


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_a_missing_matrix_is_refused(case: Case) -> None:
    tensors = case.file.tensors()
    layer = next(layer for layer, neurons in enumerate(case.neurons) if neurons)
    down = next(name for name in tensors if f"blk.{layer}.ffn_down" in name and "chexps" not in name)
    without = {name: tensor for name, tensor in tensors.items() if name != down}
    with pytest.raises(HurefError):
        open_weights(_memory(case, without))


def test_the_two_factors_of_latent_keys_and_values_are_one() -> None:
    case = next(case for case in CASES if case.file.arch == "deepseek2")
    tensors, w = case.file.tensors(), case.file.widths
    apart = open_weights(_memory(case, tensors))
    keys, values = tensors.pop("blk.1.attn_k_b.weight"), tensors.pop("blk.1.attn_v_b.weight")
    whole = np.stack([np.concatenate([keys[head].T, values[head]]) for head in range(w.h)])
    del tensors["blk.0.attn_k_b.weight"], tensors["blk.0.attn_v_b.weight"]
    rest = np.zeros_like(whole)
    tensors |= {f"blk.{i}.attn_kv_b.weight": part.reshape(-1, w.r) for i, part in ((0, rest), (1, whole))}
    as_one = open_weights(_memory(case, tensors))
    assert np.array_equal(apart.read("layers.1.kv_b"), as_one.read("layers.1.kv_b"))
    for name, tensor in vars(apart.attention(1)).items():
        assert tensor is None or np.array_equal(tensor, vars(as_one.attention(1))[name]), name


def test_gates_and_ups_of_experts_in_one_tensor_are_the_same() -> None:
    case = next(case for case in CASES if case.file.arch == "deepseek")
    tensors = case.file.tensors()
    apart = open_weights(_memory(case, tensors))
    gate, up = (tensors.pop(f"blk.1.ffn_{part}_exps.weight") for part in ("gate", "up"))
    fused = open_weights(
        _memory(case, tensors | {"blk.1.ffn_gate_up_exps.weight": np.concatenate([gate, up], axis=1)})
    )
    for role in ("gate", "up", "down"):
        assert np.array_equal(apart.read(f"layers.1.{role}"), fused.read(f"layers.1.{role}"))


def test_numbers_of_heads_that_differ_by_layer_are_refused() -> None:
    case = next(case for case in CASES if case.file.arch == "deci")
    checkpoint = _memory(case, case.file.tensors())
    checkpoint.metadata["deci.attention.head_count"] = np.array([4, 0, 2])
    with pytest.raises(ArchitectureError, match="n_heads"):
        open_weights(checkpoint)


@pytest.mark.parametrize("listed", [["four"], [None, 4], [[4], [4, 4]], [True], [float("nan")], [0, 0], []])
def test_hostile_lists_of_sizes_are_refused(listed: list[object]) -> None:
    case = next(case for case in CASES if case.file.arch == "eurobert")
    checkpoint = _memory(case, case.file.tensors())
    checkpoint.metadata["eurobert.attention.head_count"] = listed
    with pytest.raises(ArchitectureError):
        open_weights(checkpoint)


REFUSED = [
    "clip",
    "wavtokenizer-dec",
    "mamba",
    "mamba2",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "arwkv7",
    "gptj",
    "neo-bert",
    "openelm",
    "step35",
]


@pytest.mark.parametrize("arch", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(arch: str) -> None:
    checkpoint = MemoryCheckpoint({"x": np.ones((2, 2), np.float32)}, {}, "gguf", {"general.architecture": arch})
    with pytest.raises(ArchitectureError, match="is known and cannot be read") as caught:
        open_weights(checkpoint)
    assert "unknown" not in str(caught.value)


def test_every_architecture_of_the_package_is_described_or_refused_with_a_reason() -> None:
    claimed = {name for family in known_families() for name in family.gguf_names}
    listed = set(gguf.MODEL_ARCH_NAMES.values()) - {"mmproj"}
    assert listed - claimed == set(REFUSED) & listed
    tried = {case.file.arch for case in CASES} | {
        gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH[a]] for a in ARCHITECTURES.values()
    }
    assert tried == claimed & listed
    assert all(family.gguf for family in known_families() if family.gguf_names)


def test_reading_one_family_leaves_the_traits_of_others_alone() -> None:
    for first in ("nanochat", "starcoder2"):  # both say `ungated`; one of them has no names in GGUF
        families.family_named.cache_clear()
        families._known.cache_clear()
        families._traits.cache_clear()
        families.family_named(first)
        gguf_names = families.family_named("starcoder2").gguf
        assert gguf_names and "gate" not in gguf_names.tensors


def test_the_page_of_architectures_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/gguf.md").read_text()
    read, refused = page.split("## What is refused")
    claimed = {name for family in known_families() for name in family.gguf_names} & set(
        gguf.MODEL_ARCH_NAMES.values()
    )
    assert set(re.findall(r"`([\w-]+)`", read.split("## What is left out")[0])) >= claimed
    assert {name for name in REFUSED if f"`{name}`" in refused} == set(REFUSED)
    assert f"{len(claimed)} are described" in page
