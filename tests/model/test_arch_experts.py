"""Mixtures of experts: the union of the experts' neurons, however they are stored, and what must be refused."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from huref.cli.app import app, main
from huref.demo.tensors import as_tensor
from huref.errors import ArchitectureError, MissingTensorError
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.terms import bilinear
from huref.model.arch import CanonicalWeights, open_weights
from huref.model.arch.families import load_families
from huref.model.source import open_checkpoint
from kit.architectures import written_out
from kit.checkpoints import VOCAB, write_tokenizer
from kit.dense_terms import compact, dual, stood_for
from kit.gguf_export import write_gguf
from kit.memory_checkpoint import MemoryCheckpoint
from kit.tiny_models import saved, state_of

State = dict[str, Tensor]
MIXTRAL = written_out("mixtral")
QWEN = written_out("qwen2_moe")
EXPERT = "model.layers.{i}.block_sparse_moe.experts.{e}.{w}.weight"


def _mixtral(**changes: Any) -> MemoryCheckpoint:
    state, config = state_of("mixtral")
    return MemoryCheckpoint(state, {**config, **changes})


def _gguf(name: str, folder: Path) -> Path:
    state, config = state_of(name)
    return write_gguf(folder / "model.gguf", {key: w.numpy() for key, w in state.items()}, config)


def test_the_union_is_expert_after_expert() -> None:
    state, _ = state_of("mixtral")
    weights = open_weights(_mixtral())
    arch = weights.architecture
    assert (arch.n_experts, arch.expert_width, arch.shared_width) == (4, 48, 0)
    assert weights.geometry.d_ff == 4 * 48
    for i in range(2):
        whole = weights.feed_forward(i)
        assert whole.gate is not None
        for e in range(4):
            neurons = slice(e * 48, (e + 1) * 48)
            assert torch.equal(as_tensor(whole.gate[neurons]), state[EXPERT.format(i=i, e=e, w="w1")])
            assert torch.equal(as_tensor(whole.up[neurons]), state[EXPERT.format(i=i, e=e, w="w3")])
            assert torch.equal(as_tensor(whole.down[:, neurons]), state[EXPERT.format(i=i, e=e, w="w2")])
        assert torch.equal(
            as_tensor(weights.read(f"layers.{i}.router")), state[f"model.layers.{i}.block_sparse_moe.gate.weight"]
        )


def test_a_shared_expert_comes_last_and_a_dense_layer_is_itself() -> None:
    state, _ = state_of("qwen2-moe-mixed")
    weights = open_weights(MemoryCheckpoint(*state_of("qwen2-moe-mixed")))
    arch, mlp = weights.architecture, "model.layers.{}.mlp.{}.weight".format
    assert (arch.n_experts, arch.expert_width, arch.shared_width) == (5, 16, 24)
    assert weights.geometry.d_ff == weights.shape("layers.1.up")[0] == 5 * 16 + 24
    assert torch.equal(as_tensor(weights.read("layers.1.gate"))[-24:], state[mlp(1, "shared_expert.gate_proj")])
    assert torch.equal(as_tensor(weights.read("layers.1.down"))[:, -24:], state[mlp(1, "shared_expert.down_proj")])
    assert torch.equal(as_tensor(weights.read("layers.1.up"))[64:80], state[mlp(1, "experts.4.up_proj")])
    assert torch.equal(as_tensor(weights.read("layers.1.shared_router")), state[mlp(1, "shared_expert_gate")])
    assert torch.equal(as_tensor(weights.read("layers.0.up")), state[mlp(0, "up_proj")])
    assert "layers.0.router" not in weights
    assert "layers.0.shared_router" not in weights


def test_terms_of_the_union_are_sums_over_the_experts() -> None:
    """What makes invariants of the union those of the model: `sum_e X A_e^T B_e X^T`."""
    weights = open_weights(MemoryCheckpoint(*state_of("qwen2-moe")))
    X = weights.embedding(np.arange(60))
    x = torch.from_numpy(X).double()
    front = x * as_tensor(weights.read("layers.1.feed_forward_norm")).double()
    gate, up, down = (as_tensor(weights.read(f"layers.1.{role}")).double() for role in ("gate", "up", "down"))
    dual_rows = torch.from_numpy(dual(X))
    dual_front = dual_rows * as_tensor(weights.read("layers.1.feed_forward_norm")).double()
    bounds = [*range(0, 81, 16), 104]
    pairs, weighted = torch.zeros(60, 60).double(), torch.zeros(60, 60).double()
    for start, stop in itertools.pairwise(bounds):
        G, U, D = gate[start:stop], up[start:stop], down[:, start:stop]
        pairs += front @ G.T @ (D / D.norm(dim=0)).T @ x.T
        weighted += dual_front @ (U.T * (dual_front @ G.T).norm(dim=0)) @ D.T @ dual_rows.T
    frame = Frame.of(X)
    term = ResidualTerm.of(bilinear(weights, 1, "gate_down", Recipe("canonical")), frame)
    seen = stood_for(*compact(weights, 1, "up_down", np.arange(60), Recipe()))
    for got, expected in ((stood_for(term, frame), pairs - pairs.mean()), (seen, weighted)):
        unit, wanted = torch.from_numpy(got) / np.linalg.norm(got), expected / expected.norm()
        assert torch.allclose(unit, wanted, atol=1e-5 * float(wanted.abs().max()))


ROWS = [
    slice(None),
    slice(10, 30),
    slice(40, 200, 7),
    slice(47, 49),
    slice(48, 96),
    slice(5, 5),
    slice(-3, None),
    np.array([100, 3, 47, 48, 3, 191]),
    np.array([50, 51, 52], dtype=np.int32),
    np.array([], dtype=np.int64),
]


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("stored", ["apart", "stacked"])
def test_rows_of_the_union(rows: Any, stored: str, tmp_path: Path) -> None:
    if stored == "apart":
        weights = open_weights(_mixtral())
        _assert_rows(weights, rows)
        return
    with open_checkpoint(_gguf("mixtral", tmp_path)) as checkpoint:
        _assert_rows(open_weights(checkpoint), rows)


def _assert_rows(weights: CanonicalWeights, rows: Any) -> None:
    for role in ("gate", "up", "down"):
        whole = as_tensor(weights.read(f"layers.1.{role}"))
        wanted = rows if role != "down" else rows[rows < 32] if isinstance(rows, np.ndarray) else rows
        index = torch.from_numpy(wanted.astype(np.int64)) if isinstance(wanted, np.ndarray) else wanted
        got = as_tensor(weights.read(f"layers.1.{role}", wanted))
        assert got.dtype == whole.dtype
        assert torch.equal(got, whole[index])


def test_only_the_experts_asked_for_are_read(tmp_path: Path) -> None:
    checkpoint = _mixtral()
    weights = open_weights(checkpoint)
    assert checkpoint.bytes_read == 0
    as_tensor(weights.read("layers.0.up", np.array([49, 50, 95])))
    assert checkpoint.bytes_read == 3 * 32 * 4
    as_tensor(weights.read("layers.0.down", slice(0, 2)))
    assert checkpoint.bytes_read == 3 * 32 * 4 + 2 * 4 * 48 * 4
    with open_checkpoint(_gguf("mixtral", tmp_path)) as file:
        weights = open_weights(file)
        before = file.bytes_read
        as_tensor(weights.read("layers.0.up", np.array([49, 50, 95])))
        assert file.bytes_read - before == 3 * 32 * 4
        before = file.bytes_read
        as_tensor(weights.read("layers.0.down", slice(0, 2)))
        assert file.bytes_read - before == 2 * 4 * 48 * 4


@pytest.mark.parametrize("rows", [np.array([192]), np.array([-1, 3])], ids=str)
def test_a_row_outside_the_union_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(MissingTensorError, match="no such row"):
        open_weights(_mixtral()).read("layers.0.gate", rows)


def test_what_a_union_is_stored_in() -> None:
    weights = open_weights(MemoryCheckpoint(*state_of("qwen2-moe")))
    names = weights.stored_names("layers.0.gate")
    assert len(names) == 6
    assert weights.stored_name("layers.0.gate") == names[0] == "model.layers.0.mlp.experts.0.gate_proj.weight"
    assert names[-1] == "model.layers.0.mlp.shared_expert.gate_proj.weight"
    assert weights.stored_names("layers.0.q") == ("model.layers.0.self_attn.q_proj.weight",)


def test_types_that_differ_are_joined_in_the_finer_one() -> None:
    state, config = state_of("qwen2-moe")
    mixed = {name: w if "shared_expert." in name else w.bfloat16() for name, w in state.items()}
    weights = open_weights(MemoryCheckpoint(mixed, config))
    assert weights.stored_dtype("layers.0.up") == "BF16"
    up = as_tensor(weights.read("layers.0.up"))
    assert up.dtype == torch.float32
    assert torch.equal(up[-24:], state["model.layers.0.mlp.shared_expert.up_proj.weight"])
    assert torch.equal(up[:16], state["model.layers.0.mlp.experts.0.up_proj.weight"].bfloat16().float())
    assert as_tensor(weights.read("layers.0.up", slice(0, 80))).dtype == torch.bfloat16


def test_older_gguf_files_keep_every_expert_apart(tmp_path: Path) -> None:
    with open_checkpoint(_gguf("mixtral", tmp_path)) as checkpoint:
        apart: State = {}
        for name in checkpoint.tensors:
            tensor = as_tensor(checkpoint.read(name))
            if "_exps." not in name:
                apart[name] = tensor
                continue
            for e, matrix in enumerate(tensor):
                apart[name.replace("_exps.", f".{e}.")] = matrix
        stacked = open_weights(checkpoint)
        weights = open_weights(MemoryCheckpoint(apart, {}, "gguf", checkpoint.metadata))
        for name in stacked.names():
            assert torch.equal(as_tensor(weights.read(name)), as_tensor(stacked.read(name))), name


def test_older_qwen_moe_gguf_files_do_not_tell_the_experts_widths(tmp_path: Path) -> None:
    state, config = state_of("qwen2-moe")
    config = {**config, "intermediate_size": 32, "shared_expert_intermediate_size": 32}
    shared = [name for name in state if ".shared_expert." in name]
    wide = {name: torch.randn(32, 32) if name in shared else w for name, w in state.items()}
    path = write_gguf(tmp_path / "model.gguf", {key: w.numpy() for key, w in wide.items()}, config)
    with open_checkpoint(path) as checkpoint:
        old = {key: value for key, value in checkpoint.metadata.items() if "expert_" not in key}
        old |= {"qwen2moe.expert_count": 5, "qwen2moe.expert_used_count": 2}
        tensors = {name: as_tensor(checkpoint.read(name)) for name in checkpoint.tensors}
        arch = open_weights(MemoryCheckpoint(tensors, {}, "gguf", old)).architecture
    assert (arch.n_experts, arch.expert_width, arch.shared_width) == (5, 16, 32)


def test_quantised_stacks_are_read_by_rows(tmp_path: Path) -> None:
    state, _ = state_of("mixtral")
    path = _gguf("mixtral", tmp_path)
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "q8.gguf", "llama")
    for key, value in (("block_count", 2), ("embedding_length", 32), ("feed_forward_length", 48)):
        writer.add_uint32(f"llama.{key}", value)
    for key, value in (("attention.head_count", 4), ("attention.head_count_kv", 2), ("expert_count", 4)):
        writer.add_uint32(f"llama.{key}", value)
    for tensor in reader.tensors:
        values = np.asarray(tensor.data, np.float32)
        if "ffn_up_exps" in tensor.name or "ffn_gate_exps" in tensor.name:
            raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_checkpoint(tmp_path / "q8.gguf") as checkpoint:
        weights = open_weights(checkpoint)
        assert weights.stored_dtype("layers.0.up") == "Q8_0"
        whole = as_tensor(weights.read("layers.0.up"))
        expected = torch.cat([state[EXPERT.format(i=0, e=e, w="w3")] for e in range(4)])
        assert torch.allclose(whole, expected, atol=0.01)
        rows = np.array([150, 2, 60])
        before = checkpoint.bytes_read
        assert torch.equal(as_tensor(weights.read("layers.0.up", rows)), whole[torch.from_numpy(rows)])
        assert checkpoint.bytes_read - before == 3 * 34


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_tables_of_any_format(suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    stack = torch.randn(3, 4, 5)
    tensors = {"stack": stack, "turned": torch.randn(3, 5, 4).transpose(1, 2), "vector": torch.randn(7)}
    path = tmp_path / f"model.{suffix}"
    if suffix == "bin":
        torch.save(tensors, path)
    else:
        save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    with open_checkpoint(path) as checkpoint:
        for name, tensor in tensors.items():
            table = tensor.reshape(-1, tensor.shape[-1])
            rows = np.array([len(table) - 1, 0])
            assert torch.equal(as_tensor(checkpoint.read_table(name)), table)
            assert torch.equal(as_tensor(checkpoint.read_table(name, rows)), table[torch.from_numpy(rows)])
            assert torch.equal(as_tensor(checkpoint.read_table(name, slice(0, 1))), table[:1])


def test_a_missing_expert_is_named() -> None:
    for e in (0, 2, 3):
        state, config = state_of("mixtral")
        name = EXPERT.format(i=1, e=e, w="w3")
        del state[name]
        with pytest.raises(MissingTensorError) as caught:
            open_weights(MemoryCheckpoint(state, config))
        assert caught.value.expected == name


@pytest.mark.parametrize("role", ["block_sparse_moe.gate", "mlp.shared_expert_gate", "mlp.shared_expert.up_proj"])
def test_a_missing_router_or_shared_expert_is_named(role: str) -> None:
    state, config = state_of("mixtral" if "block" in role else "qwen2-moe")
    name = f"model.layers.1.{role}.weight"
    del state[name]
    with pytest.raises(MissingTensorError, match=re.escape(name)):
        open_weights(MemoryCheckpoint(state, config))


def test_more_experts_stored_than_configured() -> None:
    with pytest.raises(ArchitectureError) as caught:
        open_weights(_mixtral(num_local_experts=3))
    assert (caught.value.expected, caught.value.got) == ("3 experts", "tensors of expert 3, counted from 0")


def test_fewer_experts_stored_than_configured() -> None:
    with pytest.raises(ArchitectureError, match=r"block_sparse_moe\.gate"):
        open_weights(_mixtral(num_local_experts=5))
    state, config = state_of("mixtral")
    routers = {name: torch.ones(5, 32) for name in state if name.endswith("block_sparse_moe.gate.weight")}
    with pytest.raises(MissingTensorError, match=re.escape(EXPERT.format(i=0, e=4, w="w1"))):
        open_weights(MemoryCheckpoint({**state, **routers}, {**config, "num_local_experts": 5}))


@pytest.mark.parametrize("count", [0, -4, 1025, 2**40, 2.5, "4", True, None, float("inf")])
def test_expert_counts_that_are_refused(count: Any) -> None:
    with pytest.raises(ArchitectureError, match="n_experts"):
        open_weights(_mixtral(num_local_experts=count))


def test_stacks_of_another_size_are_refused(tmp_path: Path) -> None:
    with open_checkpoint(_gguf("mixtral", tmp_path)) as checkpoint:
        tensors = {name: as_tensor(checkpoint.read(name)) for name in checkpoint.tensors}
        metadata = checkpoint.metadata
    for shape in [(5, 48, 32), (4, 47, 32), (4, 48, 33), (4 * 48, 32), (48, 32), (), (1, 4, 48, 32)]:
        changed = {**tensors, "blk.1.ffn_up_exps.weight": torch.ones(shape)}
        with pytest.raises(ArchitectureError) as caught:
            open_weights(MemoryCheckpoint(changed, {}, "gguf", metadata))
        assert "blk.1.ffn_up_exps.weight" in caught.value.where
        assert (caught.value.expected, caught.value.got) == ("(4, 48, 32)", str(shape))


def test_an_expert_of_another_width_is_refused() -> None:
    state, config = state_of("mixtral")
    name = EXPERT.format(i=1, e=2, w="w2")
    with pytest.raises(ArchitectureError, match=re.escape(name)):
        open_weights(MemoryCheckpoint({**state, name: torch.ones(32, 47)}, config))


def _with_bias(state: State) -> None:
    state["model.layers.0.mlp.experts.1.up_proj.bias"] = torch.ones(16)


def _half_dense(state: State) -> None:
    state["model.layers.1.mlp.up_proj.weight"] = torch.ones(48, 32)
    for e in range(5):
        del state[f"model.layers.1.mlp.experts.{e}.up_proj.weight"]


def _router_in_a_dense_layer(state: State) -> None:
    state["model.layers.0.mlp.gate.weight"] = torch.ones(5, 32)


@pytest.mark.parametrize("change", [_with_bias, _half_dense, _router_in_a_dense_layer])
def test_layers_that_are_neither_sparse_nor_dense(change: Callable[[State], None]) -> None:
    state, config = state_of("qwen2-moe-mixed")
    change(state)
    with pytest.raises(MissingTensorError, match=r"mlp\.(gate|up_proj|experts\.1)"):
        open_weights(MemoryCheckpoint(state, config))


@pytest.mark.parametrize(
    "changes", [{"num_hidden_layers": 2**27}, {"num_hidden_layers": 70, "num_local_experts": 1024}]
)
def test_absurd_configurations_are_refused_at_once(changes: dict[str, int]) -> None:
    checkpoint = _mixtral(**changes)
    started = time.process_time()
    with pytest.raises(MissingTensorError) as caught:
        open_weights(checkpoint)
    assert time.process_time() - started < 2
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    ("text", "old", "new", "named"),
    [
        (MIXTRAL, "  n_experts: num_local_experts\n", "", "n_experts"),
        (MIXTRAL, "  expert_width: intermediate_size\n", "", "expert_width"),
        (QWEN, "  shared_width: shared_expert_intermediate_size\n", "", "shared_width"),
        (MIXTRAL, "experts.{e}.w3", "w3", "all or none"),
        (MIXTRAL, "self_attn.q_proj", "self_attn.{e}.q_proj", "only gate, up and down"),
        (MIXTRAL, "blk.{i}.ffn_up_exps[e]", "blk.{i}.ffn_up.{e}[e]", "not both"),
        (MIXTRAL, "blk.{i}.ffn_up_exps[e]", "ffn_up_exps[e]", "needs {i}"),
        (QWEN, "shared_expert.up_proj", "shared_expert.{e}.up_proj", "one, beside others"),
        (QWEN, "\n      shared: '{p}layers.{i}.mlp.shared_expert.up_proj'", "", "all or none"),
    ],
)
def test_an_architecture_file_that_misplaces_experts(
    text: str, old: str, new: str, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ArchitectureError) as caught:
        load_families(path)
    assert named in str(caught.value)


def test_one_sparse_family_under_another_s_name_is_refused() -> None:
    state, config = state_of("mixtral")
    fused = {re.sub(r"experts\.\d\.", "experts.", name): w for name, w in state.items()}
    for other in (state, fused):
        strange = {**config, "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]}
        with pytest.raises(MissingTensorError, match="variant"):
            open_weights(MemoryCheckpoint(other, strange))


@pytest.fixture(scope="module")
def mixtrals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two unrelated checkpoints of a tiny Mixtral, with a tokenizer."""
    import transformers

    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.from_pretrained(saved("mixtral"), vocab_size=VOCAB)
        folder = tmp_path_factory.mktemp("mixtral") / f"mix{seed}"
        transformers.MixtralForCausalLM(config).save_pretrained(folder)
        write_tokenizer(folder, range(VOCAB))
        folders.append(folder)
    return folders


def test_the_command_line_takes_a_mixture(mixtrals: list[Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["fingerprint", str(mixtrals[0]), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "mixtral, 2 layers" in done.output
    assert (tmp_path / "mix0.png").is_file()
    same = run(app, ["compare", str(mixtrals[0]), str(mixtrals[0])])
    assert (same.exit_code, "identical" in same.output) == (0, True)
    other = run(app, ["compare", str(mixtrals[0]), str(mixtrals[1])])
    assert "identical" not in other.output
    assert other.exit_code in (0, 3)


def test_a_mixture_that_lost_an_expert_ends_with_a_message(
    mixtrals: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((mixtrals[0] / file).read_bytes())
    state = load_file(mixtrals[0] / "model.safetensors")
    del state[EXPERT.format(i=1, e=3, w="w2")]
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr("sys.argv", ["huref", "fingerprint", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert EXPERT.format(i=1, e=3, w="w2") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
