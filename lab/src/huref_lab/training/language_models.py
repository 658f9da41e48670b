"""Training small language models of several families from nothing, and further: bases and fine-tunes.

A model is a Hugging Face checkpoint folder made with `transformers` (extra `zoo`): what huref reads is then a file
that nobody here wrote. AdamW on next-token loss, one text a base, a byte-level BPE vocabulary a tokenizer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from huref.errors import MissingFileError, NotFiniteError, UsageError
from huref.forward.checkpoint_writer import write_folder
from huref.numerics.products import network_dtype
from huref.progress import Progress, Report

Loss = Callable[[Any, Tensor], Tensor]
"""From a model and sequences (b, length + 1) to the number that a step lowers."""
RECORD = "training.json"
END = "<|end|>"


@dataclass(frozen=True)
class Shape:
    """Sizes of a small decoder. The feed-forward width is of the family's own form (gated or plain)."""

    width: int = 96
    depth: int = 3
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 256


@dataclass(frozen=True)
class TrainOptions:
    """What decides a training run, besides the model and the text.

    Attributes:
        steps: of the optimiser.
        batch: sequences a step.
        length: tokens a sequence.
        learning_rate: peak, after a warm-up of a twentieth of the steps; a cosine takes it to a tenth.
        seed: of the initial weights and of the choice of sequences.
    """

    steps: int = 260
    batch: int = 8
    length: int = 128
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class TrainJob:
    """A run to be.

    Attributes:
        folder: the checkpoint to make.
        options: how.
        about: what else decides the result: model, text, sizes. A run is made again where it or `options` differ.
    """

    folder: Path
    options: TrainOptions
    about: str

    def record(self) -> dict[str, Any]:
        """What is kept beside the checkpoint."""
        return {"about": self.about, "options": asdict(self.options)}


@dataclass(frozen=True)
class Trained:
    """A finished run: where the checkpoint is, and losses in nats a token on text held out.

    Attributes:
        folder: the checkpoint.
        unigram: loss of the best guess without context: the held-out text under the training text's frequencies.
        before, after: loss of the model.
    """

    folder: Path
    unigram: float
    before: float
    after: float


def train_tokenizer(text: str, vocabulary: int) -> str:
    """A byte-level BPE vocabulary learned from a text, as `tokenizer.json`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return str(tokenizer.to_str())


def encode(tokenizer: str, text: str) -> Tensor:
    """Token ids (n,) int64 of a text under a `tokenizer.json`."""
    from tokenizers import Tokenizer

    codec = Tokenizer.from_str(tokenizer)
    pieces = codec.encode_batch(_pieces(text), add_special_tokens=False)
    return torch.tensor([i for piece in pieces for i in piece.ids], dtype=torch.int64)


def train_base(
    job: TrainJob, architecture: str, shape: Shape, tokenizer: str, ids: Tensor, report: Report | None = None
) -> Trained:
    """Train a model from random weights and save it.

    Args:
        architecture: a key of `FAMILIES`.
        tokenizer: `tokenizer.json`.
        ids: (n,) int64, the text, encoded.

    Raises:
        UsageError: no such family, or too little text.
        NotFiniteError: the loss diverged.
        OutputError: the folder cannot be written.
    """
    with seeded(job.options.seed):
        model = _fresh(architecture, shape, vocabulary_size(tokenizer))
    return train_and_save(model, job, tokenizer.encode(), ids, report)


def tune_further(job: TrainJob, source: Path, ids: Tensor, report: Report | None = None) -> Trained:
    """Fine-tune a whole checkpoint folder into another; see `train_base`."""
    return train_and_save(load_model(source), job, (source / "tokenizer.json").read_bytes(), ids, report)


def require_transformers() -> None:
    """Refuse to train where the package that builds the models is not installed.

    Raises:
        MissingFileError: it is not there; nothing is imported to find out.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingFileError(
            "the package that builds and trains language models is not installed",
            where="transformers",
            expected="the extra `zoo` of huref-lab",
            got="no such package",
            next_step="in a checkout of huref: pip install './lab[zoo]'",
        )


def load_model(source: Path, attention: str = "sdpa") -> Any:
    """A checkpoint folder as transformers' model, in float32."""
    require_transformers()
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, local_files_only=True, attn_implementation=attention
    )


def load_trained(job: TrainJob) -> Trained | None:
    """What an earlier run of the same job left, or None."""
    try:
        found = json.loads((job.folder / RECORD).read_text(encoding="utf-8"))
        if {name: found.pop(name) for name in ("about", "options")} != job.record():
            return None
        return Trained(folder=job.folder, **found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def unigram_loss(train: Tensor, held_out: Tensor, vocabulary: int) -> float:
    """Cross-entropy in nats of a text under another's token frequencies, one added to every count."""
    counts = torch.bincount(train.flatten(), minlength=vocabulary).double() + 1.0
    return float(-(counts / counts.sum()).log()[held_out.flatten()].mean())


def train_and_save(model: Any, job: TrainJob, tokenizer: bytes, ids: Tensor, report: Report | None = None) -> Trained:
    """Train every weight of a model on next-token loss, in place, and save it; see `train_base`."""
    train, held_out = split(ids, job.options)
    before = mean_loss(model, held_out)
    fit(model, train, job, report)
    after = mean_loss(model, held_out)
    unigram = unigram_loss(train, held_out[:, 1:], int(model.config.vocab_size))

    def fill(partial: Path) -> None:
        model.save_pretrained(partial)
        (partial / "tokenizer.json").write_bytes(tokenizer)
        record = {"unigram": unigram, "before": before, "after": after, **job.record()}
        (partial / RECORD).write_text(json.dumps(record), encoding="utf-8")

    write_folder(job.folder, fill)
    return Trained(job.folder, unigram, before, after)


def fit(
    model: Any, sequences: Tensor, job: TrainJob, report: Report | None = None, loss_of: Loss | None = None
) -> None:
    """Train, in place, what of a model asks for a gradient.

    Args:
        sequences: (m, length + 1) int64.
        loss_of: what a step lowers; `next_token_loss` when left out.

    Raises:
        NotFiniteError: the loss diverged.
    """
    options, loss_of = job.options, loss_of or next_token_loss
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    dice = torch.Generator().manual_seed(options.seed)
    model.train()
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = options.learning_rate * _schedule(step, options.steps)
        batch = sequences[torch.randint(len(sequences), (options.batch,), generator=dice)]
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NotFiniteError(
                "training diverged",
                where=f"{job.folder}, step {step}",
                expected="a finite loss",
                got=str(value),
                next_step="lower the learning rate",
            )
        if report:
            report(
                Progress(
                    f"training {job.folder.parent.name}/{job.folder.name}, loss {value:.2f}",
                    step + 1,
                    options.steps,
                    "step",
                )
            )
    model.eval()


def _schedule(step: int, steps: int) -> float:
    """Warm-up, then a cosine from 1 to 0.1."""
    warm = max(3, steps // 20)
    return min((step + 1) / warm, 0.55 + 0.45 * math.cos(math.pi * step / steps))


def next_token_loss(model: Any, sequences: Tensor) -> Tensor:
    """Mean cross-entropy in nats of each token given those before it; the products run in bfloat16 where fast."""
    return functional.cross_entropy(logits(model, sequences).flatten(0, 1), sequences[:, 1:].flatten())


def logits(model: Any, sequences: Tensor) -> Tensor:
    """Scores (b, length, vocabulary) float32 of every next token of sequences (b, length + 1)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=network_dtype() is torch.bfloat16):
        scores: Tensor = model(input_ids=sequences[:, :-1], use_cache=False).logits
    return scores.float()


def mean_loss(model: Any, sequences: Tensor) -> float:
    """`next_token_loss` as a number."""
    with torch.no_grad():
        return float(next_token_loss(model, sequences))


def split(ids: Tensor, options: TrainOptions) -> tuple[Tensor, Tensor]:
    """Training and held-out sequences (m, length + 1): two batches from the end are held out."""
    width, held = options.length + 1, 2 * options.batch
    sequences = ids[: len(ids) // width * width].view(-1, width)
    if len(sequences) < 2 * held:
        raise UsageError(
            "too little text to train on",
            where="the study's models",
            expected=f"at least {2 * held * width} tokens",
            got=str(len(ids)),
            next_step="ask for more characters, or a smaller batch",
        )
    return sequences[:-held], sequences[-held:]


def _pieces(text: str, size: int = 4096) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def vocabulary_size(tokenizer: str) -> int:
    """How many tokens a `tokenizer.json` has."""
    from tokenizers import Tokenizer

    return int(Tokenizer.from_str(tokenizer).get_vocab_size())


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """transformers initialises from torch's global generator: seed it, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _fresh(architecture: str, shape: Shape, vocabulary: int) -> Any:
    if architecture not in FAMILIES:
        raise UsageError(
            "no such family in the study", where="architecture", expected=", ".join(FAMILIES), got=architecture
        )
    return fresh_model(architecture, FAMILIES[architecture](shape), vocabulary)


def fresh_model(model_type: str, sizes: dict[str, Any], vocabulary: int, attention: str = "sdpa") -> Any:
    """A model with random weights, of torch's global generator.

    Args:
        model_type: transformers' name of the family.
        sizes: fields of its configuration.
        attention: transformers' name of an implementation. At these sizes `eager` trains a third faster than `sdpa`.
    """
    require_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary, **special, **sizes)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)  # type: ignore[no-untyped-call]


def _gated(shape: Shape) -> dict[str, Any]:
    return {
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
    }


def _gpt2(shape: Shape) -> dict[str, Any]:
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    sizes = {"n_embd": shape.width, "n_layer": shape.depth, "n_head": shape.heads, "n_positions": 256}
    return {**sizes, **dropout, "n_inner": shape.feed_forward}


def _gpt_neox(shape: Shape) -> dict[str, Any]:
    sizes = _gated(shape)
    del sizes["num_key_value_heads"]
    return {**sizes, "tie_word_embeddings": False, "attention_dropout": 0.0, "hidden_dropout": 0.0}


FAMILIES: dict[str, Callable[[Shape], dict[str, Any]]] = {
    "llama": _gated,
    "mistral": _gated,
    "qwen2": _gated,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
}
"""transformers' name of a family -> its configuration for a shape."""
