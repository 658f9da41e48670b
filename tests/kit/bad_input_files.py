"""Command lines with a model, tokenizer or architecture file at fault: what `tests/cli/test_bad_input.py` runs.

Each case is a function from an empty folder to a command line, with its exit code, error class and parts of message.
"""

from __future__ import annotations

import builtins
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kit.tiny_llama import TinyLlama, tokenizer_json

Case = Callable[[Path], list[Any]]

CASES: list[Any] = []


def case(code: int, kind: str, *parts: str) -> Callable[[Case], Case]:
    """Register a case: exit code, error class, what the message says."""

    def register(function: Case) -> Case:
        CASES.append(pytest.param(function, code, kind, parts, id=function.__name__))
        return function

    return register


def fingerprinted(model: object, place: Path, *options: object) -> list[object]:
    return ["fingerprint", model, "--out", place / "out", *options]


def tiny(place: Path, **changes: Any) -> Path:
    model = place / "model"
    return model if model.exists() else TinyLlama(**changes).save(model)


def with_tensor(place: Path, name: str, value: float, **changes: Any) -> Path:
    """A model with one wrong number in one tensor."""
    model = tiny(place, **changes)
    tensors = load_file(model / "model.safetensors")
    tensors[name][10, 7] = value
    save_file(tensors, model / "model.safetensors")
    return model


def with_header(place: Path, header: bytes, length: int | None = None, data: bytes = b"\0" * 64) -> Path:
    """A model whose safetensors file has this header."""
    model = tiny(place)
    head = struct.pack("<Q", len(header) if length is None else length)
    (model / "model.safetensors").write_bytes(head + header + data)
    return model


# Places and names


@case(4, "MissingFileError", "no such file", "check the spelling")
def no_such_path(place: Path) -> list[Any]:
    return fingerprinted(place / "none", place)


@case(4, "InputError", "the operating system refuses", "too long")
def a_path_too_long(place: Path) -> list[Any]:
    return fingerprinted("a" * 5000, place)


@case(6, "NetworkError", "offline", "hf download")
def a_name_on_a_hub(place: Path) -> list[Any]:
    return fingerprinted("org/name", place)


@case(2, "UsageError", "this names no model", "hf://")
def a_url(place: Path) -> list[Any]:
    return fingerprinted("ftp://example.org/model/", place)


@case(4, "MissingFileError", "no weights in this folder", ".safetensors", "notes.txt")
def a_folder_without_weights(place: Path) -> list[Any]:
    (place / "empty").mkdir()
    (place / "empty" / "notes.txt").write_text("")
    return fingerprinted(place / "empty", place)


@case(4, "InputError", "not a kind of weight file that huref reads", "model.onnx")
def a_file_of_another_kind(place: Path) -> list[Any]:
    (place / "model.onnx").write_bytes(b"\x08\x01")
    return fingerprinted(place / "model.onnx", place)


@case(2, "UsageError", "two models would write the same files", "model")
def two_models_of_one_name(place: Path) -> list[Any]:
    return ["fingerprint", tiny(place), TinyLlama().save(place / "other" / "model"), "--out", place / "out"]


# Weight files


@case(4, "MissingFileError", "shard model-00002-of-00002.safetensors is missing", "fetch the missing shard")
def a_missing_shard_of_an_index(place: Path) -> list[Any]:
    model = tiny(place)
    names = list(load_file(model / "model.safetensors"))
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return fingerprinted(model, place)


@case(4, "MissingFileError", "shard model-00001-of-00002.safetensors is missing")
def a_missing_numbered_file(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").rename(model / "model-00002-of-00002.safetensors")
    return fingerprinted(model, place)


@case(4, "InputError", "quantised by aqlm", "gptq", "before it was quantised")
def weights_packed_by_an_unknown_scheme(place: Path) -> list[Any]:
    model = tiny(place)
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("up_proj.weight"))
    tensors[name.replace("weight", "codes")] = torch.ones(len(tensors.pop(name)), 8, dtype=torch.int16)
    save_file(tensors, model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "aqlm"}}))
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "parts of a packed tensor contradict one another", "up_proj.weight_scale", "fetch")
def packed_weights_with_scales_for_others(place: Path) -> list[Any]:
    model = tiny(place)
    tensors = load_file(model / "model.safetensors")
    name = next(name for name in tensors if name.endswith("up_proj.weight"))
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[f"{name}_scale"] = torch.ones(len(tensors[name]) - 1, 1)
    save_file(tensors, model / "model.safetensors")
    return fingerprinted(model, place)


@case(4, "UnsafeFileError", "the index names a file outside its folder", "../../secret.safetensors")
def an_index_that_points_elsewhere(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "the file is truncated", "model.safetensors", "fetch the file again")
def a_truncated_file(place: Path) -> list[Any]:
    model = tiny(place)
    path = model / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "the header is longer than the file", "model.safetensors")
def a_header_larger_than_the_file(place: Path) -> list[Any]:
    return fingerprinted(with_header(place, b"{}", length=1 << 40), place)


@case(4, "CorruptFileError", "the header is longer than the file", "Git LFS pointer")
def a_git_lfs_pointer(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "the header contradicts itself", "overlaps the tensor before")
def overlapping_tensors(place: Path) -> list[Any]:
    entry = {"dtype": "F32", "shape": [8]}
    header = {"a": {**entry, "data_offsets": [0, 32]}, "b": {**entry, "data_offsets": [16, 48]}}
    return fingerprinted(with_header(place, json.dumps(header).encode()), place)


@case(4, "CorruptFileError", "the header contradicts itself", "bytes for F32")
def offsets_that_do_not_fit_the_shape(place: Path) -> list[Any]:
    header = {"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 64]}}
    return fingerprinted(with_header(place, json.dumps(header).encode()), place)


@case(4, "CorruptFileError", "not a readable JSON object")
def a_header_that_is_no_json(place: Path) -> list[Any]:
    return fingerprinted(with_header(place, b"{" * 5000), place)


def gguf(place: Path, *, tensors: int = 0, pairs: int = 0, rest: bytes = b"") -> Path:
    path = place / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + rest)
    return path


@case(4, "UnsafeFileError", "an absurd count", str(1 << 60), "key-values")
def a_gguf_with_absurd_counts(place: Path) -> list[Any]:
    return fingerprinted(gguf(place, pairs=1 << 60), place)


@case(4, "UnsafeFileError", "an absurd count", "tensors")
def a_gguf_with_absurdly_many_tensors(place: Path) -> list[Any]:
    return fingerprinted(gguf(place, tensors=(1 << 64) - 1), place)


@case(4, "UnsafeFileError", "an absurd length")
def a_gguf_with_an_absurd_string(place: Path) -> list[Any]:
    return fingerprinted(gguf(place, pairs=1, rest=struct.pack("<Q", 1 << 50) + b"\0" * 64), place)


@case(4, "CorruptFileError", "the file is truncated", "key-values")
def a_truncated_gguf(place: Path) -> list[Any]:
    return fingerprinted(gguf(place, pairs=9), place)


@case(4, "InputError", "GGUF version 9", "version 2 or 3")
def a_gguf_of_the_future(place: Path) -> list[Any]:
    path = gguf(place)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 9, 0, 0))
    return fingerprinted(path, place)


class Booby:
    """Unpickled by `pickle` or an unguarded `torch.load`, this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (f"import pathlib; pathlib.Path({str(self.target)!r}).write_text('owned')",)


@case(
    4, "UnsafeFileError", "the pickle asks for more than data; nothing of it was run", "__builtin__.exec", "GGUF copy"
)
def a_malicious_pickle(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(2), "b": Booby(place / "owned")}, model / "pytorch_model.bin")
    return fingerprinted(model, place)


@case(4, "UnsafeFileError", "the pickle asks for more than data; nothing of it was run", "__builtin__.exec")
def a_malicious_pickle_of_the_old_kind(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").unlink()
    torch.save({"b": Booby(place / "owned")}, model / "model.pt", _use_new_zipfile_serialization=False)
    return fingerprinted(model, place)


@case(4, "UnsafeFileError", "the pickle asks for more than data; nothing of it was run")
def a_bare_malicious_pickle(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Booby(place / "owned")))
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "cannot be read")
def a_pickle_that_is_none(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"\x80\x02" + b"garbage" * 9)
    return fingerprinted(model, place)


# The model itself


@case(
    4,
    "ArchitectureError",
    "unknown model family",
    "'flan'",
    "nearest known family",
    "llama",
    "model.flan_gate",
    "--arch-file",
)
def an_unknown_architecture(place: Path) -> list[Any]:
    model = tiny(place)
    config = {**TinyLlama().config, "model_type": "flan", "architectures": ["FlanForCausalLM"]}
    (model / "config.json").write_text(json.dumps(config))
    tensors = load_file(model / "model.safetensors")
    tensors["model.flan_gate.weight"] = torch.zeros(3)
    save_file(tensors, model / "model.safetensors")
    return fingerprinted(model, place)


@case(4, "ArchitectureError", "unknown model family", "no config.json")
def no_configuration(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "config.json").unlink()
    return fingerprinted(model, place)


@case(4, "CorruptFileError", "not a readable JSON object", "config.json")
def a_broken_configuration(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "config.json").write_text('{"model_type": ')
    return fingerprinted(model, place)


@case(4, "ArchitectureError", "the configuration does not give", "config.json")
def a_configuration_without_sizes(place: Path) -> list[Any]:
    model = tiny(place)
    config = {**TinyLlama().config, "num_attention_heads": "many"}
    (model / "config.json").write_text(json.dumps(config))
    return fingerprinted(model, place)


@case(4, "MissingTensorError", "layers.1.mlp.up_proj")
def a_missing_tensor(place: Path) -> list[Any]:
    model = tiny(place)
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors")
    return fingerprinted(model, place)


@case(4, "NotFiniteError", "NaN or infinity", "embedding", "1 values that are not finite")
def nan_in_the_embedding(place: Path) -> list[Any]:
    return fingerprinted(with_tensor(place, "model.embed_tokens.weight", float("nan")), place, "--n-tokens", 398)


@case(4, "NotFiniteError", "NaN or infinity", "layer 2, up_down")
def infinity_in_the_last_layer(place: Path) -> list[Any]:
    return fingerprinted(with_tensor(place, "model.layers.2.mlp.down_proj.weight", float("inf")), place)


@case(4, "NotFiniteError", "NaN or infinity", "layer 1, vo")
def nan_in_an_attention_matrix(place: Path) -> list[Any]:
    return fingerprinted(with_tensor(place, "model.layers.1.self_attn.o_proj.weight", float("nan")), place)


@case(4, "NotFiniteError", "NaN or infinity")
def nan_under_the_paper_recipe(place: Path) -> list[Any]:
    model = with_tensor(place, "model.layers.2.mlp.up_proj.weight", float("nan"))
    return fingerprinted(model, place, "--recipe", "paper", "--encoder", "mean")


@case(4, "NotFiniteError", "NaN or infinity", "layers.0.q")
def nan_that_only_a_comparison_meets(place: Path) -> list[Any]:
    bad = with_tensor(place, "model.layers.0.self_attn.q_proj.weight", float("nan"))
    return ["compare", bad, TinyLlama().save(place / "good")]


@case(4, "NotFiniteError", "NaN or infinity", "layer 2, up_down")
def nan_that_only_the_up_rows_have(place: Path) -> list[Any]:
    bad = with_tensor(place, "model.layers.2.mlp.up_proj.weight", float("nan"))
    return ["compare", bad, TinyLlama().save(place / "good"), "--method", "ics"]


# Tokens


@case(4, "TokenizerError", "no tokenizer was found", "tokenizer.json", "put the model's tokenizer files beside")
def no_tokenizer(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "tokenizer.json").unlink()
    return fingerprinted(model, place)


@case(4, "TokenizerError", "a tokenizer file is not valid JSON", "tokenizer.json")
def a_broken_tokenizer(place: Path) -> list[Any]:
    model = tiny(place)
    (model / "tokenizer.json").write_text("{")
    return fingerprinted(model, place)


@case(4, "TokenizerError", "too few usable tokens for a fingerprint", "at least 256", "200")
def too_few_tokens(place: Path) -> list[Any]:
    model = tiny(place, n_tokens=400)
    tokenizer = json.loads(tokenizer_json(400))
    tokenizer["model"]["vocab"] = {f"t{i}": i for i in range(200)}
    tokenizer["model"]["merges"], tokenizer["added_tokens"] = [], []
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    return fingerprinted(model, place)


@case(4, "TokenizerError", "a token ranking cannot be read", "ranking.txt")
def no_such_ranking(place: Path) -> list[Any]:
    return fingerprinted(tiny(place), place, "--tokens", place / "ranking.txt")


@case(4, "TokenizerError", "a line of a token ranking is wrong", "line 2", "one token id a line")
def a_ranking_that_is_none(place: Path) -> list[Any]:
    (place / "ranking.txt").write_text("1\nfoo\n")
    return fingerprinted(tiny(place), place, "--tokens", place / "ranking.txt")


@case(4, "TokenizerError", "too few usable tokens", "at least 256", "3")
def a_ranking_that_is_too_short(place: Path) -> list[Any]:
    (place / "ranking.txt").write_text("5\n6\n7\n399999\n")
    return fingerprinted(tiny(place), place, "--tokens", place / "ranking.txt")


@case(4, "MissingFileError", "a corpus file cannot be read", "corpus.txt")
def no_such_corpus(place: Path) -> list[Any]:
    return ["tokens", "rank", tiny(place), "--corpus", place / "corpus.txt"]


# Architecture files


@case(4, "ArchitectureError", "mine.yaml")
def no_such_architecture_file(place: Path) -> list[Any]:
    return fingerprinted(tiny(place), place, "--arch-file", place / "mine.yaml")


@case(4, "ArchitectureError", "mine.yaml", "flavour")
def an_architecture_file_with_an_unknown_key(place: Path) -> list[Any]:
    (place / "mine.yaml").write_text("name: mine\nflavour: strange\n")
    return fingerprinted(tiny(place), place, "--arch-file", place / "mine.yaml")


@case(4, "ArchitectureError", "mine.yaml")
def an_architecture_file_that_is_no_yaml(place: Path) -> list[Any]:
    (place / "mine.yaml").write_text("{[")
    return fingerprinted(tiny(place), place, "--arch-file", place / "mine.yaml")
