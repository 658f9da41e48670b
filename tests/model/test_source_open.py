"""Finding a checkpoint's files: folders, shards, indices, and what is said when something is missing."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import huref
import huref.model.source
from huref.demo.tensors import as_tensor
from huref.errors import (
    CorruptFileError,
    HurefError,
    InputError,
    MissingFileError,
    MissingTensorError,
    NetworkError,
    UnsafeFileError,
    UsageError,
)
from huref.model.source import open_checkpoint, opening
from huref.model.source.checkpoint import Checkpoint
from kit.hostile_files import assert_complete, gguf_bytes, gguf_tensor

A, B = torch.arange(12.0).reshape(4, 3), torch.ones(5)


def refused(kind: type[HurefError], path: Path | str) -> HurefError:
    with pytest.raises(kind) as caught:
        open_checkpoint(path)
    assert_complete(caught.value)
    return caught.value


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def shard(folder: Path, suffix: str, stem: str = "model") -> list[Path]:
    """Two shards and their index."""
    paths = [folder / f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    save(paths[0], {"a": A})
    save(paths[1], {"b": B})
    write_index(folder, suffix, {"a": paths[0].name, "b": paths[1].name}, stem)
    return paths


def write_index(folder: Path, suffix: str, weight_map: Any, stem: str = "model") -> Path:
    path = folder / f"{stem}{suffix}.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 68}, "weight_map": weight_map}))
    return path


def assert_both(checkpoint: Checkpoint) -> None:
    assert sorted(checkpoint.tensors) == ["a", "b"]
    assert torch.equal(as_tensor(checkpoint.read("a", np.array([2, 0]))), A[[2, 0]])
    assert torch.equal(as_tensor(checkpoint.read("b")), B)
    assert checkpoint.bytes_total == sum(checkpoint.files.values())


SHARDED = [(".safetensors", "model", "safetensors"), (".bin", "pytorch_model", "pickle")]


@pytest.mark.parametrize(("suffix", "stem", "kind"), SHARDED)
@pytest.mark.parametrize("what", ["folder", "index", "first", "second"])
def test_sharded(what: str, suffix: str, stem: str, kind: str, tmp_path: Path) -> None:
    paths = shard(tmp_path, suffix, stem)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 3}')
    (tmp_path / "optimizer.bin").write_bytes(b"not weights")
    chosen = {"folder": tmp_path, "index": tmp_path / f"{stem}{suffix}.index.json", "first": paths[0]}
    with open_checkpoint(str(chosen.get(what, paths[1]))) as checkpoint:
        assert_both(checkpoint)
        assert checkpoint.format == kind
        assert checkpoint.folder == tmp_path
        assert checkpoint.reference == str(chosen.get(what, paths[1]))
        assert checkpoint.config == {"model_type": "llama", "hidden_size": 3}
        assert checkpoint.tensors["b"].file == paths[1].name


@pytest.mark.parametrize(("suffix", "stem", "kind"), SHARDED)
@pytest.mark.parametrize("indexed", [True, False])
def test_missing_shard(indexed: bool, suffix: str, stem: str, kind: str, tmp_path: Path) -> None:
    paths = shard(tmp_path, suffix, stem)
    paths[0].unlink()
    if not indexed:
        (tmp_path / f"{stem}{suffix}.index.json").unlink()
    error = refused(MissingFileError, tmp_path)
    assert paths[0].name in str(error)
    assert "fetch" in error.next_step
    paths[1].unlink()
    refused(MissingFileError, tmp_path)


def test_tensor_missing_from_its_shard(tmp_path: Path) -> None:
    paths = shard(tmp_path, ".safetensors")
    names = [path.name for path in paths]
    write_index(tmp_path, ".safetensors", {"a": names[0], "b": names[1], "c": names[1]})
    assert "c" in refused(MissingTensorError, tmp_path).what
    write_index(tmp_path, ".safetensors", {"a": names[1], "b": names[1]})
    refused(MissingTensorError, tmp_path)


def test_the_index_decides_between_copies(tmp_path: Path) -> None:
    paths = shard(tmp_path, ".safetensors")
    save(paths[1], {"b": B, "a": A + 1})
    with open_checkpoint(tmp_path) as checkpoint:
        assert_both(checkpoint)
    (tmp_path / "model.safetensors.index.json").unlink()
    error = refused(UsageError, tmp_path)
    assert paths[0].name in error.got and paths[1].name in error.got


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a\\b", "..", "", "C:x", "sub/x.safetensors", "a\0"]
)
def test_index_pointing_outside(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save(tmp_path / "x.safetensors", {"a": A})
    write_index(folder, ".safetensors", {"a": name})
    refused(UnsafeFileError, folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {}}']
)
def test_unusable_index(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    refused(CorruptFileError, tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "consolidated.safetensors", "anything.safetensors", "pytorch_model.bin"]
)
def test_single_file_in_a_folder(name: str, tmp_path: Path) -> None:
    save(tmp_path / name, {"a": A, "b": B})
    for reference in (tmp_path, tmp_path / name):
        with open_checkpoint(reference) as checkpoint:
            assert_both(checkpoint)
            assert checkpoint.config == {}


def test_preferences(tmp_path: Path) -> None:
    save(tmp_path / "pytorch_model.bin", {"pickle": A})
    (tmp_path / "training_args.bin").write_bytes(b"junk")
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["pickle"]
    (tmp_path / "m.gguf").write_bytes(gguf_bytes([], [gguf_tensor("gguf", [2])], bytes(8)))
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["gguf"]
    shard(tmp_path, ".safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert_both(checkpoint)
    save(tmp_path / "consolidated.safetensors", {"consolidated": A})
    with open_checkpoint(tmp_path) as checkpoint:
        assert_both(checkpoint)
    save(tmp_path / "model.safetensors", {"whole": A})
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.tensors) == ["whole"]


def test_files_without_an_index(tmp_path: Path) -> None:
    save(tmp_path / "part_b.safetensors", {"b": B})
    save(tmp_path / "part_a.safetensors", {"a": A})
    with open_checkpoint(tmp_path) as checkpoint:
        assert_both(checkpoint)
        assert list(checkpoint.files) == ["part_a.safetensors", "part_b.safetensors"]
    save(tmp_path / "part_c.safetensors", {"b": B})
    refused(UsageError, tmp_path)


def test_links_keep_their_own_folder(tmp_path: Path) -> None:
    """A hub cache links snapshot files to blobs with names that say nothing."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for path in shard(blobs, ".safetensors"):
        target = path.rename(blobs / f"blob{path.name[10]}")
        (snapshot / path.name).symlink_to(target)
    (blobs / "model.safetensors.index.json").rename(snapshot / "model.safetensors.index.json")
    (tmp_path / "link").symlink_to(snapshot)
    for reference in (snapshot, tmp_path / "link", snapshot / "model-00001-of-00002.safetensors"):
        with open_checkpoint(reference) as checkpoint:
            assert_both(checkpoint)


def test_nothing_to_open(tmp_path: Path) -> None:
    assert refused(MissingFileError, tmp_path).got == "an empty folder"
    (tmp_path / "readme.md").write_text("hello")
    assert "readme.md" in refused(MissingFileError, tmp_path).got
    refused(InputError, tmp_path / "readme.md")
    refused(MissingFileError, tmp_path / "none")
    refused(MissingFileError, "org/none.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "empty file" in refused(CorruptFileError, tmp_path).got


@pytest.mark.parametrize("reference", ["org/name", "org/name@main", "org/name:m.gguf", "hf://org/name"])
def test_models_on_a_hub_while_offline(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "hf download" in refused(NetworkError, reference).next_step


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b'"text"'])
def test_unusable_config(content: bytes, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", {"a": A})
    (tmp_path / "config.json").write_bytes(content)
    refused(CorruptFileError, tmp_path)


def test_config_over_the_limit(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", {"a": A})
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    refused(UnsafeFileError, tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_unreadable_file(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", {"a": A})
    (tmp_path / "model.safetensors").chmod(0)
    refused(InputError, tmp_path)


def test_failed_opening_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huref.model.source import byte_source

    paths = shard(tmp_path, ".safetensors")
    save(paths[1], {"other": B})
    closed: list[str] = []
    close = byte_source.LocalFile.close
    monkeypatch.setattr(byte_source.LocalFile, "close", lambda source: (closed.append(source.name), close(source)))
    refused(MissingTensorError, tmp_path)
    assert {path.name for path in paths} <= set(closed)


def test_every_format_offers_the_whole_protocol() -> None:
    assert [module.NAME for module in opening.formats()] == ["safetensors", "gguf", "pickle"]
    for module in opening.formats():
        assert all(ending.startswith(".") for ending in module.EXTENSIONS)
        for function in ("find", "file_set", "open_files"):
            assert callable(getattr(module, function))


NEW_FORMAT = """
from pathlib import Path
import numpy as np
from huref.model.source.checkpoint import TensorInfo
from huref.model.source.file_set import FileSet, file_set_of, find_file_set
from huref.model.source.ranged_checkpoint import RangedCheckpoint, Shard, StoredTensor, open_all

NAME, PREFERENCE, EXTENSIONS = "raw", 9, (".raw",)

class RawCheckpoint(RangedCheckpoint):
    format = NAME

def find(folder): return find_file_set(folder, EXTENSIONS, (), "$^")
def file_set(path): return file_set_of(path)
def open_files(reference, files):
    return open_all(files, parse, lambda shards: RawCheckpoint(reference, files, shards, {}))
def parse(source):
    info = TensorInfo("all", (source.size // 4,), "F32", source.size // 4 * 4, source.name)
    return Shard(source, [StoredTensor(info, source, 0)])
"""


def test_a_new_format_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/how-to/add-a-format.md, done."""
    (tmp_path / "raw_format.py").write_text(NEW_FORMAT)
    (tmp_path / "weights.raw").write_bytes(np.arange(4, dtype="<f4").tobytes())
    monkeypatch.setattr(huref.model.source, "__path__", [*huref.model.source.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    opening.formats.cache_clear()
    try:
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.format == "raw"
            assert as_tensor(checkpoint.read("all", slice(1, 3))).tolist() == [1, 2]
    finally:
        opening.formats.cache_clear()
        sys.modules.pop("huref.model.source.raw_format", None)


def test_a_repository_of_the_hubs_cache_means_its_snapshot(models: dict[str, Path], tmp_path: Path) -> None:
    """Wherever a model is named, in Python too (huggingface_hub#1388)."""
    repository = tmp_path / "models--org--tiny"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "snapshots" / "abc123").symlink_to(models["base"])
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    with open_checkpoint(repository) as checkpoint:
        assert checkpoint.tensors
    assert huref.doctor(repository).fault is None
    assert huref.fingerprint(repository).model == "tiny"
