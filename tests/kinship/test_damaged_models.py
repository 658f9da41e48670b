"""Files that hold no weights where weights should be: refused by name, and never evidence against kinship."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import huref
from huref.errors import CorruptFileError, InputError
from huref.model.model import open_model
from huref.model.written import require_written
from kit.command_line import Outcome
from kit.hostile_files import assert_complete
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Outcome]


def changed(folder: Path, change: Callable[[str, object], object], **model: object) -> Path:
    """A tiny Llama whose tensors a function changes by name."""
    import torch

    path = TinyLlama(**model).save(folder)  # type: ignore[arg-type]
    file = path / "model.safetensors"
    tensors = {name: change(name, tensor) for name, tensor in load_file(file).items()}
    assert any(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    save_file(tensors, file, {"format": "pt"})  # type: ignore[arg-type]
    return path


ROLES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


@pytest.mark.parametrize("role", [*ROLES, "embed_tokens"])
def test_a_matrix_of_zeros_is_refused_by_its_stored_name(
    role: str, models: dict[str, Path], tmp_path: Path, cli: Cli
) -> None:
    broken = changed(tmp_path / "broken", lambda name, x: x * 0 if f"2.{role}" in name or role in name[6:] else x)  # type: ignore[operator]
    for arguments in (
        ("fingerprint", broken, "--recipe", "paper", "--out", tmp_path),
        ("compare", models["base"], broken),
    ):
        done = cli(*arguments)
        assert done.code == 4 and "a matrix of zeros" in done.err and role in done.err, done
        assert "independent" not in done.out


def test_an_empty_download_is_no_stranger(models: dict[str, Path], tmp_path: Path, cli: Cli) -> None:
    """The second half of the file was never filled."""
    path = TinyLlama().save(tmp_path / "half")
    data = bytearray((path / "model.safetensors").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (path / "model.safetensors").write_bytes(data)
    done = cli("compare", models["base"], path, "--json")
    assert done.code == 4 and json.loads(done.out)["error"]["type"] == "CorruptFileError"


def test_a_layer_that_adds_nothing_is_no_damage(tmp_path: Path) -> None:
    """LLaMA-Pro's expansion: `o` and `down` are zero."""
    silent = changed(tmp_path / "pro", lambda n, x: x * 0 if "2.self_attn.o_proj" in n or "2.mlp.down" in n else x)  # type: ignore[operator]
    assert huref.fingerprint(silent).vector.any()


def test_rows_of_zeros_are_no_damage(tmp_path: Path) -> None:
    """Padding of a vocabulary, neurons that were pruned: also where the first row is one."""
    import torch

    def pruned(name: str, tensor: object) -> object:
        assert isinstance(tensor, torch.Tensor)
        return torch.cat([tensor[:1] * 0, tensor[1:]]) if tensor.ndim == 2 and "down" not in name else tensor

    assert huref.fingerprint(changed(tmp_path / "pruned", pruned)).vector.any()


@pytest.mark.parametrize("last", [False, True])
def test_one_number_anywhere_is_enough(last: bool, models: dict[str, Path]) -> None:
    model = open_model(models["base"])
    matrix = np.zeros((3000, 4), np.float32)
    with model.weights.checkpoint, pytest.raises(CorruptFileError) as caught:
        require_written(matrix, "layers.0.gate", model.weights)
    assert_complete(caught.value)
    assert "model.layers.0.mlp.gate_proj.weight" in caught.value.where and caught.value.got == "12000 zeros"
    matrix[2999 if last else 0, 3] = 1e-30
    require_written(matrix, "layers.0.gate", model.weights)
    require_written(matrix[:0], "layers.0.gate", model.weights)


@pytest.mark.parametrize("dtype", ["int16", "int8", "uint8", "int64"])
def test_whole_numbers_are_no_weights(dtype: str, models: dict[str, Path], tmp_path: Path, cli: Cli) -> None:
    """Bits of bfloat16 saved as integers; a quantised matrix without its scales."""
    import torch

    def stored(name: str, tensor: object) -> object:
        assert isinstance(tensor, torch.Tensor)
        return (tensor * 50).to(getattr(torch, dtype)) if "mlp.gate_proj" in name else tensor

    path = changed(tmp_path / "integers", stored)
    with pytest.raises(InputError, match="whole numbers in a weight's place") as caught:
        huref.fingerprint(path)
    assert_complete(caught.value)
    assert "mlp.gate_proj" in caught.value.where
    assert cli("compare", models["base"], path).code == 4
