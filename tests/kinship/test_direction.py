"""Which of two came first, on real checkpoints: told where what was added is zero, a copy or an average, else not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import huref
from huref.kinship.record import CompareOptions
from kit.tiny_llama import TinyLlama, tokenizer_json

State = dict[str, Tensor]
SIZES = {"width": 64, "n_layers": 2}


def made(folder: Path, change: Callable[[State], State] = dict, **config: object) -> Path:
    """A tiny Llama after a change of its tensors and its configuration."""
    path = TinyLlama(**SIZES).save(folder)  # type: ignore[arg-type]
    file = path / "model.safetensors"
    save_file({name: x.contiguous() for name, x in change(load_file(file)).items()}, file, {"format": "pt"})
    (path / "config.json").write_text(json.dumps({**json.loads((path / "config.json").read_text()), **config}))
    return path


def derivation(a: Path, b: Path) -> tuple[str, str]:
    found = huref.compare(a, b, CompareOptions(method="agreement")).derivation
    assert found is not None
    return found["kind"], found["direction"]


def widened(added: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    """32 more neurons in every layer."""

    def change(state: State) -> State:
        for name, x in state.items():
            if "mlp" in name:
                axis = 1 if "down" in name else 0
                state[name] = torch.cat([x, added(x.narrow(axis, 0, 32))], dim=axis)
        return state

    return change


@pytest.mark.parametrize(
    ("added", "expected"),
    [(torch.zeros_like, ("padded", "b from a")), (torch.randn_like, ("width-changed", "unknown"))],
)
def test_added_neurons(added: Callable[[Tensor], Tensor], expected: tuple[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, wider = made(tmp_path / "a"), made(tmp_path / "b", widened(added), intermediate_size=160)
    assert derivation(base, wider) == expected
    assert derivation(wider, base) == (expected[0], expected[1].replace("b from a", "a from b"))


def extended(rows: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    def change(state: State) -> State:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            state[name] = torch.cat([state[name], rows(state[name])])
        return state

    return change


@pytest.mark.parametrize(
    ("rows", "direction"),
    [
        (lambda x: torch.zeros(50, x.shape[1]), "b from a"),
        (lambda x: x.mean(dim=0).expand(50, -1) + 0.01 * torch.randn(50, x.shape[1]), "b from a"),
        (lambda x: torch.randn(50, x.shape[1]), "unknown"),
        (lambda x: torch.randn(1, x.shape[1]).expand(50, -1), "unknown"),  # tokens that no training met are alike too
    ],
    ids=["zero", "average", "trained", "alike"],
)
def test_added_tokens(rows: Callable[[Tensor], Tensor], direction: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base, longer = made(tmp_path / "a"), made(tmp_path / "b", extended(rows), vocab_size=450)
    document = json.loads(tokenizer_json(400))
    document["model"]["vocab"] |= {f"added{i}": 400 + i for i in range(50)}
    (longer / "tokenizer.json").write_text(json.dumps(document))
    assert derivation(base, longer) == ("vocabulary-changed", direction)
    assert derivation(longer, base) == ("vocabulary-changed", direction.replace("b from a", "a from b"))
    whole = huref.compare(base, longer)  # which reads every weight: none but these rows is another
    assert whole.derivation is not None and whole.derivation["direction"] == direction
    assert whole.derivation["kind"] == "vocabulary-changed"
    assert "every stored weight is equal but for the number of embedding rows" in whole.notes


@pytest.mark.parametrize(
    ("is_repeated", "expected"), [(True, ("up-cycled", "b from a")), (False, ("experts-changed", "unknown"))]
)
def test_experts(is_repeated: bool, expected: tuple[str, str], tmp_path: Path) -> None:
    """A mixture whose experts are the dense block four times, and one that holds it once."""
    torch.manual_seed(0)

    def mixture(state: State) -> State:
        for name in [name for name in state if "mlp" in name]:
            x, (start, role) = state.pop(name), name.split("mlp.")
            slot = {"gate_proj.weight": "w1", "up_proj.weight": "w3", "down_proj.weight": "w2"}[role]
            for k in range(4):
                expert = x + 0.01 * torch.randn_like(x) if is_repeated or not k else torch.randn_like(x)
                state[f"{start}block_sparse_moe.experts.{k}.{slot}.weight"] = expert
            state[f"{start}block_sparse_moe.gate.weight"] = torch.randn(4, SIZES["width"])
        return state

    sparse = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4}
    base = made(tmp_path / "a")
    assert derivation(base, made(tmp_path / "b", mixture, num_experts_per_tok=2, **sparse)) == expected
