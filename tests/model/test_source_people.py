"""Checkpoints as people have them: nests, trainers' folders, parts; never another model than the one meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from huref.errors import CorruptFileError, HurefError, InputError, MissingFileError, UnsafeFileError
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from kit.hostile_files import assert_complete
from kit.tiny_llama import TinyLlama

STATE = TinyLlama(seed=1).tensors()
OTHER = TinyLlama(seed=2).tensors()


def as_read(reference: str | Path) -> dict[str, np.ndarray]:
    with open_checkpoint(reference) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


def assert_same(reference: str | Path, state: dict[str, Any]) -> None:
    found = as_read(reference)
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert np.array_equal(found[name], tensor.numpy())


def refused(reference: str | Path, kind: type[HurefError] = InputError) -> str:
    with pytest.raises(kind) as caught, open_checkpoint(reference):
        pass
    assert_complete(caught.value)
    return str(caught.value)


LOOSE = {"epoch": 3, "loss": torch.tensor(2.5), "rng": torch.arange(9, dtype=torch.uint8), "optimizer": {"state": {}}}
ROOTS: dict[str, Callable[[], Any]] = {
    **{
        key: lambda key=key: {key: STATE, **LOOSE}
        for key in ("module", "model_state_dict", "model_state", "ema", "params", "weights", "state_dict", "model")
    },
    "two nests": lambda: {"ema": OTHER, "model": STATE, **LOOSE},
    "weights and their average": lambda: {**LOOSE, "params_ema": OTHER, "params": STATE},
    "a nest in a nest": lambda: {"model": {"state_dict": STATE, "step": torch.tensor(1)}, **LOOSE},
    "a small nest in front": lambda: {"state_dict": {"scale.weight": torch.ones(2, 2)}, "module": STATE},
    "no nest, and a small one": lambda: {**STATE, "params": {"lr": torch.ones(2, 2)}},
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("kind", list(ROOTS))
def test_the_model_is_found_in_its_nest(kind: str, is_zip: bool, tmp_path: Path) -> None:
    torch.save(ROOTS[kind](), tmp_path / "last.ckpt", _use_new_zipfile_serialization=is_zip)
    assert_same(tmp_path, STATE)
    with open_checkpoint(tmp_path) as checkpoint:
        assert any("several models" in note for note in checkpoint.notes) == (
            kind in ("two nests", *list(ROOTS)[9:10])
        )


def test_nests_that_hold_themselves_end(tmp_path: Path) -> None:
    root: dict[str, Any] = {"w": torch.ones(2, 2)}
    root["model"] = root["state_dict"] = root
    torch.save(root, tmp_path / "m.pt")
    assert_same(tmp_path, {"w": torch.ones(2, 2)})


def test_a_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    assert "torch.save(model.state_dict()" in refused(tmp_path, UnsafeFileError)


def test_deepspeed_is_read_from_the_step_that_latest_names(tmp_path: Path) -> None:
    for step, state in (("global_step9", OTHER), ("global_step10", STATE), ("global_step11", OTHER)):
        (tmp_path / step).mkdir()
        torch.save({"module": state, "ds_version": "0.14"}, tmp_path / step / "mp_rank_00_model_states.pt")
        torch.save({"x": torch.ones(1)}, tmp_path / step / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    (tmp_path / "latest").write_text("global_step10\n")
    assert_same(tmp_path, STATE)
    (tmp_path / "latest").write_text("../../etc")
    assert_same(tmp_path, OTHER)
    assert_same(tmp_path / "global_step10", STATE)
    torch.save({"module": STATE}, tmp_path / "global_step11" / "mp_rank_01_model_states.pt")
    (tmp_path / "latest").unlink()
    assert "2 tensor-parallel parts" in refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("global_step4/zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32.py"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "dcp_to_torch"),
        ("__0_0.distcp", "dcp_to_torch"),
        ("mp_rank_00/model_optim_rng.pt", "tools/checkpoint/convert.py"),
        ("iter_0000100/mp_rank_00/model_optim_rng.pt", "tools/checkpoint/convert.py"),
        ("flax_model.msgpack", "from_flax=True"),
        ("weights.npz", "save_file"),
    ],
)
def test_other_layouts_are_named_with_the_cure(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"x")
    assert said in refused(tmp_path)


def test_shells_of_zero_3_are_named(tmp_path: Path) -> None:
    torch.save({name: torch.empty(0) for name in STATE}, tmp_path / "pytorch_model.bin")
    assert "zero_to_fp32.py" in refused(tmp_path)


def consolidated(state: dict[str, Any], heads: tuple[int, int]) -> dict[str, Any]:
    """A Hugging Face state in Meta's names, its heads interleaved: the inverse of transformers' own conversion."""
    names = {
        "self_attn.q_proj": "attention.wq",
        "self_attn.k_proj": "attention.wk",
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
        "model.": "",
    }
    out = {}
    for name, tensor in state.items():
        for n, module in zip(heads, ("q_proj", "k_proj"), strict=True):
            if module in name:
                tensor = tensor.reshape(n, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = tensor.contiguous()
    return out | {"rope.freqs": torch.ones(4)}


PARAMS = {
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "n_kv_heads": 2,
    "multiple_of": 32,
    "norm_eps": 1e-6,
    "vocab_size": -1,
}


def in_parts(folder: Path, state: dict[str, Any], n: int, *, is_by_rows: bool = False) -> None:
    axes = {"wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1, "tok_embeddings": 1}
    axes["tok_embeddings"] = 0 if is_by_rows else 1
    for part in range(n):
        share = {}
        for name, tensor in state.items():
            axis = axes.get(name.removesuffix(".weight").split(".")[-1])
            share[name] = tensor if axis is None else tensor.chunk(n, axis)[part].clone()
        torch.save(share, folder / f"consolidated.{part:02d}.pth")


@pytest.mark.parametrize("kind", ["one", "two", "four by rows", "safetensors"])
def test_metas_layout_is_the_model_of_the_hugging_face_copy(kind: str, tmp_path: Path) -> None:
    plain, own = tmp_path / "hf", tmp_path / "meta"
    TinyLlama(seed=1).save(plain)
    own.mkdir()
    state = consolidated(STATE, (4, 2))
    if kind == "safetensors":
        save_file(state, own / "consolidated.safetensors")
    else:
        in_parts(own, state, {"one": 1, "two": 2, "four by rows": 4}[kind], is_by_rows="rows" in kind)
    (own / "params.json").write_text(json.dumps(PARAMS))
    rows = np.array([3, 399, 0, 3, 200])
    with open_checkpoint(plain) as a, open_checkpoint(own) as b:
        x, y = open_weights(a), open_weights(b)
        assert y.architecture.name == "consolidated" and x.geometry == y.geometry
        assert set(x.names()) == set(y.names())
        for name in x.names():
            assert np.array_equal(x.read(name), y.read(name)), name
            some = rows if x.shape(name)[0] > 399 else rows % x.shape(name)[0]
            assert np.array_equal(x.read(name, some), y.read(name, some)), name
        before = b.bytes_read
        b.read("tok_embeddings.weight", np.array([5]))
        assert b.bytes_read - before == 32 * 4


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    state = consolidated(STATE, (4, 2))
    in_parts(tmp_path, state, 4)
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    (tmp_path / "consolidated.02.pth").unlink()
    assert "consolidated.02.pth" in refused(tmp_path, MissingFileError)
    torch.save({**state, "norm.weight": torch.ones(7)}, tmp_path / "consolidated.02.pth")
    refused(tmp_path / "consolidated.00.pth", CorruptFileError)


def test_a_gguf_file_without_ending_is_read(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("x.weight", np.ones((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    blob = (tmp_path / "m.gguf").rename(tmp_path / "sha256-d5")
    assert as_read(blob)["x.weight"].sum() == 64


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save(OTHER, tmp_path / "pytorch_model.bin")
    torch.save({}, tmp_path / "optimizer.pt")
    (tmp_path / "imatrix.dat").write_bytes(b"x")
    (tmp_path / "old.huref.safetensors").write_bytes(b"x")
    with open_checkpoint(tmp_path) as checkpoint:
        told = " ".join(checkpoint.notes)
    assert "passed over in the same folder, name it to have it read: pytorch_model.bin" in told
    assert "not read: imatrix.dat, optimizer.pt" in told and "huref" not in told
    with open_checkpoint(tmp_path / "pytorch_model.bin") as checkpoint:
        assert checkpoint.notes == ()
