"""Adapters on a base, against weights merged here by the formulas of the papers; PEFT takes no part."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import huref
from huref.errors import CorruptFileError, HurefError, InputError, UsageError
from huref.model.source import open_checkpoint
from huref.model.source.adapting import put_on_base, put_on_own
from kit.hostile_files import assert_complete
from kit.tiny_llama import TinyLlama

BASE = TinyLlama(seed=1)
STATE = BASE.tensors()
Q, DOWN = "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.down_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "base_model_name_or_path": "org/base"}


def factors(module: str, rank: int = 4, seed: int = 0, *, is_turned: bool = False) -> dict[str, torch.Tensor]:
    dice = torch.Generator().manual_seed(seed)
    shape = STATE[f"{module}.weight"].shape
    n_out, n_in = shape[::-1] if is_turned else shape
    a, b = torch.randn(rank, n_in, generator=dice), torch.randn(n_out, rank, generator=dice)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], kind: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    if kind == "bin":
        torch.save(named, folder / "adapter_model.bin")
    else:
        save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def assert_reads(reference: str, name: str, expected: np.ndarray) -> None:
    rows = np.array([3, 0, 3, len(expected) - 1])
    with open_checkpoint(reference) as checkpoint:
        assert checkpoint.tensors[name].shape == expected.shape
        assert np.allclose(checkpoint.read(name), expected, atol=1e-5, rtol=1e-5)
        assert np.allclose(checkpoint.read(name, rows), expected[rows], atol=1e-5, rtol=1e-5)
        assert np.allclose(checkpoint.read_table(name, rows), expected[rows], atol=1e-5, rtol=1e-5)
        assert np.array_equal(checkpoint.read("model.norm.weight"), STATE["model.norm.weight"].numpy())


def refused(reference: str, kind: type[HurefError] = InputError) -> str:
    with pytest.raises(kind) as caught, open_checkpoint(reference):
        pass
    assert_complete(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "base"
    BASE.save(folder)
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("is_rs", [False, True])
def test_lora_and_rslora(base: Path, tmp_path: Path, kind: str, rank: int, is_rs: bool) -> None:
    tensors = factors(Q, rank) | factors(DOWN, rank, 1)
    write_adapter(tmp_path / "lora", tensors, CONFIG | {"use_rslora": is_rs, "alpha_pattern": {"down_proj": 9}}, kind)
    for module, alpha in ((Q, 6), (DOWN, 9)):
        a, b = (tensors[f"{module}.lora_{side}.weight"].double().numpy() for side in "AB")
        scale = alpha / (math.sqrt(rank) if is_rs else rank)
        expected = STATE[f"{module}.weight"].double().numpy() + scale * b @ a
        assert_reads(f"{tmp_path / 'lora'}::{base}", f"{module}.weight", expected)


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("is_dora", [False, True])
def test_dora_and_matrices_stored_in_out(base: Path, tmp_path: Path, is_turned: bool, is_dora: bool) -> None:
    tensors = factors(DOWN, is_turned=is_turned)
    a, b = (tensors[f"{DOWN}.lora_{side}.weight"].double().numpy() for side in "AB")
    weight = STATE[f"{DOWN}.weight"].double().numpy()
    whole = (weight.T if is_turned else weight) + 1.5 * b @ a  # (out, in)
    if is_dora:
        lengths = np.linspace(1, 2, len(whole))
        tensors[f"{DOWN}.lora_magnitude_vector.weight"] = torch.from_numpy(lengths).float()
        whole = whole * (lengths / np.linalg.norm(whole, axis=1))[:, None]
    write_adapter(tmp_path, tensors, CONFIG | {"fan_in_fan_out": is_turned})
    assert_reads(f"{tmp_path}::{base}", f"{DOWN}.weight", whole.T if is_turned else whole)


def test_embeddings_and_whole_tensors(base: Path, tmp_path: Path) -> None:
    a, b = torch.randn(4, 400), torch.randn(32, 4)
    named = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    head = torch.randn(400, 32)
    write_adapter(tmp_path, named | {"lm_head.weight": head}, CONFIG)
    expected = STATE["model.embed_tokens.weight"].numpy() + 1.5 * (b @ a).T.numpy()
    assert_reads(f"{tmp_path}::{base}", "model.embed_tokens.weight", expected)
    assert_reads(f"{tmp_path}::{base}", "lm_head.weight", head.numpy())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(0, 31), min_size=1, max_size=9))
def test_some_rows_are_the_rows_of_the_whole(rank: int, rows: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        BASE.save(Path(place, "base"))
        write_adapter(Path(place, "lora"), factors(Q, rank), CONFIG)
        with open_checkpoint(f"{place}/lora::{place}/base") as checkpoint:
            before = checkpoint.bytes_read
            some = checkpoint.read(f"{Q}.weight", np.array(rows))
            assert checkpoint.bytes_read - before == 4 * (len(set(rows)) * (32 + rank) + rank * 32)
            assert np.allclose(some, checkpoint.read(f"{Q}.weight")[rows], atol=1e-6)


def test_the_verdict_against_merged_weights(base: Path, tmp_path: Path) -> None:
    tensors = factors(Q) | factors(DOWN, seed=1)
    write_adapter(tmp_path / "lora", tensors, CONFIG)
    with open_checkpoint(f"{tmp_path / 'lora'}::{base}") as checkpoint:
        merged = {name: torch.from_numpy(checkpoint.read(name)) for name in checkpoint.tensors}
    for module in (Q, DOWN):  # by the formula, rounded as the reader rounds
        a, b = (tensors[f"{module}.lora_{side}.weight"].numpy() for side in "AB")
        assert np.allclose(merged[f"{module}.weight"], STATE[f"{module}.weight"].numpy() + np.float32(1.5) * (b @ a))
    BASE.save(tmp_path / "merged")
    save_file(merged, tmp_path / "merged" / "model.safetensors")
    found = huref.compare(f"{tmp_path / 'lora'}::{base}", tmp_path / "merged")
    assert found.verdict == "identical"
    assert any("an adapter is applied: it changes 2 tensors" in note for note in found.notes)
    assert huref.compare(f"{tmp_path / 'lora'}::{base}", base).verdict != "identical"


def test_a_model_saved_unmerged(base: Path, tmp_path: Path) -> None:
    tensors = factors(Q)
    state = {f"base_model.model.{name}": tensor for name, tensor in STATE.items()}
    weight = state.pop(f"base_model.model.{Q}.weight")
    state[f"base_model.model.{Q}.base_layer.weight"] = weight
    state[f"base_model.model.{Q}.lora_A.default.weight"] = tensors[f"{Q}.lora_A.weight"]
    state[f"base_model.model.{Q}.lora_B.default.weight"] = tensors[f"{Q}.lora_B.weight"]
    head = state.pop("base_model.model.lm_head.weight")
    state["base_model.model.lm_head.original_module.weight"] = head
    state["base_model.model.lm_head.modules_to_save.default.weight"] = head + 1
    BASE.save(tmp_path / "raw")
    tmp_path = tmp_path / "raw"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    assert "lora_alpha" in refused(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    a, b = (tensors[f"{Q}.lora_{side}.weight"].numpy() for side in "AB")
    with open_checkpoint(tmp_path) as checkpoint:
        assert np.allclose(checkpoint.read(f"base_model.model.{Q}.weight"), weight.numpy() + 1.5 * b @ a, atol=1e-5)
        assert np.array_equal(checkpoint.read("base_model.model.lm_head.weight"), head.numpy() + 1)
        assert not any("lora" in name or "base_layer" in name for name in checkpoint.tensors)
    assert huref.compare(tmp_path, base).verdict == "derived"


def test_gguf_adapter_on_a_gguf_base(tmp_path: Path) -> None:
    weight, a, b = (np.random.default_rng(1).standard_normal(s, np.float32) for s in ((16, 32), (2, 32), (16, 2)))
    for name, kind, tensors in (
        ("base.gguf", "model", {"blk.0.attn_q.weight": weight}),
        ("lora.gguf", "adapter", {"blk.0.attn_q.weight.lora_a": a, "blk.0.attn_q.weight.lora_b": b}),
    ):
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        writer.add_type(kind)
        if kind == "adapter":
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", 5.0)
        for tensor, values in tensors.items():
            writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    assert "an adapter, and no model" in refused(str(tmp_path / "lora.gguf"))
    (put,) = put_on_base([tmp_path / "lora.gguf"], str(tmp_path / "base.gguf"))
    with open_checkpoint(put) as checkpoint:
        assert np.allclose(checkpoint.read("blk.0.attn_q.weight"), weight + 2.5 * b @ a, atol=1e-5)


def test_an_adapter_alone_and_one_beside_a_model(base: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "lora", factors(Q), CONFIG)
    for reference in (tmp_path / "lora", tmp_path / "lora" / "adapter_model.safetensors"):
        said = refused(str(reference))
        assert "org/base" in said and "--base" in said
    assert put_on_base([tmp_path / "lora", base], str(base)) == [f"{tmp_path / 'lora'}::{base}", str(base)]
    with pytest.raises(UsageError):
        put_on_base([base], str(base))
    with pytest.raises(UsageError):
        put_on_own([base, tmp_path / "lora"])
    BASE.save(tmp_path / "both")
    write_adapter(tmp_path / "both", factors(Q), CONFIG)
    with open_checkpoint(tmp_path / "both") as plain, open_checkpoint(put_on_own([tmp_path / "both"])[0]) as applied:
        assert any("not applied; --adapter applies it" in note for note in plain.notes)
        assert np.array_equal(plain.read(f"{Q}.weight"), STATE[f"{Q}.weight"].numpy())
        assert not np.allclose(applied.read(f"{Q}.weight"), STATE[f"{Q}.weight"].numpy())


@pytest.mark.parametrize(
    ("tensors", "config", "said"),
    [
        ({}, {"peft_type": "IA3"}, "peft_type"),
        ({}, {"init_lora_weights": "pissa_niter_4"}, "changes the base too"),
        ({}, {"lora_alpha": "big"}, "alpha"),
        ({}, {"lora_alpha": float("nan")}, "alpha"),
        ({}, {"lora_alpha": True}, "alpha"),
        ({"model.x.lora_A.weight": torch.ones(4, 32)}, {}, "no use for"),
        ({"model.x.lora_C.weight": torch.ones(4, 32)}, {}, "no use for"),
        ({f"{Q}.lora_A.other.weight": torch.ones(4, 32)}, {}, "several adapters"),
        ({f"{DOWN}.lora_A.weight": torch.ones(4, 9), f"{DOWN}.lora_B.weight": torch.ones(9, 4)}, {}, "does not fit"),
        ({f"{DOWN}.lora_A.weight": torch.ones(4, 9), f"{DOWN}.lora_B.weight": torch.ones(9, 3)}, {}, "fit together"),
        (
            {f"{DOWN}.lora_A.weight": torch.ones(0, 64), f"{DOWN}.lora_B.weight": torch.ones(32, 0)},
            {},
            "fit together",
        ),
        ({f"{Q}.lora_magnitude_vector": torch.ones(7)}, {}, "does not fit"),
        ({"nowhere.lora_A.weight": torch.ones(4, 9), "nowhere.lora_B.weight": torch.ones(9, 4)}, {}, "does not have"),
        ({"lm_head.weight": torch.ones(400, 7)}, {}, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(
    base: Path, tmp_path: Path, tensors: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    write_adapter(tmp_path, factors(Q) | tensors, CONFIG | config)
    assert said in refused(f"{tmp_path}::{base}", CorruptFileError if said == "does not fit" else InputError)
