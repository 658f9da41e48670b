"""Training attacks: a copy is trained on text and, at the same time, away from the base it descends from.

HuRef (NeurIPS 2024), figure 2: an extra loss term drives the direction of the weights away, and performance falls
with it. Here the term is the trace itself, made differentiable: the cosine of all weights (PCS), the correlation of
the invariant terms (ICS), or what pairing agreement counts, in `witness_traces` all that it counts. The attacker
knows the base and the statistic.

Two attacks without such a term stand beside them: noise on all weights, and fresh gates; both may heal by training.
Only Llamas: the statistics are the same in every family. Everything is float32, and decoders hold tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from huref.demo.differentiable import next_token_loss
from huref.errors import NotFiniteError, UsageError
from huref.forward.decoder import Decoder
from huref.progress import Progress, Report
from huref_lab.bench.witness_traces import WITNESS_TRACES, Trace, unit_rows

MARGIN = 0.02
"""How much more like another neuron than like itself a neuron is made."""

TOKENS = 256
"""Vocabulary rows in the invariant terms; an attacker has to pay for them at every step."""


@dataclass(frozen=True)
class TrainingOptions:
    """What decides an attack by training, besides the model and the text.

    Attributes:
        target: key of `TRACES`, or empty for training alone.
        weight: of the trace beside the loss of next tokens.
        steps: of AdamW, with a warm-up of a tenth and a linear end.
        batch: sequences a step.
        length: tokens a sequence.
        learning_rate: at its peak.
        seed: of the choice of sequences.
    """

    target: str = ""
    weight: float = 0.0
    steps: int = 150
    batch: int = 16
    length: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target and self.target not in TRACES:
            raise UsageError("unknown trace", where="target", expected=", ".join(TRACES), got=self.target)


@dataclass(frozen=True)
class Trained:
    """The attacked model, and its loss in nats a token on text held out."""

    model: Decoder
    loss: float


def train_away(
    start: Decoder, base: Decoder, tokens: Tensor, options: TrainingOptions, report: Report | None = None
) -> Trained:
    """Train a copy of `start` on text and away from `base`.

    Args:
        start: where training begins: the base itself, or a spoiled copy of it. Left as it is.
        tokens: (n,) int64; the last two batches are held out.

    Raises:
        UsageError: too little text.
        NotFiniteError: the loss diverged.
    """
    train, held_out = _split(tokens, options)
    child = start.with_each(lambda t: t.float().clone().requires_grad_())
    parameters = list(child.tensors.values())
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step, batch in enumerate(_batches(train, options)):
        optimiser.param_groups[0]["lr"] = options.learning_rate * _schedule(step, options.steps)
        loss = next_token_loss(child, batch)
        if options.target:
            loss = loss + options.weight * TRACES[options.target](child, base)
        if not bool(loss.isfinite()):
            raise NotFiniteError("the attack diverged", where=f"step {step}", next_step="lower the learning rate")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if report:
            report(Progress("training away", step + 1, options.steps, "step"))
    trained = child.with_each(Tensor.detach)
    return Trained(trained, held_out_loss(trained, held_out))


def held_out_loss(model: Decoder, sequences: Tensor) -> float:
    """Mean loss in nats a token."""
    with torch.no_grad():
        return float(next_token_loss(model, sequences))


def held_out_text(tokens: Tensor, options: TrainingOptions) -> Tensor:
    """The sequences that training never sees."""
    return _split(tokens, options)[1]


def direction(child: Decoder, base: Decoder) -> Tensor:
    """Squared cosine of all weights: what PCS reads."""
    pairs = [(t.flatten(), base.tensors[name].flatten()) for name, t in child.tensors.items()]
    inner = torch.stack([(a * b).sum() for a, b in pairs]).sum()
    lengths = [torch.stack([side[k].square().sum() for side in pairs]).sum() for k in (0, 1)]
    return inner.square() / (lengths[0] * lengths[1])


def invariants(child: Decoder, base: Decoder) -> Tensor:
    """Mean squared correlation of the invariant terms of every layer, gains folded and tokens centred: ICS."""
    rows = torch.arange(0, base.geometry.vocab_size, max(1, base.geometry.vocab_size // TOKENS))
    with torch.no_grad():
        there = _terms(base, rows)
    return torch.stack([_pearson(a, b).square() for a, b in zip(_terms(child, rows), there, strict=True)]).mean()


def pairing_by_gates(child: Decoder, base: Decoder) -> Tensor:
    """How much every gate row is still more like its own than like any other of the base, 0 when none is."""
    return _mean_lead(child, base, lambda a, b: unit_rows(a, "gate") @ unit_rows(b, "gate").T)


def pairing_by_up_and_down(child: Decoder, base: Decoder) -> Tensor:
    """The same for what a neuron reads and writes: up rows times down columns."""

    def likeness(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        return (unit_rows(a, "up") @ unit_rows(b, "up").T) * (unit_rows(a, "down") @ unit_rows(b, "down").T)

    return _mean_lead(child, base, likeness)


TRACES: Mapping[str, Trace] = {
    "pcs": direction,
    "ics": invariants,
    "gates": pairing_by_gates,
    "up_down": pairing_by_up_and_down,
    **WITNESS_TRACES,
}
"""What can be trained away."""


def with_noise(model: Decoder, share: float, seed: int = 0) -> Decoder:
    """Gaussian noise on every matrix, `share` times its own standard deviation."""
    dice = torch.Generator().manual_seed(seed)

    def noisy(t: Tensor) -> Tensor:
        return t + share * t.std() * torch.randn(t.shape, generator=dice) if t.ndim > 1 else t

    return model.with_each(noisy)


def with_fresh_gates(model: Decoder, share: float, seed: int = 0) -> Decoder:
    """A share of every layer's gate rows drawn anew, as large as they were."""
    dice = torch.Generator().manual_seed(seed)
    fresh = {}
    for layer in model.layers:
        gate = model.tensors[f"layers.{layer}.gate"]
        chosen = torch.rand(len(gate), generator=dice) < share
        drawn = normalize(torch.randn(gate.shape, generator=dice), dim=1) * gate.norm(dim=1, keepdim=True)
        fresh[f"layers.{layer}.gate"] = torch.where(chosen[:, None], drawn.to(gate.dtype), gate)
    return model.changed(fresh)


def with_fresh_weights(model: Decoder, seed: int = 0) -> Decoder:
    """All matrices drawn anew with the spread that they had: what training from scratch starts from."""
    dice = torch.Generator().manual_seed(seed)

    def drawn(t: Tensor) -> Tensor:
        return t.std() * torch.randn(t.shape, generator=dice) if t.ndim > 1 else torch.ones_like(t)

    return model.with_each(drawn)


def _terms(model: Decoder, rows: Tensor) -> list[Tensor]:
    """`qk`, `vo` and `gate_down` of every layer over some tokens, (K, K) each."""
    g = model.geometry
    X = model.tensors["embedding"][rows]
    X = X - X.mean(dim=0)
    found = []
    for i in model.layers:
        T = model.layer(i)
        front, back = (X * T[norm] for norm in ("attention_norm", "feed_forward_norm"))
        q, k, v = (front @ T[role].T for role in ("q", "k", "v"))
        k, v = (_per_query_head(part, g.n_heads // g.n_kv_heads, g.head_dim) for part in (k, v))
        found += [q @ k.T, v @ (X @ T["o"]).T, (back @ T["gate"].T) @ (X @ T["down"]).T]
    return found


def _per_query_head(x: Tensor, repeat: int, head_dim: int) -> Tensor:
    """(K, g e) -> (K, h e): every KV head for each query head that reads it."""
    return x.view(len(x), -1, head_dim).repeat_interleave(repeat, dim=1).flatten(1)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    rho: Tensor = (a * b).sum() / (a.norm() * b.norm())
    return rho


def _mean_lead(
    child: Decoder, base: Decoder, likeness: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
) -> Tensor:
    leads = []
    for i in base.layers:
        S = likeness(child.layer(i), base.layer(i))
        own = S.diagonal()
        other = S.masked_fill(torch.eye(len(S), dtype=torch.bool), -torch.inf).max(dim=1).values
        leads.append((own - other + MARGIN).relu().mean())
    return torch.stack(leads).mean()


def _split(tokens: Tensor, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """Training and held-out sequences, (m, length + 1) each."""
    n = options.length + 1
    sequences = tokens[: len(tokens) // n * n].view(-1, n)
    if len(sequences) < 4 * options.batch:
        raise UsageError(
            "too little text", where="training", expected=f"{4 * options.batch * n} tokens", got=str(len(tokens))
        )
    return sequences[: -2 * options.batch], sequences[-2 * options.batch :]


def _batches(sequences: Tensor, options: TrainingOptions) -> Iterator[Tensor]:
    dice = torch.Generator().manual_seed(options.seed)
    for _ in range(options.steps):
        yield sequences[torch.randint(len(sequences), (options.batch,), generator=dice)]


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))
