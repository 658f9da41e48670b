"""Packed weights: every layout against its definition, by rows, in bounds, and under hostile headers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from huref.files.safetensors_writer import write_safetensors
from huref.model.source import Checkpoint, open_checkpoint
from huref.model.source.packed.unpacking import unpacked
from kit.memory_checkpoint import MemoryCheckpoint
from kit.packers import LAYOUTS, Packed, bitsandbytes4, gptq, mxfp4, with_feedback


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, columns)) * columns**-0.5
    return values.astype(np.float32)


def in_memory(packed: Packed, base: str = "model.layers.0.mlp.up_proj") -> Checkpoint:
    named = {f"{base}{ending}": tensor for ending, tensor in packed.tensors.items()}
    return unpacked(MemoryCheckpoint(named, packed.config | {"hidden_size": packed.expected.shape[1]}))


NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_unpacks_to_what_was_packed(layout: str) -> None:
    packed = LAYOUTS[layout](weights(64, 128))
    checkpoint = in_memory(packed)
    assert list(checkpoint.tensors) == [NAME]
    assert checkpoint.tensors[NAME].shape == (64, 128)
    np.testing.assert_allclose(checkpoint.read(NAME), packed.expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 63), max_size=12), st.integers(0, 9))
def test_rows_are_rows_of_the_whole(layout: str, rows: list[int], seed: int) -> None:
    checkpoint = in_memory(LAYOUTS[layout](weights(64, 128, seed)))
    whole = checkpoint.read(NAME)
    wanted = np.array(rows, np.int64)
    for part in (wanted, slice(3, 40), slice(0, 64), slice(9, 9), slice(60, None, -7)):
        assert np.array_equal(checkpoint.read(NAME, part), whole[part])
        assert np.array_equal(checkpoint.read_table(NAME, part), whole[part])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_original_is_within_the_bounds(layout: str) -> None:
    original = weights(128, 256, 3)
    checkpoint = in_memory(LAYOUTS[layout](original))
    view = checkpoint.bounds([NAME])
    assert view is not None
    off, bounds = np.abs(checkpoint.read(NAME) - original), view.read(NAME)
    assert (off <= bounds).mean() > 0.995
    assert (off > bounds / 2).mean() > 0.05, "a bound that is far too wide"
    stranger = weights(128, 256, 4)
    assert (np.abs(checkpoint.read(NAME) - stranger) <= bounds).mean() < 0.9
    assert np.array_equal(view.read(NAME, np.array([5, 3])), bounds[[5, 3]])


GOLDEN = sorted((Path(__file__).parent / "golden_packed").glob("*.safetensors"))


def golden(path: Path, folder: Path) -> Checkpoint:
    """A golden file as a model's folder, with the configuration in its header."""
    with safe_open(path, "np") as file:
        config = json.loads(file.metadata()["config"])
    shutil.copy(path, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    return open_checkpoint(folder)


def test_error_feedback_moves_values_beyond_half_a_step() -> None:
    """Why GPTQ proper is no rounding (docs/decisions/2026-11-30-packed-weights.md)."""
    original = weights(256, 512)
    checkpoint = in_memory(gptq(original, group=64, rounded=with_feedback))
    view = checkpoint.bounds([NAME])
    assert view is not None
    off = np.abs(checkpoint.read(NAME) - original) / view.read(NAME)
    assert 0.86 < (off <= 1).mean() < 0.94
    assert 0.98 < (off <= 2).mean() < 1


def test_stacks_of_experts_are_turned() -> None:
    """gpt-oss: (experts, out, in / 32, 16) stands for (experts, in, out) in plain checkpoints."""
    parts = [mxfp4(weights(96, 64, seed)) for seed in range(3)]
    stored = {
        f"mlp.experts.gate_up_proj_{name}": np.stack([part.tensors[f".weight_{name}"] for part in parts])
        for name in ("blocks", "scales")
    }
    plain = np.stack([part.expected.T for part in parts])
    checkpoint = unpacked(MemoryCheckpoint(stored | {"mlp.experts.gate_up_proj_bias": np.ones((3, 96), np.float32)}))
    name = "mlp.experts.gate_up_proj"
    assert list(checkpoint.tensors) == [name, f"{name}_bias"]
    assert np.array_equal(checkpoint.read(name), plain)
    assert np.array_equal(checkpoint.read(name, np.array([2, 0])), plain[[2, 0]])
    rows = np.array([130, 3, 64, 4])
    assert np.array_equal(checkpoint.read_table(name, rows), plain.reshape(-1, 96)[rows])
    assert checkpoint.bounds([f"{name}_bias"]) is None


@pytest.mark.parametrize("width", [40, 65, 128])
def test_four_bits_of_bitsandbytes_go_on_from_row_to_row(width: int) -> None:
    """Blocks and bytes follow the flattened tensor, whatever its rows are."""
    packed = bitsandbytes4(weights(12, width))
    checkpoint = in_memory(packed)
    assert np.allclose(checkpoint.read(NAME), packed.expected, atol=1e-7)
    rows = np.array([11, 4, 4, 0])
    assert np.array_equal(checkpoint.read(NAME, rows), checkpoint.read(NAME)[rows])


def test_only_wanted_rows_of_an_embedding_are_read(tmp_path: Path) -> None:
    packed = LAYOUTS["mlx, 4 bits"](weights(400, 128))
    named = {f"model.embed_tokens{ending}": tensor for ending, tensor in packed.tensors.items()}
    write_safetensors(tmp_path / "model.safetensors", named)
    (tmp_path / "config.json").write_text(json.dumps(packed.config))
    with open_checkpoint(tmp_path) as checkpoint:
        before = checkpoint.bytes_read
        rows = np.array([7, 300, 8])
        assert np.allclose(checkpoint.read("model.embed_tokens.weight", rows), packed.expected[rows], atol=1e-7)
        assert checkpoint.bytes_read - before == 3 * (128 // 2 + 4 * 2 * 2)


_RELATIVE = {"ct-nvfp4": 2.0**-8}
"""The library computes in bfloat16."""
_IN_HALF = ("gptq", "awq", "hqq", "bnb-int8")
"""Libraries that compute in float16."""


def _absolute(stem: str, expected: np.ndarray) -> float:
    return float(np.abs(expected).max()) * 2.0**-10 if stem.startswith(_IN_HALF) else 1e-7


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_library_rounds_within_the_bounds(path: Path, tmp_path: Path) -> None:
    """What the layout's own quantiser made of a matrix, against that matrix."""
    with golden(path, tmp_path) as checkpoint:
        got = checkpoint.read("layer.weight")
        view = checkpoint.bounds(["layer.weight"])
        assert view is not None
        bounds = view.read("layer.weight")
    dice = torch.Generator().manual_seed(0)
    original = (torch.randn(*got.shape, generator=dice) * got.shape[1] ** -0.5).numpy()  # `matrix` of make.py
    assert (np.abs(got - original) <= bounds + np.abs(original) * 2.0**-11).mean() >= 0.99


PICKLED = sorted((Path(__file__).parent / "golden_packed").glob("*.bin"))


@pytest.mark.parametrize("path", PICKLED, ids=lambda path: path.stem)
def test_reads_subclasses_in_pickles(path: Path) -> None:
    """State dictionaries that torch.save wrote, with torchao's subclasses in them."""
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["layer.weight", "expected"]
        np.testing.assert_allclose(checkpoint.read("layer.weight"), checkpoint.read("expected"), rtol=1e-6)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_agrees_with_the_library(path: Path, tmp_path: Path) -> None:
    """Files written by the layout's own library, and what it unpacks them to (`golden_packed/make.py`)."""
    with golden(path, tmp_path) as checkpoint:
        expected = checkpoint.read("expected")
        got = checkpoint.read("layer.weight")
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            got, expected, rtol=_RELATIVE.get(path.stem, 2e-6), atol=_absolute(path.stem, expected)
        )
        assert not [name for name in checkpoint.tensors if name not in ("expected", "layer.weight")]
