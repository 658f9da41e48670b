"""Shared fixtures: no network, tiny models with real tokenizers, a tiny generator, the command line in-process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)

# A slow or shared machine fails no test: properties are about answers, not about seconds.
settings.register_profile("huref", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("huref")


@dataclass(frozen=True)
class Outcome:
    """What one run of the command line left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; anything else there is an error."""
        return json.loads(self.out)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `huref ARGUMENTS...` as the console script does, without a new process."""
    from huref.cli.app import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["huref", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(int(ended.value.code or 0), out, err)

    return run


@cache
def tokenizer_json(n_tokens: int) -> str:
    """A byte-level BPE tokenizer with `n_tokens` entries, two of them special."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in "lmnrst"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(words)] * 3, trainer)
    assert tokenizer.get_vocab_size() == n_tokens
    return tokenizer.to_str()


@dataclass(frozen=True)
class TinyLlama:
    """A random Llama checkpoint, 32 wide, of `n_layers` layers and `n_tokens` tokens, as Hugging Face stores it."""

    seed: int = 0
    n_tokens: int = 400
    n_layers: int = 3
    width: int = 32
    noise: float = 0.0
    dtype: str = "float32"

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": 2 * self.width,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": self.n_tokens,
            "tie_word_embeddings": False,
        }

    def tensors(self) -> dict[str, Any]:
        import torch

        d, f = self.width, 2 * self.width
        shapes = {"model.embed_tokens": (self.n_tokens, d), "model.norm": (d,), "lm_head": (self.n_tokens, d)}
        for layer in range(self.n_layers):
            for role, shape in {
                "self_attn.q_proj": (d, d),
                "self_attn.k_proj": (d // 2, d),
                "self_attn.v_proj": (d // 2, d),
                "self_attn.o_proj": (d, d),
                "mlp.gate_proj": (f, d),
                "mlp.up_proj": (f, d),
                "mlp.down_proj": (d, f),
                "input_layernorm": (d,),
                "post_attention_layernorm": (d,),
            }.items():
                shapes[f"model.layers.{layer}.{role}"] = shape
        random = torch.Generator().manual_seed(self.seed)
        tensors = {f"{name}.weight": torch.randn(shape, generator=random) for name, shape in shapes.items()}
        added = torch.Generator().manual_seed(self.seed + 1000)
        return {
            name: (t + self.noise * torch.randn(t.shape, generator=added)).to(getattr(torch, self.dtype))
            for name, t in tensors.items()
        }

    def save(self, folder: Path) -> Path:
        """Write the checkpoint and its tokenizer."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True)
        save_file(self.tensors(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config))
        (folder / "tokenizer.json").write_text(tokenizer_json(self.n_tokens))
        return folder


@pytest.fixture(scope="session")
def tiny_llama() -> type[TinyLlama]:
    """`tiny_llama(seed=1).save(folder)` writes a model; see `TinyLlama`."""
    return TinyLlama


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, an equal copy, the base in bfloat16, one a little trained, a deeper one, and a stranger. Read-only."""
    home = tmp_path_factory.mktemp("models")
    family = {
        "base": TinyLlama(),
        "copy": TinyLlama(),
        "rounded": TinyLlama(dtype="bfloat16"),
        "child": TinyLlama(noise=0.05),
        "deeper": TinyLlama(n_layers=5),
        "stranger": TinyLlama(seed=1),
    }
    return {name: model.save(home / name) for name, model in family.items()}


@pytest.fixture
def dogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random 16-pixel generator in place of the shipped one: these tests are about files, not dogs."""
    monkeypatch.setattr("huref.portraits.generator.file.shipped_generator", _tiny_generator)


@cache
def _tiny_generator() -> Any:
    import torch

    from huref.portraits.generator.stylegan2 import Generator, StyleGAN2Config

    config = StyleGAN2Config(resolution=16, channel_base=256, channel_max=16, mapping_layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(config).eval().requires_grad_(False)
