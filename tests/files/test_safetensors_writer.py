"""Files of weights: the format's own library reads them, and for one type writes the same bytes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors import torch as library

from huref.demo.tensors import as_array
from huref.files.safetensors_writer import write_safetensors
from huref.model.source import open_checkpoint
from kit.typed_tensors import DTYPES, make_tensor

SHAPES = {"a": [3, 5], "scalar": [], "empty": [0, 4], 'ü/\n"': [2, 1, 3], "z": [7]}


@pytest.mark.parametrize("kind", DTYPES)
def test_one_type_gives_the_bytes_of_the_formats_library(kind: str, tmp_path: Path) -> None:
    tensors = {name: make_tensor(shape, DTYPES[kind], 1) for name, shape in SHAPES.items()}
    write_safetensors(tmp_path / "file", {name: _array(t) for name, t in tensors.items()})
    assert (tmp_path / "file").read_bytes() == library.save(tensors, {"format": "pt"})


def test_all_types_together_are_read_as_they_were(tmp_path: Path) -> None:
    tensors = {kind: make_tensor([3, 5], dtype, 1) for kind, dtype in DTYPES.items()}
    write_safetensors(tmp_path / "file", {name: _array(t) for name, t in tensors.items()})
    found = library.load_file(tmp_path / "file")
    assert {kind: found[kind].dtype for kind in found} == DTYPES
    assert all(torch.equal(found[kind].double(), t.double()) for kind, t in tensors.items())


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_what_is_converted_is_rounded_once(dtype: type, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((6, 4))
    write_safetensors(tmp_path / "model.safetensors", {"x": values, "turned": values.T}, dtype)
    with open_checkpoint(tmp_path / "model.safetensors") as checkpoint:
        x, turned = checkpoint.read("x"), checkpoint.read("turned")
    assert x.dtype == np.dtype(dtype) and np.array_equal(x, values.astype(dtype)) and np.array_equal(turned, x.T)


def _array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        return tensor.view(torch.uint8).numpy().view(str(tensor.dtype).removeprefix("torch."))
    return as_array(tensor)
