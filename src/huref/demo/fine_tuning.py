"""A short, real fine-tune of a whole model: how the demo makes an offspring.

AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on next-token loss. Weights and the optimiser's state are
float32; the forward and backward passes run in bfloat16 where the hardware multiplies that faster.
"""

from __future__ import annotations

import math
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from huref.errors import NotFiniteError, UsageError
from huref.forward.decoder import Decoder
from huref.forward.passes import next_token_loss
from huref.numerics.products import network_dtype
from huref.progress import Progress, Report


@dataclass(frozen=True)
class TuneOptions:
    """What decides a fine-tune, besides the model and the text.

    Attributes:
        steps: of the optimiser.
        batch: sequences a step.
        length: tokens a sequence.
        learning_rate: constant after three steps of warm-up.
        seed: of the choice of sequences.
    """

    steps: int = 12
    batch: int = 4
    length: int = 128
    learning_rate: float = 2e-4
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model, and its loss in nats a token on text held out, before and after."""

    model: Decoder
    loss_before: float
    loss_after: float


def fine_tune(model: Decoder, tokens: Tensor, options: TuneOptions, report: Report | None = None) -> Tuned:
    """Train every weight for a few steps.

    Args:
        model: left as it is.
        tokens: (n,) int64, one long text; its last `batch` sequences are held out.

    Raises:
        UsageError: the text is shorter than one batch beside what is held out.
        NotFiniteError: the loss diverged.
    """
    train, held_out = _split(tokens, options)
    # Bfloat16 halves the time of a step; the master weights stay float32, so small updates are not lost.
    dtype = network_dtype()
    child = model.with_each(lambda t: t.float().clone().requires_grad_())
    optimiser = torch.optim.AdamW(
        child.tensors.values(), lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    before = _loss(child, held_out, dtype)
    for step, batch in enumerate(_batches(train, options)):
        optimiser.param_groups[0]["lr"] = options.learning_rate * min(1.0, (step + 1) / 3)
        loss = next_token_loss(child, batch, dtype)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(child.tensors.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        _check(float(loss.detach()), step)
        if report:
            report(Progress("fine-tuning", step + 1, options.steps, "step"))
    after = _loss(child, held_out, dtype)
    return Tuned(child.with_each(Tensor.detach), before, after)


def standard_library_text(n_characters: int, seed: int = 0) -> str:
    """Python source from the standard library: real text that every machine with huref has.

    Args:
        n_characters: about how many; files are taken whole, in an order that the seed decides.

    Raises:
        UsageError: this Python was installed without its sources.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    random.Random(seed).shuffle(files)
    text = ""
    for path in files:
        if len(text) >= n_characters:
            return text
        text += path.read_text(encoding="utf-8", errors="replace")
    if not text:
        raise UsageError(
            "no text to train on",
            where=str(folder),
            expected="the standard library's .py files",
            got="none",
            next_step="use a Python installed with its sources",
        )
    return text


def _split(tokens: Tensor, options: TuneOptions) -> tuple[Tensor, Tensor]:
    """Training and held-out sequences, (m, length + 1) each: one token more than is predicted."""
    sequences = tokens[: len(tokens) // (options.length + 1) * (options.length + 1)].view(-1, options.length + 1)
    if len(sequences) < 2 * options.batch:
        raise UsageError(
            "too little text to train on",
            where="fine-tune",
            expected=f"at least {2 * options.batch * (options.length + 1)} tokens",
            got=str(len(tokens)),
        )
    return sequences[: -options.batch], sequences[-options.batch :]


def _batches(sequences: Tensor, options: TuneOptions) -> Iterator[Tensor]:
    dice = torch.Generator().manual_seed(options.seed)
    for _ in range(options.steps):
        yield sequences[torch.randint(len(sequences), (options.batch,), generator=dice)]


def _loss(model: Decoder, sequences: Tensor, dtype: torch.dtype) -> float:
    with torch.no_grad():
        return float(next_token_loss(model, sequences, dtype))


def _check(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise NotFiniteError(
            "the fine-tune diverged",
            where=f"step {step}",
            expected="a finite loss",
            got=str(loss),
            next_step="lower the learning rate",
        )
