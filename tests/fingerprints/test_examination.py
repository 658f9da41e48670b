"""`huref doctor`: what is there is told, what is odd is found, and what cannot be read is a fault with a way out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import huref
from huref.errors import MissingFileError, UsageError


@pytest.fixture
def model(models, tmp_path) -> Path:
    return shutil.copytree(models["base"], tmp_path / "model")


def change(model: Path, **tensors) -> None:
    """Replace some tensors, `.` written as `__`."""
    path = model / "model.safetensors"
    save_file(load_file(path) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}, path)


def test_a_sound_model(model):
    found = huref.doctor(model)
    assert found.fault is None
    assert found.findings == ()
    assert (found.family, found.format, found.tokens, found.is_tied) == ("llama", "safetensors", 400, False)
    assert found.sizes["n_layers"] == 3
    assert found.files == {"model.safetensors": (model / "model.safetensors").stat().st_size}
    assert found.types == {"F32": len(load_file(model / "model.safetensors"))}
    assert "can be read" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["schema_version"] == "huref.examination/1.0"


def test_what_would_be_read_is_what_is_read(model):
    found, made = huref.doctor(model), huref.fingerprint(model)
    header = 8 + int.from_bytes((model / "model.safetensors").read_bytes()[:8], "little")
    assert found.bytes_needed == pytest.approx(made.weights["bytes_read"] - header, rel=0.02)


def test_what_is_odd(model):
    zeros, ones = np.zeros((64, 32), np.float32), np.ones((64, 32), np.float32)
    spoilt = np.full((32, 32), np.nan, np.float32)
    change(
        model,
        model__layers__0__mlp__up_proj__weight=zeros,
        model__layers__1__mlp__up_proj__weight=ones,
        model__layers__2__self_attn__q_proj__weight=spoilt,
    )
    (model / "adapter_model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    (model / "old.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    text = str(huref.doctor(model))
    for part in (
        "zeros in model.layers.0.mlp.up_proj.weight",
        "one number everywhere in model.layers.1.mlp.up_proj.weight",
        "NaN or infinity in model.layers.2.self_attn.q_proj.weight",
        "passed over in the same folder, name it to have it read: old.safetensors",
    ):
        assert part in text


def test_tokens_and_rows_that_do_not_fit(model):
    config = json.loads((model / "config.json").read_text())
    rows = np.random.default_rng(0).standard_normal((900, 32)).astype(np.float32)
    change(model, model__embed_tokens__weight=rows, lm_head__weight=rows)
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 900}))
    assert "400 tokens for 900 embedding rows" in str(huref.doctor(model))


@pytest.mark.parametrize(
    ("spoil", "says", "known"),
    [
        (lambda m: (m / "tokenizer.json").unlink(), "no tokenizer", "family"),
        (lambda m: (m / "config.json").write_text('{"model_type": "zzz"}'), "unknown model family", "format"),
        (lambda m: (m / "config.json").unlink(), "config.json", "format"),
        (lambda m: (m / "model.safetensors").write_bytes(b"version https://git-lfs"), "git lfs pull", "place"),
        (lambda m: (m / "model.safetensors").write_bytes(b"\0" * 40), "expected", "place"),
        (lambda m: (m / "model.safetensors").unlink(), "no weights", "place"),
    ],
)
def test_what_cannot_be_read(model, spoil, says, known):
    spoil(model)
    found = huref.doctor(model)
    assert found.fault is not None
    assert says in str(found)
    assert "cannot be read" in str(found)
    assert getattr(found, known)
    document = found.to_dict()["fault"]
    assert document["exit_code"] == 4
    assert document["next_step"]


def test_nothing_there(tmp_path, models):
    with pytest.raises(MissingFileError):
        huref.doctor(tmp_path / "none")
    huref.save_fingerprint(huref.fingerprint(models["base"]), tmp_path / "x.huref.safetensors")
    with pytest.raises(UsageError):
        huref.doctor(tmp_path / "x.huref.safetensors")


def test_the_command(cli, model):
    assert "can be read" in cli("doctor", model).out
    (model / "config.json").unlink()
    ended = cli("doctor", model)
    assert ended.code == 4
    assert "fault" in ended.out
    assert json.loads(cli("doctor", model, "--json").out)["fault"]["what"]


def test_a_dry_run_writes_nothing(cli, model, models, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    ended = cli("fingerprint", model, models["child"], "--dry-run", "--out", out)
    assert ended.code == 0
    assert ended.out.count("would read") == 2
    assert list(out.iterdir()) == []
    (model / "config.json").unlink()
    assert cli("fingerprint", model, "--dry-run").code == 4
