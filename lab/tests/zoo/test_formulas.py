"""The zoo's surgery, merges and quantisers: laws, and oracles in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from huref.demo.tensors import float_tensor
from huref.model.model import open_model
from huref_lab.training.language_models import fresh_model, logits, seeded, train_tokenizer
from huref_lab.zoo import cuts, merges
from huref_lab.zoo.plan import SMALL, family
from huref_lab.zoo.quantisation import NF4, through_int8, through_nf4, write_gguf
from huref_lab.zoo.stored import Stored, is_projection, layer_of, read_stored, take_layers, with_rows, write_stored
from huref_lab.zoo.surgery import extend_tokenizer, frequent_words
from huref_lab.zoo.training import save_model
from huref_lab.zoo.tuning import add_low_rank, corrupted, merge_low_rank, preference_loss

VOCABULARY = 300
TEXT = "def function(value):\n    return value + 1  # the quick brown fox\n" * 40
FAMILIES = ("llama-tied", "llama-untied", "gpt2", "gpt_neox", "mixtral", "gemma")


@pytest.fixture(scope="module")
def tokenizer() -> str:
    return train_tokenizer(TEXT, VOCABULARY)


def model_of(label: str, seed: int = 0) -> Any:
    model_type, sizes = family(label, SMALL)
    with seeded(seed):
        return fresh_model(model_type, sizes, VOCABULARY, "eager").eval()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tokenizer: str) -> dict[str, Stored]:
    """Every family with random weights, as transformers writes it; one of two seeds has a name of its own."""
    place = tmp_path_factory.mktemp("stored")
    found = {}
    for label in FAMILIES:
        save_model(place / label, model_of(label), tokenizer.encode())
        found[label] = read_stored(place / label)
    save_model(place / "other", model_of("llama-tied", 1), tokenizer.encode())
    return {**found, "other": read_stored(place / "other")}


def load(folder: Path, found: Stored) -> Any:
    from transformers import AutoModelForCausalLM

    write_stored(folder, found)
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    assert not report["mismatched_keys"], report
    return model.eval()


def scores(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=torch.arange(1, 24)[None]).logits
    return found


@pytest.mark.parametrize("label", FAMILIES)
def test_layers_in_another_order_are_the_layers(label: str, stored: dict[str, Stored], tmp_path: Path) -> None:
    parent = stored[label]
    child = take_layers([parent], [(0, 1), (0, 0), (0, 1)])
    assert child.depth == 3
    for name, tensor in child.tensors.items():
        layer = layer_of(name)
        origin = name if layer is None else name.replace(f".{layer}.", f".{[1, 0, 1][layer]}.", 1)
        assert torch.equal(tensor, parent.tensors[origin])
    load(tmp_path / "child", child)


def test_dropping_and_scaling_up_keep_the_order_of_layers(stored: dict[str, Stored]) -> None:
    deep = take_layers([stored["gpt2"]], [(0, i % 2) for i in range(6)])
    numbered = deep.changed(lambda name, t: torch.full_like(t, layer_of(name) if layer_of(name) is not None else -1))

    def order(found: Stored) -> list[int]:
        return [int(found.tensors[f"transformer.h.{i}.ln_1.weight"][0]) for i in range(found.depth)]

    assert order(cuts.drop_layers(numbered, [1, 4])) == [0, 2, 3, 5]
    assert order(cuts.scale_up(numbered, 2)) == [0, 1, 2, 3, 2, 3, 4, 5]


def test_a_stack_of_two_takes_each_layer_from_its_model(stored: dict[str, Stored]) -> None:
    a, b = stored["llama-tied"], stored["other"]
    child = take_layers([a, b], [(0, 0), (1, 1)])
    for name, tensor in child.tensors.items():
        origin = b if layer_of(name) == 1 else a
        assert torch.equal(tensor, origin.tensors[name])
    assert not torch.equal(a.tensors["model.embed_tokens.weight"], b.tensors["model.embed_tokens.weight"])


def is_block(small: Tensor, large: Tensor) -> bool:
    """Whether a matrix is rows and columns of another in their order (values are all different in these models)."""
    where = {float(x): tuple(i) for x, i in zip(large.flatten(), np.ndindex(large.shape), strict=True)}
    places = np.array([where.get(float(x), (-1,) * large.ndim) for x in small.flatten()])
    if (places < 0).any():
        return False
    places = places.reshape(*small.shape, large.ndim)
    axes = [np.unique(places[..., axis]) for axis in range(large.ndim)]
    return torch.equal(small, large[np.ix_(*axes)])


@pytest.mark.parametrize("label", FAMILIES)
def test_pruned_neurons_are_the_weakest_and_the_rest_is_a_block(
    label: str, stored: dict[str, Stored], tmp_path: Path
) -> None:
    parent = stored[label]
    child = cuts.prune_neurons(parent, 0.75)
    changed = {name for name, tensor in child.tensors.items() if tensor.shape != parent.tensors[name].shape}
    assert changed
    for name, tensor in child.tensors.items():
        if name not in changed:
            assert torch.equal(tensor, parent.tensors[name])
        elif tensor.ndim == 2:
            assert is_block(tensor, parent.tensors[name]), name
    load(tmp_path / "child", child)


def test_the_longest_neurons_stay() -> None:
    names = {f"model.layers.0.mlp.{part}_proj.weight": part for part in ("gate", "up", "down")}
    dice = np.random.default_rng(1)
    arrays = {name: dice.normal(size=(6, 16) if part == "down" else (16, 6)) for name, part in names.items()}
    tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    child = cuts.prune_neurons(Stored(tensors, {"num_hidden_layers": 1}, b""), 0.5)
    gate, up, down = arrays.values()
    length = np.linalg.norm(gate, axis=1) * np.linalg.norm(up, axis=1) * np.linalg.norm(down, axis=0)
    keep = np.sort(np.argsort(-length)[:8])
    assert child.config["intermediate_size"] == 8
    expected = (gate[keep], up[keep], down[:, keep])
    for found, oracle in zip(child.tensors.values(), expected, strict=True):
        assert np.allclose(found, oracle, atol=1e-6)


def test_a_group_of_heads_goes_with_its_queries(stored: dict[str, Stored], tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    with seeded(3):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=48,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=6,
                num_key_value_heads=3,
                head_dim=8,
                pad_token_id=0,
            )
        )
    save_model(tmp_path / "parent", model, stored["other"].tokenizer)
    parent = read_stored(tmp_path / "parent")
    child = cuts.prune_groups(parent, 2)
    assert (child.config["num_attention_heads"], child.config["num_key_value_heads"]) == (4, 2)
    for i in range(2):
        o = parent.tensors[f"model.layers.{i}.self_attn.o_proj.weight"].numpy()
        loudness = [np.linalg.norm(o[:, 16 * g : 16 * g + 16]) for g in range(3)]
        kept = sorted(np.argsort(loudness)[1:])
        q_rows = np.concatenate([np.arange(16 * g, 16 * g + 16) for g in kept])
        k_rows = np.concatenate([np.arange(8 * g, 8 * g + 8) for g in kept])
        for part, rows in (("q", q_rows), ("k", k_rows), ("v", k_rows)):
            name = f"model.layers.{i}.self_attn.{part}_proj.weight"
            assert torch.equal(child.tensors[name], parent.tensors[name][rows])
        assert np.array_equal(child.tensors[f"model.layers.{i}.self_attn.o_proj.weight"], o[:, q_rows])
    load(tmp_path / "child", child)


@pytest.mark.parametrize("label", FAMILIES)
def test_half_of_the_weights_go_and_they_are_the_smallest(label: str, stored: dict[str, Stored]) -> None:
    parent = stored[label]
    child = cuts.sparsify(parent, 0.5)
    for name, tensor in child.tensors.items():
        before = parent.tensors[name]
        if not is_projection(name, before):
            assert torch.equal(tensor, before)
            continue
        is_left = tensor != 0
        assert is_left.float().mean() == pytest.approx(0.5, abs=0.01)
        assert torch.equal(tensor[is_left], before[is_left])
        assert before[~is_left].abs().max() <= before[is_left].abs().min()


def test_experts_without_noise_compute_what_the_dense_model_did(stored: dict[str, Stored], tmp_path: Path) -> None:
    parent = stored["llama-tied"]
    child = cuts.upcycle(parent, 3, 0.0, 7)
    for name, tensor in child.tensors.items():
        if ".experts." in name:
            kind = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[name.split(".")[-2]]
            assert torch.equal(tensor, parent.tensors[f"model.layers.{layer_of(name)}.mlp.{kind}.weight"])
    found, expected = scores(load(tmp_path / "child", child)), scores(load(tmp_path / "parent", parent))
    assert torch.allclose(found, expected, atol=1e-5)
    noisy = cuts.upcycle(parent, 3, 0.1, 7)
    first, second = (noisy.tensors[f"model.layers.0.block_sparse_moe.experts.{e}.w1.weight"] for e in (0, 1))
    dense = parent.tensors["model.layers.0.mlp.gate_proj.weight"]
    assert torch.equal(first, dense)
    assert float((second - dense).std() / dense.std()) == pytest.approx(0.1, rel=0.1)


arrays = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).normal(size=(3, 5, 7)).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(three=arrays, density=st.floats(0.05, 1.0), scale=st.floats(0.1, 2.0))
def test_ties_follows_its_paper(three: np.ndarray, density: float, scale: float) -> None:
    base, *children = three
    kept = max(1, round(density * base.size))
    changes = []
    for child in children:
        change = (child - base).flatten()
        change[np.argsort(np.abs(change))[: base.size - kept]] = 0
        changes.append(change)
    merged = np.zeros(base.size)
    for j in range(base.size):
        column = [change[j] for change in changes]
        sign = np.sign(sum(column))
        agreeing = [x for x in column if x and np.sign(x) == sign]
        merged[j] = np.mean(agreeing) if agreeing else 0.0
    found = merges.ties(torch.from_numpy(base), [torch.from_numpy(c) for c in children], density, scale)
    assert np.allclose(found, base + scale * merged.reshape(base.shape), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(three=arrays, t=st.floats(0, 1))
def test_slerp_linear_and_task_arithmetic_follow_their_formulas(three: np.ndarray, t: float) -> None:
    base, a, b = three
    tensors = [torch.from_numpy(x) for x in three]
    omega = np.arccos(np.sum(a * b, dtype=np.float64) / (np.linalg.norm(a) * np.linalg.norm(b)))
    expected = (np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega)
    assert np.allclose(merges.slerp(tensors[1], tensors[2], t), expected, atol=1e-4)
    assert np.allclose(merges.linear(tensors[1:], [1 - t, t]), (1 - t) * a + t * b, atol=1e-5)
    expected = base + t * ((a - base) + (b - base))
    assert np.allclose(merges.task_arithmetic(tensors[0], tensors[1:], t), expected, atol=1e-5)


def test_slerp_of_parallel_and_empty_tensors_is_linear() -> None:
    a = torch.arange(1.0, 7.0)
    assert torch.allclose(merges.slerp(a, 3 * a, 0.5), 2 * a)
    assert torch.equal(merges.slerp(torch.zeros(4), torch.zeros(4), 0.3), torch.zeros(4))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([1e-6, 1.0, 1e4]))
def test_eight_bits_round_by_at_most_half_a_step_of_the_row(seed: int, size: float) -> None:
    tensor = size * torch.randn(5, 32, generator=torch.Generator().manual_seed(seed))
    found = through_int8(tensor)
    step = tensor.abs().amax(1, keepdim=True) / 127
    assert bool(((found - tensor).abs() <= step * 0.5001).all())
    assert len((found / step).round().unique()) <= 255
    assert torch.allclose(through_int8(found), found, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_four_bits_take_the_nearest_of_sixteen_values(seed: int) -> None:
    tensor = torch.randn(3, 128, generator=torch.Generator().manual_seed(seed))
    blocks = tensor.numpy().reshape(-1, 64)
    scale = np.abs(blocks).max(1, keepdims=True)
    table = np.array(NF4, dtype=np.float32)
    nearest = table[np.abs(blocks[..., None] / scale[..., None] - table).argmin(-1)] * scale
    assert np.allclose(through_nf4(tensor).numpy().reshape(-1, 64), nearest, atol=1e-6)


def test_sixteen_values_are_quantiles_of_the_normal_law() -> None:
    """QLoRA's construction: 8 steps up from the median, 7 down, from tails of 1 - 0.9677083."""
    from statistics import NormalDist

    law = NormalDist()
    high = [law.inv_cdf(p) for p in np.linspace(0.9677083, 0.5, 9)[:-1]]
    low = [-law.inv_cdf(p) for p in np.linspace(0.9677083, 0.5, 8)[:-1]]
    assert np.allclose(NF4, np.sort([*high, 0.0, *low]) / max(high), atol=1e-6)


@pytest.mark.parametrize("label", ["llama-tied", "llama-untied"])
@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q4_0", 0.15)])
def test_gguf_is_the_model_to_its_precision(
    label: str, kind: str, error: float, stored: dict[str, Stored], tmp_path: Path
) -> None:
    write_stored(tmp_path / "parent", stored[label])
    write_gguf(tmp_path / "child.gguf", stored[label], kind)
    a, b = open_model(tmp_path / "parent"), open_model(tmp_path / "child.gguf")
    with a.weights.checkpoint, b.weights.checkpoint:
        assert a.vocabulary.tokens == b.vocabulary.tokens
        assert a.weights.geometry == b.weights.geometry
        for role in ("q", "k", "v", "o", "gate", "up", "down"):
            x, y = (float_tensor(model.weights.read(f"layers.1.{role}")) for model in (a, b))
            assert 0 < float((x - y).norm() / x.norm()) < error, role


@pytest.mark.parametrize("label", ["llama-tied", "llama-untied", "gpt2", "gpt_neox"])
def test_new_words_are_one_token_and_the_mean_of_their_pieces(
    label: str, stored: dict[str, Stored], tmp_path: Path
) -> None:
    from tokenizers import Tokenizer

    parent = stored[label]
    words = frequent_words(parent.tokenizer.decode(), "astonishing astonishing zebra zebra the " * 9, 2)
    assert words == ["astonishing", "zebra"]
    tokenizer, pieces = extend_tokenizer(parent.tokenizer.decode(), words)
    n = len(json.loads(parent.tokenizer)["model"]["vocab"])
    assert Tokenizer.from_str(tokenizer).encode("zebra").ids == [n + 1]
    child = with_rows(
        parent,
        lambda t: torch.cat([t[:n], torch.stack([t[torch.tensor(p)].mean(0) for p in pieces])]),
        tokenizer.encode(),
    )
    model = load(tmp_path / "child", child)
    assert model.config.vocab_size == n + 2
    assert scores(model).shape[-1] == n + 2


@pytest.mark.parametrize("label", ["llama-tied", "gpt2", "gpt_neox", "mixtral"])
def test_a_merged_low_rank_update_has_that_rank(label: str) -> None:
    model = model_of(label)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    modules = add_low_rank(model, 3, 6.0, 0)
    assert len(modules) == {"llama-tied": 8, "mixtral": 8}.get(label, 4)
    for module in modules:
        torch.nn.init.normal_(module.parametrizations.weight[0].B)
    with torch.no_grad():
        expected = scores(model)
        merge_low_rank(modules)
        assert torch.allclose(scores(model), expected, atol=1e-5)
    changed = 0
    for name, parameter in model.named_parameters():
        delta = (parameter.detach() - before[name]).double()
        if delta.abs().max() > 0:
            changed += 1
            assert int(torch.linalg.matrix_rank(delta, rtol=1e-4)) == 3, name
    assert changed == len(modules)


def test_no_preference_is_the_logarithm_of_two_and_learning_lowers_it() -> None:
    model, reference = model_of("gpt2"), model_of("gpt2")
    real = torch.randint(VOCABULARY, (4, 17), generator=torch.Generator().manual_seed(0))
    spoilt = corrupted(real, real, 0.5, torch.Generator().manual_seed(1))
    assert torch.equal(real[:, 0], spoilt[:, 0])
    assert float(preference_loss(model, reference, real, spoilt, 0.1).detach()) == pytest.approx(np.log(2), abs=1e-6)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    preference_loss(model, reference, real, spoilt, 0.1).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    assert float(preference_loss(model, reference, real, spoilt, 0.1).detach()) < np.log(2)


def test_the_preference_loss_follows_its_formula() -> None:
    model, reference = model_of("llama-tied", 1), model_of("llama-tied", 2)
    dice = torch.Generator().manual_seed(0)
    chosen, rejected = (torch.randint(VOCABULARY, (3, 9), generator=dice) for _ in range(2))

    def log_probability(network: Any, row: Tensor) -> float:
        with torch.no_grad():
            found = logits(network, row[None])[0].double().numpy()
        found = found - np.log(np.exp(found).sum(1, keepdims=True))
        return float(sum(found[i, token] for i, token in enumerate(row[1:].tolist())))

    margins = [
        (log_probability(model, c) - log_probability(reference, c))
        - (log_probability(model, r) - log_probability(reference, r))
        for c, r in zip(chosen, rejected, strict=True)
    ]
    expected = np.mean([np.log1p(np.exp(-0.1 * margin)) for margin in margins])
    with torch.no_grad():
        found = float(preference_loss(model, reference, chosen, rejected, 0.1))
    assert found == pytest.approx(expected, abs=2e-4)
