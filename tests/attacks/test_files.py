"""`huref attack` on real files: what it writes loads elsewhere, its tokenizer follows, what fails leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors

from huref.attacks import KINDS, AttackOptions, attack, kinds, logit_error
from huref.errors import InconclusiveError, OutputError, TokenizerError, UsageError
from huref.forward.decoder import load_decoder
from huref.forward.passes import logits
from huref.forward.renumbering import renumber_config, renumber_files, renumberable_ids
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.model.tokens import load_vocabulary
from kit.command_line import Outcome
from kit.llamas import write_tiny_gguf
from kit.tiny_llama import TinyLlama
from kit.tiny_models import saved, tiny_model
from kit.tiny_tokenizers import byte_level_bpe, converted_bpe, corpus_lines, unigram, wordpiece

Cli = Callable[..., Outcome]
IDS = np.array([[5, 17, 3, 88, 41, 41, 9, 60, 23, 11]])


def _by_transformers(model: Any) -> np.ndarray:
    """Logits in float64."""
    with torch.no_grad():
        return model(torch.from_numpy(IDS)).logits.double().numpy()


def _copy(name: str, folder: Path, **config: Any) -> Path:
    """A tiny model's folder that a test may spoil."""
    folder.mkdir()
    for path in saved(name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **config}))
    return folder


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "qwen2-moe"])
def test_transformers_loads_the_folder(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    result = attack(saved(name), tmp_path / "out", AttackOptions(("all",), seed=5))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").float().eval()
    assert logit_error(_by_transformers(tiny_model(name)), _by_transformers(model)) < 1e-5
    assert result.error < 1e-6 and result.changed > 0.9
    assert result.n_layers == (2, 3)


def test_an_export_without_prefix_gets_one_when_its_head_comes_loose(tmp_path: Path) -> None:
    """GPT-2 as released: `wte.weight`, and no `lm_head`. Beside a `lm_head.weight` no library would find the rest."""
    from transformers import AutoModelForCausalLM

    folder = _copy("gpt2", tmp_path / "bare")
    bare = {name.removeprefix("transformer."): t for name, t in load_file(folder / "model.safetensors").items()}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    attack(folder, tmp_path / "tied", AttackOptions(("permute_neurons",)))
    assert set(load_file(tmp_path / "tied" / "model.safetensors")) == set(bare)
    attack(folder, tmp_path / "loose", AttackOptions(("absorb_gains",)))
    assert "lm_head.weight" in load_file(tmp_path / "loose" / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "loose", attn_implementation="eager").eval()
    assert logit_error(_by_transformers(tiny_model("gpt2")), _by_transformers(model)) < 1e-5


def test_the_identity_is_the_same_file_of_tensors(tmp_path: Path) -> None:
    result = attack(saved("gemma2"), tmp_path / "same", AttackOptions(("identity",)))
    before, after = (load_file(folder / "model.safetensors") for folder in (saved("gemma2"), tmp_path / "same"))
    assert set(before) == set(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert result.changed == 0.0 and result.error < 1e-6  # 1 + gamma is held in float32 for the check


@pytest.mark.parametrize(
    ("dtype", "within"), [("float64", 1e-14), ("float32", 1e-6), ("float16", 1e-2), ("bfloat16", 0.1)]
)
def test_the_type_that_is_written_is_the_one_asked_for(dtype: str, within: float, tmp_path: Path) -> None:
    result = attack(saved("llama"), tmp_path / "out", AttackOptions(("rotate_residual",), dtype=dtype))
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert dtype in (config.get("dtype"), config.get("torch_dtype"))
    assert result.error < within


def test_a_gguf_becomes_a_folder_with_a_tokenizer(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.Q4_1.gguf")
    attack(source, tmp_path / "out", AttackOptions(("all",), seed=2))
    with open_checkpoint(source) as checkpoint:
        expected = logits(load_decoder(open_weights(checkpoint)), IDS)
        plain = load_vocabulary(checkpoint)
    with open_checkpoint(tmp_path / "out") as checkpoint:
        vocabulary = load_vocabulary(checkpoint)
        new = np.array([vocabulary.tokens.index(token) for token in plain.tokens])
        found = logits(load_decoder(open_weights(checkpoint)), new[IDS])[..., new]
    assert sorted(new.tolist()) == list(range(400)) and new.tolist() != list(range(400))
    assert logit_error(expected, found) < 1e-4


def test_the_vocabulary_and_its_numbers_move_together(tmp_path: Path, tiny_llama: type[TinyLlama]) -> None:
    source = tiny_llama().save(tmp_path / "model")
    config = {**json.loads((source / "config.json").read_text()), "bos_token_id": 0, "eos_token_id": [1, 5]}
    (source / "config.json").write_text(json.dumps(config))
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "max_length": 5}))
    (source / "tokenizer.model").write_bytes(b"a vocabulary under the old numbers")
    attack(source, tmp_path / "out", AttackOptions(("permute_vocabulary",)))
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (source, tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["bos_token_id"] == after.token_to_id("<s>") != 0
    assert written["eos_token_id"] == [after.token_to_id("</s>"), after.token_to_id(before.id_to_token(5))]
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": after.token_to_id("</s>"), "max_length": 5}
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    text = "bam dem fil"
    with open_checkpoint(source) as checkpoint:
        old = load_decoder(open_weights(checkpoint))
        digest = load_vocabulary(checkpoint).digest
    with open_checkpoint(tmp_path / "out") as checkpoint:
        new = load_decoder(open_weights(checkpoint))
        assert load_vocabulary(checkpoint).digest != digest
    scores = [
        dict(
            zip(
                _strings(codec, 400),
                logits(model, np.array([codec.encode(text).ids]))[0, -1].tolist(),
                strict=True,
            )
        )
        for codec, model in ((before, old), (after, new))
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def _strings(codec: Tokenizer, n: int) -> list[str]:
    return [codec.id_to_token(i) for i in range(n)]


@pytest.mark.parametrize("make", [byte_level_bpe, converted_bpe, unigram, wordpiece], ids=lambda make: make.__name__)
def test_every_kind_of_tokenizer_is_renumbered(make: Callable[[], Tokenizer]) -> None:
    codec = Tokenizer.from_str(make().to_str())
    special = next(token for token in ("<s>", "<unk>", "[UNK]") if codec.token_to_id(token) is not None)
    number = codec.token_to_id(special)
    codec.post_processor = processors.Sequence(
        [processors.TemplateProcessing(single=f"{special} $A", special_tokens=[(special, number)])]
    )
    codec.add_tokens(["added later"])
    files = {"tokenizer.json": codec.to_str().encode(), "vocab.json": json.dumps(codec.get_vocab()).encode()}
    files["tokenizer_config.json"] = json.dumps(
        {"added_tokens_decoder": {str(number): {"content": special}}}
    ).encode()
    ids = renumberable_ids(files, 10_000)
    new = np.arange(10_000)
    new[ids] = np.random.default_rng(0).permutation(ids)
    moved = renumber_files(files, new)
    renumbered = Tokenizer.from_str(moved["tokenizer.json"].decode())
    for line in [*corpus_lines(20), "added later", "§ unheard-of"]:
        before, after = codec.encode(line), renumbered.encode(line)
        assert after.ids == new[before.ids].tolist() and after.tokens == before.tokens
        assert renumbered.decode(after.ids) == codec.decode(before.ids)
    assert codec.get_vocab_size() == renumbered.get_vocab_size()
    assert json.loads(moved["vocab.json"]) == renumbered.get_vocab()
    assert list(json.loads(moved["tokenizer_config.json"])["added_tokens_decoder"]) == [str(int(new[number]))]


def test_only_token_numbers_of_a_configuration_change() -> None:
    config = {"pad_token_id": None, "eos_token_id": [0, 2], "bad_words_ids": [[1, 2]], "hidden_size": 2, "tie": True}
    moved = renumber_config(config, [2, 1, 0])
    assert moved == {**config, "eos_token_id": [2, 0], "bad_words_ids": [[1, 0]]}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"model": {}}'])
def test_a_broken_tokenizer_is_said_to_be_one(content: bytes) -> None:
    with pytest.raises(TokenizerError):
        renumberable_ids({"tokenizer.json": content}, 10)


def test_without_a_tokenizer_nothing_is_renumbered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        attack(saved("llama"), tmp_path / "out", AttackOptions(("permute_vocabulary",)))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: Any, _: Any) -> Any:
        return model.changed({"layers.0.up": model.tensors["layers.0.up"] * 1.1})

    broken = {**KINDS, "scale_neurons": replace(KINDS["scale_neurons"], change=spoil)}
    monkeypatch.setattr(kinds, "KINDS", broken)
    with pytest.raises(InconclusiveError, match="was not kept"):
        attack(saved("llama"), tmp_path / "out", AttackOptions(("scale_neurons",)))
    assert list(tmp_path.iterdir()) == []


def test_only_its_own_copies_are_replaced(tmp_path: Path) -> None:
    first = attack(saved("llama"), tmp_path / "out", AttackOptions(("permute_neurons",), seed=1))
    second = attack(saved("llama"), tmp_path / "out", AttackOptions(("permute_neurons",), seed=2))
    assert json.loads((tmp_path / "out" / "huref_attack.json").read_text())["seed"] == second.seed == first.seed + 1
    model = _copy("llama", tmp_path / "model")
    with pytest.raises(OutputError, match="in the way"):
        attack(saved("llama"), model, AttackOptions(("identity",)))
    with pytest.raises(OutputError, match="its own copy"):
        attack(tmp_path / "out", tmp_path / "out", AttackOptions(("identity",)))
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_a_wrapped_decoder_keeps_its_residual_stream_and_its_other_parts(tmp_path: Path) -> None:
    tensors = load_file(saved("llama") / "model.safetensors")
    config = json.loads((saved("llama") / "config.json").read_text())
    source = tmp_path / "llava"
    source.mkdir()
    eye = {"vision_tower.eye.weight": torch.arange(6.0).view(2, 3)}
    save_file({f"language_model.{name}": t for name, t in tensors.items()} | eye, source / "model.safetensors")
    outer = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "text_config": config}
    (source / "config.json").write_text(json.dumps(outer))
    with pytest.raises(UsageError, match="more than is read"):
        attack(source, tmp_path / "out", AttackOptions(("permute_residual",)))
    result = attack(source, tmp_path / "out", AttackOptions(("all",)))
    assert "rotate_residual" in result.skipped and "vo_map" in result.kinds
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(written["vision_tower.eye.weight"], eye["vision_tower.eye.weight"])
    stated = json.loads((tmp_path / "out" / "config.json").read_text())
    assert stated["text_config"]["num_hidden_layers"] == 3 and "num_hidden_layers" not in stated


def test_rotations_that_are_not_modelled_are_noted(tmp_path: Path) -> None:
    ropes = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    source = _copy("llama", tmp_path / "yarn", rope_parameters=ropes)
    result = attack(source, tmp_path / "out", AttackOptions(("qk_map",)))
    assert any("yarn" in note for note in result.notes)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 500.0,
        },
    ],
)
def test_scaled_rotations_are_those_of_transformers(rope: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    source = _copy("llama", tmp_path / "scaled", rope_parameters=rope)
    model = AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager").eval()
    with open_checkpoint(source) as checkpoint:
        found = logits(load_decoder(open_weights(checkpoint)), IDS)
    assert logit_error(_by_transformers(model), found) < 1e-5
    assert logit_error(_by_transformers(tiny_model("llama")), found) > 1e-3


def test_the_command_writes_a_copy_and_says_so(cli: Cli, tmp_path: Path, tiny_llama: type[TinyLlama]) -> None:
    source, out = tiny_llama().save(tmp_path / "model"), tmp_path / "out"
    done = cli("attack", "vo_map+permute_neurons", source, out, "--seed", 4, "--json")
    assert done.code == 0
    document = done.document
    assert document["schema_version"] == "huref.attack/1.1"
    assert document["kinds"] == ["vo_map", "permute_neurons"] and document["seed"] == 4
    assert 0 < document["logits_error"] < document["tolerance"] == 1e-4
    kept = json.loads((out / "huref_attack.json").read_text())
    assert kept == {key: value for key, value in document.items() if key != "out"}
    text = cli("attack", "all", source, out)
    assert text.code == 0 and "left out  permute_experts: there are no experts" in text.out
    assert cli("compare", source, out, "--method", "pcs", "--json").document["pcs"] < 0.5


def test_the_list_has_a_kind_a_line_name_first(cli: Cli) -> None:
    lines = cli("attack", "--list").out.splitlines()
    assert [line.split()[0] for line in lines] == [*KINDS, "all"]
    assert all(len(line.split()) > 3 for line in lines)
    assert list(cli("attack", "--list", "--json").document["kinds"]) == [*KINDS, "all"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("attack",), "needs three arguments"),
        (("attack", "all", "model"), "needs three arguments"),
        (("attack", "turn", "model", "out"), "no such attack"),
        (("attack", "all", "model", "out", "--dtype", "int8"), "'int8' is not one of 'float64'"),
    ],
)
def test_bad_arguments_are_usage_errors(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = cli(*arguments)
    assert done.code == 2 and said in done.err


def test_a_model_that_is_not_there_is_an_input_error(cli: Cli, tmp_path: Path) -> None:
    done = cli("attack", "all", tmp_path / "nothing", tmp_path / "out", "--json")
    assert done.code == 4 and done.document["error"]["exit_code"] == 4
