"""Packed weights that lie: parts that are missing, of other shapes and types, settings that make no sense."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import CorruptFileError, HurefError, InputError, MissingTensorError
from huref.files.safetensors_writer import write_safetensors
from huref.model.source import open_checkpoint
from huref.model.source.packed.unpacking import schemes, unpacked
from kit.hostile_files import assert_complete
from kit.memory_checkpoint import MemoryCheckpoint
from kit.packers import LAYOUTS, Packed, bitsandbytes4, gptq, hqq, mlx, pack_quantized

NAME = "m.layers.0.up_proj"
ODD = [-(2**40), -1, 0, 1, 3, 7, 2**20, 2**62, 2.5, "4", None, True, [], {"a": 1}]


def weights() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((64, 128)) * 0.1).astype(np.float32)


def named(packed: Packed) -> dict[str, np.ndarray]:
    return {f"{NAME}{ending}": tensor for ending, tensor in packed.tensors.items()}


PACKED = {name: pack(weights()) for name, pack in LAYOUTS.items()}


def broken(tensor: np.ndarray, data: st.DataObject) -> np.ndarray | None:
    """The tensor without some of itself, in another shape or type, or with other contents; None to leave it out."""
    flat = tensor.reshape(-1)
    how = data.draw(st.sampled_from(["out", "short", "long", "flat", "turned", "empty", "type", "bytes", "nothing"]))
    if how == "out":
        return None
    if how in ("short", "long"):
        n = data.draw(st.integers(1, 3))
        return tensor[:-n] if how == "short" and tensor.ndim else np.concatenate([flat, flat[:n]])
    if how == "type":
        kinds = [np.int8, np.uint8, np.int32, np.int64, np.uint32, np.float16, np.float32]
        with np.errstate(all="ignore"):
            return tensor.astype(np.float32).astype(data.draw(st.sampled_from(kinds)))
    if how == "bytes":
        dice = np.random.default_rng(data.draw(st.integers(0, 99)))
        return dice.integers(0, 256, tensor.nbytes, np.uint8).view(tensor.dtype).reshape(tensor.shape)
    shapes: dict[str, Any] = {"flat": (-1,), "turned": tensor.shape[::-1], "nothing": tensor.shape}
    return tensor[:0] if how == "empty" and tensor.ndim else tensor.reshape(shapes.get(how, (1, -1)))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_broken_parts_give_an_error_or_sound_tensors(layout: str, data: st.DataObject) -> None:
    tensors, config = named(PACKED[layout]), copy.deepcopy(PACKED[layout].config)
    for name in data.draw(st.lists(st.sampled_from(sorted(tensors)), max_size=2, unique=True)):
        if (other := broken(tensors[name], data)) is None:
            del tensors[name]
        else:
            tensors[name] = other
    section = next(iter(config.values()))
    for key in data.draw(
        st.lists(st.sampled_from(["bits", "group_size", "weight_block_size", "version"]), max_size=1)
    ):
        section[key] = data.draw(st.sampled_from(ODD))
    stored = sum(tensor.nbytes for tensor in tensors.values())
    try:
        checkpoint = unpacked(MemoryCheckpoint(tensors, config | {"hidden_size": 128}))
        for name, info in checkpoint.tensors.items():
            assert np.prod(info.shape) <= 64 * max(stored, 1), "more weights than any format packs into so few bytes"
            whole = checkpoint.read(name)
            assert whole.shape == info.shape
            if info.shape and info.shape[0]:
                assert checkpoint.read(name, np.array([info.shape[0] - 1, 0])).shape == (2, *info.shape[1:])
            view = checkpoint.bounds([name])
            if view is not None:
                assert view.read(name).shape == info.shape
    except HurefError as error:
        assert error.exit_code == 4
        assert_complete(error)


def refused(packed: Packed, change: dict[str, np.ndarray | None], config: dict[str, Any] | None = None) -> HurefError:
    """The error for a layout with some of its tensors changed or left out."""
    tensors = {name: tensor for name, tensor in named(packed).items() if name.removeprefix(NAME) not in change}
    tensors |= {f"{NAME}{ending}": tensor for ending, tensor in change.items() if tensor is not None}
    with pytest.raises(HurefError) as caught:
        checkpoint = unpacked(MemoryCheckpoint(tensors, packed.config if config is None else config))
        for name in checkpoint.tensors:
            checkpoint.read(name)
    assert_complete(caught.value)
    return caught.value


def test_a_group_that_is_not_there_is_refused() -> None:
    found = gptq(weights())
    error = refused(found, {".g_idx": found.tensors[".g_idx"] + 1})
    assert isinstance(error, CorruptFileError)
    assert "g_idx" in error.where
    assert error.got == "from 1 to 4"


def test_a_lying_group_size_is_refused() -> None:
    found = gptq(weights())
    error = refused(found, {".g_idx": None}, {"quantization_config": {"quant_method": "gptq", "group_size": 48}})
    assert isinstance(error, CorruptFileError)
    assert "48" in error.expected
    assert isinstance(refused(mlx(weights()), {}, {"quantization": {"bits": 8, "group_size": 32}}), CorruptFileError)


@pytest.mark.parametrize("shape", [[64, 129], [2**40, 2**40], [-64, -128], [0, 0], [], "x", [64.0, 128], [2] * 40])
def test_a_lying_state_of_bitsandbytes_is_refused(shape: object) -> None:
    found = bitsandbytes4(weights())
    state = json.loads(found.tensors[".weight.quant_state.bitsandbytes__nf4"].tobytes())
    text = np.frombuffer(json.dumps(state | {"shape": shape}).encode(), np.uint8)
    assert isinstance(refused(found, {".weight.quant_state.bitsandbytes__nf4": text}), CorruptFileError)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff" * 40, b'{"shape": 1}', b"[" * 60_000, b" " * 70_000])
def test_a_state_of_bitsandbytes_that_is_no_object_is_refused(text: bytes) -> None:
    state = np.frombuffer(text, np.uint8)
    change = {".weight.quant_state.bitsandbytes__nf4": state}
    assert isinstance(refused(bitsandbytes4(weights()), change), CorruptFileError)


@pytest.mark.parametrize("shape", [(2**62, 2**62), (-1, -1), (64, 2**40), (64, 0), (32, 128)])
def test_a_lying_shape_is_refused(shape: tuple[int, int]) -> None:
    stated = np.array(shape, np.int64)
    assert isinstance(refused(pack_quantized(weights()), {".weight_shape": stated}), CorruptFileError)
    assert isinstance(refused(hqq(weights()), {".shape": stated}), CorruptFileError)


def test_a_missing_scale_is_refused() -> None:
    assert isinstance(refused(gptq(weights()), {".scales": None}), MissingTensorError)
    assert isinstance(refused(hqq(weights()), {".zero": None}), MissingTensorError)


def test_an_unknown_scheme_is_named() -> None:
    stored = {"m.up_proj.codes": np.ones((4, 4), np.int16), "m.up_proj.codebooks": np.ones((4, 4), np.float16)}
    config = {"quantization_config": {"quant_method": "aqlm"}}
    with pytest.raises(InputError, match="quantised by aqlm") as caught:
        unpacked(MemoryCheckpoint(stored, config))
    assert_complete(caught.value)
    assert "gptq" in caught.value.expected


def test_a_layout_that_only_looks_like_rows_of_int8_is_named() -> None:
    """EETQ turns and interleaves its weights for one kind of GPU."""
    stored = {"m.up_proj.weight": np.ones((64, 64), np.int8), "m.up_proj.weight_scales": np.ones(64, np.float16)}
    with pytest.raises(InputError, match="quantised by eetq"):
        unpacked(MemoryCheckpoint(stored, {"quantization_config": {"quant_method": "eetq"}}))


@pytest.mark.parametrize(
    ("said", "pack"),
    [
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, LAYOUTS["gptq v1, 4 bits"]),
        ({"quant_method": "awq", "version": "gemv_fast"}, LAYOUTS["awq, gemm"]),
        ({"quant_method": "compressed-tensors", "format": "marlin-24"}, LAYOUTS["compressed-tensors packed, 4 bits"]),
        ({"bits": 4, "group_size": "many"}, LAYOUTS["mlx, 4 bits"]),
    ],
)
def test_a_variant_that_is_not_read_is_named(said: dict[str, Any], pack: Any) -> None:
    key = "quantization" if "bits" in said else "quantization_config"
    assert type(refused(pack(weights()), {}, {key: said})) is InputError


def test_plain_weights_are_plain_whatever_is_declared() -> None:
    for method in ("gptq", "aqlm", "mxfp4", None):
        stored = MemoryCheckpoint({"m.weight": weights()}, {"quantization_config": {"quant_method": method}})
        assert unpacked(stored) is stored


def test_whole_numbers_without_scales_stay_as_they_are() -> None:
    stored = MemoryCheckpoint({"m.weight": weights().astype(np.int8)})
    assert unpacked(stored) is stored


def test_a_tensor_stored_packed_and_plain_is_refused() -> None:
    assert isinstance(refused(gptq(weights()), {".weight": weights()}), CorruptFileError)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_the_tools_own_files_are_read(name: str, tmp_path: Path) -> None:
    """Version 2 of GPTQ is told in AutoGPTQ's file alone."""
    found = gptq(weights(), version=2)
    write_safetensors(tmp_path / "model.safetensors", named(found))
    (tmp_path / "config.json").write_text("{}")
    said = found.config["quantization_config"]
    (tmp_path / name).write_text(json.dumps(said))
    with open_checkpoint(tmp_path) as checkpoint:
        assert np.allclose(checkpoint.read(f"{NAME}.weight"), found.expected, atol=1e-6)
    (tmp_path / name).write_text("[1]")
    with pytest.raises(CorruptFileError):
        open_checkpoint(tmp_path)


def test_every_scheme_says_its_name_and_methods() -> None:
    assert {scheme.NAME for scheme in schemes()} >= {
        "GPTQ",
        "AWQ",
        "bitsandbytes",
        "FP8",
        "MXFP4",
        "NVFP4",
        "MLX",
        "HQQ",
    }
    methods = [method for scheme in schemes() for method in scheme.METHODS]
    assert all(method == method.lower() and "_" not in method for method in methods)
