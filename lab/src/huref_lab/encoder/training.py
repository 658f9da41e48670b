"""Training of the CNN encoder on synthetic triplets: `huref train encoder`.

One step draws triplets (`samples`), encodes anchors, positives and negatives as one batch, and moves the
encoder so that an anchor's vector is near its positive's and orthogonal to its negative's, and so that a critic
cannot tell the vectors from standard normal ones; then it moves the critic. HuRef (NeurIPS 2024, arXiv 2312.04828).

Random numbers are named by (seed, step), so that a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import UsageError
from huref.fingerprints.encoder.file import save_encoder
from huref.fingerprints.encoder.network import EncoderConfig
from huref.numerics.products import network_dtype
from huref_lab.encoder.network import EncoderCNN
from huref_lab.encoder.samples import SampleShape, draw_triplets, stream
from huref_lab.training.run import Run, begin, read_checkpoint, refusal, require_positive, train, write_checkpoint

COMMAND = "huref train encoder"
LOG = "log.jsonl"
WEIGHTS = "encoder.safetensors"
NEGATIVES = ("fresh", "others")

_TRAINING, _CRITIC, _HELD_OUT = range(3)
"""Streams of random numbers under one seed."""


@dataclass(frozen=True)
class EncoderTraining:
    """Everything that decides a training run.

    Args:
        out: folder for checkpoint, log and weights; a checkpoint found there is resumed.
        side: K of the samples, a multiple of 256 for the published network (whose own training has 4096).
        width: d of the synthetic embeddings.
        rank: rows of the synthetic weights.
        steps: of the whole run; the learning rate falls along a cosine over them.
        batch: triplets a step.
        negatives: `fresh`, as published, or `others`: each triplet's negative is another one's anchor, which is as
            independent of it, and saves a third of the work.
        learning_rate: of encoder and critic at the start (Adam, torch's betas).
        final_rate: of both at the end.
        near: weight of `1 - cos(anchor, positive)`.
        far: weight of `|cos(anchor, negative)|`.
        adversarial: weight of the critic's judgement.
        seed: of everything random.
        threads: processor threads, 0 for torch's own choice.
        minutes: stop (resumably) after this time, whatever `steps` says.
        save_every: steps between checkpoints, with weights exported each time.
        evaluate_every: steps between two looks at held-out triplets.
        held_out: held-out triplets.
        config: the network; the published one.
    """

    out: Path
    side: int = 1024
    width: int = 4096
    rank: int = 4096
    steps: int = 1000
    batch: int = 10
    negatives: str = "fresh"
    learning_rate: float = 1e-4
    final_rate: float = 5e-6
    near: float = 1.3
    far: float = 0.7
    adversarial: float = 0.5
    seed: int = 0
    threads: int = 0
    minutes: float = math.inf
    save_every: int = 100
    evaluate_every: int = 20
    held_out: int = 4
    config: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        positive = ("steps", "learning_rate", "minutes", "save_every", "evaluate_every", "held_out")
        require_positive(self, positive, COMMAND)
        if self.negatives not in NEGATIVES:
            raise refusal("no such negatives", "negatives", " or ".join(NEGATIVES), self.negatives, COMMAND)
        if self.batch < 2:
            what = "batch normalisation and critic need a batch"
            raise refusal(what, "batch", "2 triplets or more", self.batch, COMMAND)
        if self.side < 1 or self.side % self.config.multiple:
            raise refusal("no such side", "side", f"a multiple of {self.config.multiple}", self.side, COMMAND)
        if self.width < self.side or self.rank < 1:
            what = "the sampler needs wide embeddings"
            raise refusal(what, "width", f"{self.side} or more", self.width, COMMAND)

    @property
    def shape(self) -> SampleShape:
        """What the samples are made of."""
        return SampleShape(self.side, self.width, self.rank, self.config.inputs)

    def as_json(self) -> dict[str, Any]:
        """The settings as they are stored: without what says more about a machine than about a run."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in ("out", "threads", "minutes")}


class Critic(nn.Sequential):
    """Tells the encoder's vectors from normal ones: 512 - 256 - 128 - 1, a logit."""

    def __init__(self, length: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Linear(length, 256),
                nn.LeakyReLU(0.2),
                nn.Linear(256, 128),
                nn.LeakyReLU(0.2),
                nn.Linear(128, 1),
            )


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(n,) cosines of the rows of two (n, d) tensors."""
    return functional.cosine_similarity(a, b, dim=1)


class Trainer(Run):
    """The state of a run: networks, optimisers, counts."""

    def __init__(self, settings: EncoderTraining) -> None:
        self.settings = settings
        self.step_count = 0
        self.losses: dict[str, float] = {}
        self.held_out: dict[str, float] = {}
        self.encoder = EncoderCNN(settings.config, settings.seed).narrow(settings.side)
        self.critic = Critic(settings.config.channels[-1], settings.seed)
        self.encoder_optimiser = torch.optim.Adam(self.encoder.parameters(), settings.learning_rate, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), settings.learning_rate)
        self.kind = network_dtype()

    def rate(self) -> float:
        """The learning rate of the next step."""
        settings = self.settings
        share = min(1.0, self.step_count / settings.steps)
        fall = 0.5 * (1.0 + math.cos(math.pi * share))
        return settings.final_rate + (settings.learning_rate - settings.final_rate) * fall

    def step(self) -> None:
        """One batch: the encoder moves, then the critic."""
        settings = self.settings
        for optimiser in (self.encoder_optimiser, self.critic_optimiser):
            optimiser.param_groups[0]["lr"] = self.rate()
        random = stream(settings.seed, _TRAINING, self.step_count)
        fresh = settings.negatives == "fresh"
        batch = draw_triplets(settings.shape, settings.batch, random, fresh=fresh)
        self.encoder.train()
        vectors = self.encoder(batch.to(self.kind))
        self._move_encoder(vectors)
        self._move_critic(vectors.detach())
        self.step_count += 1

    def _move_encoder(self, vectors: Tensor) -> None:
        settings = self.settings
        near, far = similarities(vectors, settings.batch)
        self.critic.requires_grad_(False)
        deceit = functional.softplus(-self.critic(vectors)).mean()
        loss = settings.near * (1.0 - near.mean()) + settings.far * far.abs().mean() + settings.adversarial * deceit
        self.encoder_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.encoder_optimiser.step()
        self.critic.requires_grad_(True)
        parts = {"loss": loss, "near": near.mean(), "far": far.abs().mean(), "deceit": deceit}
        self.losses = {name: float(value.detach()) for name, value in parts.items()}

    def _move_critic(self, vectors: Tensor) -> None:
        random = stream(self.settings.seed, _CRITIC, self.step_count)
        normal = torch.empty_like(vectors).normal_(generator=random)
        loss = functional.softplus(-self.critic(normal)).mean() + functional.softplus(self.critic(vectors)).mean()
        self.critic_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic_optimiser.step()
        self.losses["critic"] = float(loss.detach())

    @torch.no_grad()
    def evaluate(self) -> None:
        """Looks at held-out triplets, in evaluation mode, one at a time."""
        settings = self.settings
        self.encoder.eval()
        triplets = []
        for k in range(settings.held_out):
            samples = draw_triplets(settings.shape, 1, stream(settings.seed, _HELD_OUT, k))
            triplets.append(torch.cat([self.encoder(sample[None].to(self.kind)) for sample in samples]))
        anchors, positives, negatives = torch.stack(triplets, dim=1)
        self.held_out = {
            "held_out_near": float(cosines(anchors, positives).mean()),
            "held_out_far": float(cosines(anchors, negatives).abs().mean()),
        }

    def is_done(self) -> bool:
        """All steps are made."""
        return self.step_count >= self.settings.steps

    def is_save_due(self) -> bool:
        """Every so many steps."""
        return self.step_count % self.settings.save_every == 0

    def report(self) -> None:
        """Look at held-out triplets every so many steps, and log every step."""
        if self.step_count % self.settings.evaluate_every == 0 or self.is_done():
            self.evaluate()
        self.log()

    def log(self) -> None:
        """One line in the log, and on standard error where that is a terminal."""
        line = {"step": self.step_count, "seconds": round(self.seconds, 1), **self.losses, **self.held_out}
        self.held_out = {}
        with (self.settings.out / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
        if sys.stderr.isatty():
            values = "  ".join(f"{name} {value:.3f}" for name, value in line.items() if isinstance(value, float))
            print(f"{self.step_count:>6} of {self.settings.steps} steps  {values}", file=sys.stderr, flush=True)

    def save(self) -> Path:
        """Checkpoint and exported weights, each whole or not at all. Returns the weights."""
        out = self.settings.out
        write_checkpoint(out, self.state())
        return self.export(out / WEIGHTS)

    def export(self, path: Path) -> Path:
        """The encoder as it is, in full: weights that no sample reached have their initial values."""
        settings = self.settings
        whole = EncoderCNN(settings.config, settings.seed)
        for norm, trained in zip(whole.norms, self.encoder.norms, strict=True):
            norm.load_state_dict(trained.state_dict())
        for conv, trained in zip(whole.convs, self.encoder.convs, strict=True):
            full = conv.weight
            conv.weight, conv.bias, conv.cut = trained.weight, trained.bias, trained.cut
            conv.widen(full)  # type: ignore[operator]
        training = {"done": self.step_count, **settings.as_json()}
        save_encoder(whole.encoding(), path, {"side": settings.side, "training": training})
        return path

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "settings": self.settings.as_json(),
            "encoder": self.encoder.state_dict(),
            "critic": self.critic.state_dict(),
            "encoder_optimiser": self.encoder_optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "step": self.step_count,
            "seconds": self.seconds,
            "losses": self.losses,
        }

    def restore(self, path: Path) -> None:
        """Takes up a checkpoint.

        Raises:
            CorruptFileError: not a checkpoint.
            UsageError: a checkpoint of another run.
        """
        state = read_checkpoint(path, lambda state: (state["settings"], state["encoder"]))
        settings = state["settings"]
        fixed = ("config", "side", "width", "rank", "seed")
        for name in fixed:
            wanted = json.loads(json.dumps(self.settings.as_json()[name]))
            if json.loads(json.dumps(settings[name])) != wanted:
                raise UsageError(
                    "the checkpoint is of another run",
                    where=f"{path}: {name}",
                    expected=str(wanted),
                    got=str(settings[name]),
                    next_step="choose another --out, or the run's own settings",
                )
        self.encoder.load_state_dict(state["encoder"])
        self.critic.load_state_dict(state["critic"])
        self.encoder_optimiser.load_state_dict(state["encoder_optimiser"])
        self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.step_count, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]


def similarities(vectors: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Cosines of anchors with positives and with negatives: the third part of the batch, or the next anchor."""
    anchors, positives = vectors[:n], vectors[n : 2 * n]
    negatives = vectors[2 * n :] if len(vectors) == 3 * n else anchors.roll(1, dims=0)
    return cosines(anchors, positives), cosines(anchors, negatives)


def train_encoder(settings: EncoderTraining) -> Path:
    """Trains, or goes on training, until the settings' steps or minutes are reached.

    Progress goes to standard error. An interrupt (SIGINT) finishes the step, saves a checkpoint and is then raised.

    Returns:
        The safetensors file with the encoder, in `settings.out`.

    Raises:
        UsageError: settings that contradict each other or the checkpoint.
        OutputError: the output folder cannot be written.
    """
    return train(begin(settings.out, settings.threads, lambda: Trainer(settings)), settings.minutes)
