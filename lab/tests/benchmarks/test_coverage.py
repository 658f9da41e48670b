"""The benchmark that counts what is read: it calls a wrong description wrong, and only that."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import coverage
from coverage_models import Made, build, in_own_process, make, shrunk, text_logits, types_of
from coverage_proof import Row, prove
from coverage_sizes import TEXT

PHI3 = "name: phi3\nextends: phi3\n"
_QKV = "huggingface: {tensors: {qkv: {from: '{p}layers.{i}.self_attn.qkv_proj', split: grouped}}}"
_GATE_UP = "huggingface: {tensors: {gate_up: {from: '{p}layers.{i}.mlp.gate_up_proj', split: up_first}}}"

WRONG = {
    "heads cut wrongly": _QKV,
    "another kind of norm": "norm: layer",
    "other rotary pairs": "position: rope_interleaved",
    "gate and up exchanged": _GATE_UP,
}


@pytest.fixture(scope="module")
def phi3(tmp_path_factory):
    """A tiny Phi-3, whose heads and feed-forward are cut out of fused matrices."""
    made = make("causal", "phi3", tmp_path_factory.mktemp("coverage"))
    assert not made.reason
    return made.folder


def described(tmp_path: Path, change: str = "") -> Path:
    """The family's own description, with one thing changed."""
    (tmp_path / "described.yaml").write_text(f"{PHI3}{change}\n")
    return tmp_path / "described.yaml"


def test_a_right_description_is_right(phi3, tmp_path):
    for arch_file in (None, described(tmp_path)):
        row = prove("causal", "phi3", phi3, arch_file)
        assert row.status == "right", row
        assert row.family == "phi3"
        assert {"absorb_gains", "rotate_residual", "qk_map", "vo_map", "permute_heads", "scale_neurons"} <= {
            *row.kinds
        }
        assert row.logit_error < 1e-5
        assert row.changed == 1
        assert row.ics == pytest.approx(1, abs=1e-5)
        assert row.agreement == 1


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_description_is_wrong(phi3, tmp_path, fault):
    row = prove("causal", "phi3", phi3, described(tmp_path, WRONG[fault]))
    assert row.status == "wrong", row
    assert row.logit_error > 1e-3
    assert "alone off by" in row.reason
    assert "WRONG!" in coverage.line(row)
    assert "1 WRONG" in coverage.summary([row])


def test_refusals_crashes_and_what_was_not_built_are_told_apart(phi3, tmp_path, monkeypatch):
    config = json.loads((phi3 / "config.json").read_text())
    strange = tmp_path / "strange"
    strange.mkdir()
    for path in phi3.iterdir():
        (strange / path.name).write_bytes(path.read_bytes())
    (strange / "config.json").write_text(json.dumps(config | {"model_type": "zzz", "architectures": ["Zzz"]}))
    assert prove("causal", "zzz", strange).status == "refused"
    unbuilt = coverage.measure(Made("causal", "dbrx", phi3, "no attribute"))
    assert (unbuilt.status, unbuilt.reason) == ("unbuilt", "no attribute")

    def fails(*_: object, **__: object) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr("huref.fingerprint", fails)
    row = prove("causal", "phi3", phi3)
    assert row.status == "wrong"
    assert "IndexError" in row.reason


def test_a_process_that_dies_is_told():
    assert in_own_process(os._exit, (7,), 60) == "the process ended with 7 (limit 60 s)"
    assert in_own_process(time.sleep, (9,), 1) == "the process ended with -14 (limit 1 s)"


def test_counts():
    rows = [Row("causal", "a", "right", "llama", ("qk_map",), 1e-6, 1.0, 1.0, 1.0)]
    rows += [Row("causal", "b", "refused", reason="unknown model family"), Row("masked", "c", "unbuilt", reason="x")]
    text = coverage.summary(rows)
    assert "causal: 2 classes, 2 built, 1 read, 1 right, 0 wrong, 1 refused" in text
    assert "masked: 1 classes, 0 built, 0 read" in text
    assert "refused 1: unknown model family" in text
    assert "WRONG" not in text


def test_layers_that_stay_are_two_of_each_kind():
    section = {
        "num_hidden_layers": 12,
        "head_dim": 256,
        "layer_types": (["linear"] * 3 + ["full"]) * 3,
        "mlp_layer_types": ["dense"] + ["sparse"] * 11,
        "per_layer_config": {"3": {"head_dim": 512}, "7": {"head_dim": 512}, "11": {"head_dim": 512}},
    }
    small = shrunk(section, TEXT)
    kinds = list(zip(small["layer_types"], small["mlp_layer_types"], strict=True))
    assert kinds == [("linear", "dense"), *[("linear", "sparse")] * 2, *[("full", "sparse")] * 2]
    assert small["num_hidden_layers"] == 5
    assert small["per_layer_config"] == {"3": {"head_dim": 32}, "4": {"head_dim": 32}}


def test_models_differ_in_every_gain_and_come_out_the_same_each_time():
    first, second = (build("causal", "gemma2") for _ in range(2))
    gains = {name: p for name, p in first.named_parameters() if "norm" in name}
    assert gains
    assert all(p.std() > 0.05 for p in gains.values())
    assert (text_logits(first) == text_logits(second)).all()


def test_the_mappings_are_those_of_transformers():
    assert types_of("causal")["llama"] == "LlamaForCausalLM"
    assert types_of("masked")["bert"] == "BertForMaskedLM"
