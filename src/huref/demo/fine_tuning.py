"""A short, real fine-tune of a whole model: how the demo makes an offspring.

AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on next-token loss. Weights and the optimiser's state are
float32; the forward and backward passes run in bfloat16 where the hardware multiplies that faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from huref.demo.differentiable import learning, next_token_loss, trained
from huref.demo.options import TuneOptions
from huref.errors import NotFiniteError, UsageError
from huref.forward.decoder import Decoder
from huref.numerics.arrays import Array
from huref.numerics.products import network_dtype
from huref.progress import Progress, Report


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model, and its loss in nats a token on text held out, before and after."""

    model: Decoder
    loss_before: float
    loss_after: float


def fine_tune(model: Decoder, tokens: Array, options: TuneOptions, report: Report | None = None) -> Tuned:
    """Train every weight for a few steps.

    Args:
        model: left as it is.
        tokens: (n,) int64, one long text; its last `batch` sequences are held out.

    Raises:
        UsageError: the text is shorter than one batch beside what is held out.
        NotFiniteError: the loss diverged.
    """
    train, held_out = _split(torch.from_numpy(tokens), options)
    # Bfloat16 halves the time of a step; the master weights stay float32, so small updates are not lost.
    dtype = network_dtype()
    child = learning(model)
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
    return Tuned(trained(child), before, after)


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
