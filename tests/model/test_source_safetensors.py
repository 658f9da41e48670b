"""The safetensors reader: agreement with the `safetensors` library, exact byte counts, hostile headers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from huref.demo.tensors import as_tensor
from huref.errors import CorruptFileError, HurefError, InputError, MissingTensorError, UnsafeFileError
from huref.model.source import open_checkpoint
from kit.hostile_files import assert_complete, entry, safetensors_bytes
from kit.typed_tensors import DTYPES, make_tensor


def header_size(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 9), min_size=0, max_size=4),
    st.integers(0, 99),
    st.data(),
)
def test_agrees_with_the_library(name: str, shape: list[int], seed: int, data: st.DataObject) -> None:
    stored = make_tensor(shape, DTYPES[name], seed)
    n_rows = shape[0] if shape else 0
    indices = st.lists(st.integers(0, n_rows - 1), max_size=20) if n_rows else st.just([])
    rows = np.array(data.draw(indices), np.int64)
    bounds = st.none() | st.integers(-10, 10)
    part = slice(data.draw(bounds), data.draw(bounds), data.draw(st.sampled_from([None, 1, 2, -1, -3])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_file({"t": stored, "other": torch.ones(3)}, path)
        with open_checkpoint(path) as checkpoint, safe_open(path, "pt") as library:
            expected = library.get_tensor("t")
            expected = expected.float() if name.startswith("F8") else expected
            info = checkpoint.tensors["t"]
            assert (info.dtype, info.shape) == (name, tuple(shape))
            got = as_tensor(checkpoint.read("t"))
            assert got.dtype == expected.dtype
            assert torch.equal(got, expected)
            if shape:
                assert torch.equal(as_tensor(checkpoint.read("t", rows)), expected[torch.from_numpy(rows)])
                chosen = torch.from_numpy(np.arange(n_rows)[part].copy())
                assert torch.equal(as_tensor(checkpoint.read("t", part)), expected[chosen])


def test_counts_bytes_exactly(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(600.0).reshape(100, 6), "b": torch.ones(7).half()}, path, {"format": "pt"})
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.format == "safetensors"
        assert checkpoint.metadata == {"format": "pt"}
        assert checkpoint.bytes_total == path.stat().st_size
        assert checkpoint.files == {"model.safetensors": path.stat().st_size}
        assert checkpoint.bytes_read == header_size(path)
        as_tensor(checkpoint.read("a", np.array([7, 3, 4, 5, 99, 3, 7])))  # five distinct rows of 24 bytes
        assert checkpoint.bytes_read == header_size(path) + 5 * 24
        as_tensor(checkpoint.read("b"))
        as_tensor(checkpoint.read("a", slice(10, 20)))
        as_tensor(checkpoint.read("a", np.array([], np.int64)))
        assert checkpoint.bytes_read == header_size(path) + 5 * 24 + 14 + 240


def test_result_owns_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(4, 4)}, path)
    with open_checkpoint(path) as checkpoint:
        tensor = as_tensor(checkpoint.read("a"))
    tensor += 1
    path.write_bytes(b"")
    assert bool((tensor == 2).all())
    assert tensor.is_contiguous()


def test_unknown_type_is_refused_only_when_read(tmp_path: Path) -> None:
    header = {"new": entry([3], 0, 5, "F13"), "old": entry([1], 5, 9), "half": entry([2, 2], 9, 11, "F4")}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(header, bytes(11)))
    with open_checkpoint(tmp_path) as checkpoint:
        assert torch.equal(as_tensor(checkpoint.read("old")), torch.zeros(1))
        before = checkpoint.bytes_read
        for name in ("new", "half"):
            with pytest.raises(InputError, match="not supported") as caught:
                as_tensor(checkpoint.read(name))
            assert_complete(caught.value)
        assert checkpoint.bytes_read == before


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    save_file({"model.embed": torch.ones(4, 4), "scale": torch.tensor(2.0)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        with pytest.raises(MissingTensorError, match=r"model\.embed") as missing:
            as_tensor(checkpoint.read("model.embd"))
        assert_complete(missing.value)
        for rows in ([4], [-1], [0, 2**40]):
            with pytest.raises(CorruptFileError, match="out of range") as caught:
                as_tensor(checkpoint.read("model.embed", np.array(rows)))
            assert_complete(caught.value)
        for wrong in (np.array([True, False]), np.array([1.0]), np.array([[1]])):
            with pytest.raises(TypeError):
                as_tensor(checkpoint.read("model.embed", wrong))
        with pytest.raises(TypeError):
            as_tensor(checkpoint.read("scale", slice(None)))
        assert as_tensor(checkpoint.read("scale")).item() == 2


def test_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100, 100)}, path)
    with open_checkpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(2000)
        with pytest.raises(CorruptFileError) as caught:
            as_tensor(checkpoint.read("a"))
        assert_complete(caught.value)


HOSTILE = {
    "empty file": (b"", CorruptFileError),
    "three bytes": (b"abc", CorruptFileError),
    "header longer than the file": (safetensors_bytes({}, length=1000), CorruptFileError),
    "absurd header length": (safetensors_bytes({}, length=2**60), CorruptFileError),
    "garbage header": (safetensors_bytes(b"\xff\xfe{not json", bytes(4)), CorruptFileError),
    "header is a list": (safetensors_bytes(b"[1]"), CorruptFileError),
    "header nested deeply": (safetensors_bytes(b'{"a":' + b"[" * 100_000), CorruptFileError),
    "header with a huge number": (safetensors_bytes(b'{"a":' + b"9" * 5000 + b"}"), CorruptFileError),
    "no tensors": (safetensors_bytes({}), CorruptFileError),
    "entry is a number": (safetensors_bytes({"a": 3}), CorruptFileError),
    "entry without offsets": (safetensors_bytes({"a": {"dtype": "F32", "shape": [1]}}), CorruptFileError),
    "shape of text": (
        safetensors_bytes({"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}}, bytes(4)),
        CorruptFileError,
    ),
    "overlap": (safetensors_bytes({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), CorruptFileError),
    "same bytes twice": (
        safetensors_bytes({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)),
        CorruptFileError,
    ),
    "hole": (safetensors_bytes({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), CorruptFileError),
    "hole at the start": (safetensors_bytes({"a": entry([1], 4, 8)}, bytes(8)), CorruptFileError),
    "truncated data": (safetensors_bytes({"a": entry([4], 0, 16)}, bytes(15)), CorruptFileError),
    "offset beyond the end": (safetensors_bytes({"a": entry([4], 0, 16)}, bytes(4)), CorruptFileError),
    "bytes nobody owns": (safetensors_bytes({"a": entry([1], 0, 4)}, bytes(5)), CorruptFileError),
    "negative size": (safetensors_bytes({"a": entry([-1], 0, 4)}, bytes(4)), CorruptFileError),
    "two negative sizes": (safetensors_bytes({"a": entry([-1, -1], 0, 4)}, bytes(4)), CorruptFileError),
    "overflowing shape": (safetensors_bytes({"a": entry([2**32, 2**32], 0, 0)}), CorruptFileError),
    "overflow hidden by a zero": (safetensors_bytes({"a": entry([0, 2**62, 2**62], 0, 0)}), CorruptFileError),
    "many axes": (safetensors_bytes({"a": entry([1] * 100, 0, 4)}, bytes(4)), CorruptFileError),
    "backward offsets": (safetensors_bytes({"a": entry([1], 4, 0)}, bytes(4)), CorruptFileError),
    "negative offset": (safetensors_bytes({"a": entry([1], -4, 0)}, bytes(4)), CorruptFileError),
    "size contradicts shape": (safetensors_bytes({"a": entry([2], 0, 4)}, bytes(4)), CorruptFileError),
    "repeated tensor": (
        safetensors_bytes(json.dumps({"a": entry([1], 0, 4)})[:-1].encode() + b', "a": 1}', bytes(4)),
        CorruptFileError,
    ),
    "metadata of numbers": (
        safetensors_bytes({"__metadata__": {"a": 1}, "a": entry([1], 0, 4)}, bytes(4)),
        CorruptFileError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header(case: str, tmp_path: Path) -> None:
    content, kind = HOSTILE[case]
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(kind) as caught:
        open_checkpoint(tmp_path)
    assert_complete(caught.value)


def test_header_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes({}, length=200_000_000))
    with path.open("r+b") as file:
        file.truncate(300_000_000)  # sparse: nothing is written
    with pytest.raises(UnsafeFileError) as caught:
        open_checkpoint(path)
    assert_complete(caught.value)


@pytest.mark.parametrize(
    ("head", "hint"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"<!DOCTYPE html>", "web page")],
)
def test_says_what_the_file_really_is(head: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(head)
    with pytest.raises(CorruptFileError, match=hint):
        open_checkpoint(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_header_gives_an_error_or_sound_tensors(data: st.DataObject) -> None:
    header = {"__metadata__": {"k": "v"}, "a": entry([2, 3], 0, 24), "b": entry([4], 24, 32, "BF16")}
    content = bytearray(safetensors_bytes(header, bytes(32)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 33))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(bytes(content))
        try:
            with open_checkpoint(path) as checkpoint:
                for name, info in checkpoint.tensors.items():
                    assert tuple(as_tensor(checkpoint.read(name)).shape) == info.shape
        except HurefError as error:
            assert_complete(error)
