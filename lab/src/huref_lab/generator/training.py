"""Training of the picture generator on a folder of photographs: `huref train generator`.

One step makes a batch of pictures, lets the critics judge them, moves the generator, then moves the critics with the
same pictures and a batch of photographs. Everything that decides the outcome is in the settings and in one
checkpoint, so that a run that was stopped goes on as if it had not been. Feature maps are of `network_dtype`: a
checkpoint also goes on on a processor of the other kind, but not bit by bit.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from huref.errors import UsageError
from huref.numerics.products import network_dtype
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import load_generator
from huref_lab.generator.augmentation import augment
from huref_lab.generator.critics import Critic, PixelCritic, ProjectedCritic, gradient_penalty
from huref_lab.generator.export import Provenance, export_generator, write_sheet
from huref_lab.generator.growth import grow
from huref_lab.generator.mapping import even_out
from huref_lab.generator.network import TrainableGenerator, truncate
from huref_lab.generator.readability import make_kin
from huref_lab.pictures.efficientnet_lite import load_efficientnet
from huref_lab.pictures.folder import load_images, to_float
from huref_lab.training.run import (
    CHECKPOINT,
    Run,
    begin,
    read_checkpoint,
    refusal,
    require_positive,
    train,
    write_checkpoint,
)

CRITICS = ("projected", "pixel", "both")
COMMAND = "huref train generator"
LOG = "log.jsonl"


@dataclass(frozen=True)
class GeneratorTraining:
    """Everything that decides a training run.

    Args:
        data: folder of pictures, searched with its subfolders.
        out: folder for checkpoint, log, sheets and the trained weights; a checkpoint found there is resumed.
        resolution: side of the pictures in pixels.
        channel_base: see `StyleGAN2Config`.
        channel_max: see `StyleGAN2Config`.
        mapping_layers: see `StyleGAN2Config`.
        critic: `projected`, `pixel` or `both`.
        energy: weight of the energy distance to the photographs (`energy`), with the projected critic.
        energy_from: images before it joins the critic; from the start it hinders the first dog.
        even_out: visible directions of style to even out before the start (`mapping`), 0 for none.
        readability: weight of the line-up loss (`readability`): half of each batch are kin of the other half.
        pixel_weight: weight of the pixel critic in the generator's loss when both work.
        images: photographs shown until the run ends.
        cooldown: over the last so many of them the learning rate falls to zero.
        minutes: stop (resumably) after this time, whatever `images` says.
        batch: pictures a step.
        learning_rate: of the generator (Adam, betas 0 and 0.99).
        mapping_boost: the mapping's rate relative to the generator's; the published network, with its learning rate
            multiplier of 0.01, counts on millions of images.
        critic_rate: of the critics; slower, or a pretrained critic wins before the generator can learn.
        ema_images: half-life of the averaged generator, in images.
        augment: probability of each disturbance of what the critics see.
        pixel_side: the pixel critic judges tiles of this side; larger than the picture, whole pictures.
        pixel_rate: learning rate of the pixel critic, whose layers are scaled to learn as the generator's do.
        r1: weight of the gradient penalty of the pixel critic.
        r1_every: steps between two gradient penalties.
        seed: of everything random.
        threads: processor threads, 0 for torch's own choice.
        save_every: images between checkpoints, with a sheet and an export of the averaged generator each.
        start_from: what to grow from (`growth`): the weights of a generator, or the folder of a run,
            which gives its critics too; None starts from nothing.
        warmup: over the first so many images the generator's rates rise from zero: a new critic knows nothing yet.
    """

    data: Path
    out: Path
    resolution: int = 64
    channel_base: int = 3072
    channel_max: int = 192
    mapping_layers: int = 8
    critic: str = "projected"
    energy: float = 60.0
    energy_from: int = 24_000
    even_out: int = 0
    readability: float = 0.0
    pixel_weight: float = 0.5
    images: int = 400_000
    cooldown: int = 50_000
    minutes: float = math.inf
    batch: int = 16
    learning_rate: float = 0.0015
    mapping_boost: float = 10.0
    critic_rate: float = 0.0002
    ema_images: int = 10_000
    augment: float = 0.7
    pixel_side: int = 64
    pixel_rate: float = 0.0015
    r1: float = 0.3
    r1_every: int = 16
    seed: int = 0
    threads: int = 0
    save_every: int = 10_000
    start_from: Path | None = None
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.critic not in CRITICS:
            raise refusal("no such critic", "critic", " or ".join(CRITICS), self.critic, COMMAND)
        counts, rates = ("images", "batch", "save_every", "r1_every", "ema_images"), ("learning_rate", "critic_rate")
        require_positive(self, (*counts, *rates, "minutes"), COMMAND)
        try:
            self.network()
        except ValueError as error:
            expected = "the shape of a StyleGAN2"
            raise refusal("no such generator", "resolution", expected, error, COMMAND) from error

    def network(self) -> StyleGAN2Config:
        """The generator's configuration."""
        return StyleGAN2Config(
            resolution=self.resolution,
            channel_base=self.channel_base,
            channel_max=self.channel_max,
            mapping_layers=self.mapping_layers,
        )

    def as_json(self) -> dict[str, Any]:
        """The settings as they are stored; paths are left out, for they say more about a machine than about a run."""
        fields = dataclasses.asdict(self)
        started = {"start_from": self.start_from.name} if self.start_from else {}
        return {
            k: v for k, v in fields.items() if k not in ("data", "out", "threads", "minutes", "start_from")
        } | started


def train_generator(settings: GeneratorTraining) -> Path:
    """Trains, or goes on training, until the settings' images or minutes are reached.

    Progress goes to standard error. An interrupt (SIGINT) finishes the step, saves a checkpoint and is then raised.

    Returns:
        The safetensors file with the averaged generator, in `settings.out`, beside its model card.

    Raises:
        UsageError: settings that contradict each other, the data or the checkpoint.
        OutputError: the output folder cannot be written.
    """

    def make() -> Trainer:
        return Trainer(settings, load_images(settings.data, settings.resolution))

    return train(begin(settings.out, settings.threads, make), settings.minutes)


@dataclass(frozen=True)
class Batch:
    """What one step works on.

    Args:
        z: vectors, (n, z_dim).
        real: disturbed photographs, (n, 3, r, r).
        features: theirs, for each critic.
        disturbance: state of the random numbers before they were disturbed, to disturb the made pictures alike.
    """

    z: Tensor
    real: Tensor
    features: dict[str, list[Tensor]]
    disturbance: Tensor


class Trainer(Run):
    """The state of a run: networks, optimisers, random numbers, counts."""

    def __init__(self, settings: GeneratorTraining, photographs: Tensor) -> None:
        self.settings, self.photographs = settings, photographs
        self.images = 0
        self.dtype = network_dtype()
        self.phases: list[dict[str, Any]] = []
        self.losses: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = TrainableGenerator(settings.network())
            self.critics = build_critics(settings, self.dtype)
        self.learning = {name: _learning(critic) for name, critic in self.critics.items()}
        if settings.start_from is not None:
            self._grow_from(settings.start_from)
            if settings.even_out:
                even_out(self.generator, reach=settings.even_out)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator().manual_seed(settings.seed + 1)
        self.generator_optimiser = _optimiser([self.generator.mapping, self.generator.synthesis])
        self.critic_optimiser = _optimiser(list(self.critics.values()))

    def _grow_from(self, source: Path) -> None:
        if not source.is_dir():
            return grow(TrainableGenerator.of(load_generator(source)), self.generator)
        state = _read_checkpoint(source / CHECKPOINT)
        small = TrainableGenerator(StyleGAN2Config(**state["network"]))
        small.load_state_dict(state["average"])
        self._take_critics(state["critics"])
        return grow(small, self.generator)

    def _take_critics(self, critics: dict[str, dict[str, Tensor]]) -> None:
        for name in self.critics.keys() & critics.keys():
            self.critics[name].load_state_dict(critics[name], strict=False)

    def step(self) -> None:
        """One batch: the generator moves, then the critics, then the average."""
        self._set_rates()
        batch = self._draw()
        made = self._move_generator(batch)
        self._move_critics(batch, made)
        self._update_average()
        self.images += self.settings.batch

    def is_done(self) -> bool:
        """All photographs were shown."""
        return self.images >= self.settings.images

    def is_save_due(self) -> bool:
        """Every so many images; a step may pass over the number itself."""
        every, before = self.settings.save_every, self.images - self.settings.batch
        return self.images // every > before // every

    def _set_rates(self) -> None:
        settings = self.settings
        left = min(1.0, (settings.images - self.images) / max(settings.cooldown, 1))
        rate = settings.learning_rate * left * min(1.0, self.images / max(settings.warmup, 1))
        mapping, synthesis = self.generator_optimiser.param_groups
        mapping["lr"] = rate * settings.mapping_boost
        synthesis["lr"] = rate
        rates = {"projected": settings.critic_rate, "pixel": settings.pixel_rate}
        for name, group in zip(self.critics, self.critic_optimiser.param_groups, strict=True):
            group["lr"] = rates[name] * left

    def _draw(self) -> Batch:
        """Photographs, half of them mirrored, and vectors."""
        size = self.settings.batch
        chosen = torch.randint(len(self.photographs), (size,), generator=self.random)
        is_turned = torch.rand(size, 1, 1, 1, generator=self.random) < 0.5
        plain = to_float(self.photographs[chosen])
        real = torch.where(is_turned, plain.flip(3), plain)
        z = torch.randn(size, self.generator.config.z_dim, generator=self.random)
        if self.settings.readability:
            z = make_kin(z, self.random)
        state = self.random.get_state()
        disturbed = augment(real, self.random, self.settings.augment)
        features = {}
        with torch.no_grad():
            for name, critic in self.critics.items():
                features[name] = critic.features(disturbed)
                if isinstance(critic, ProjectedCritic):
                    critic.energy.remember(disturbed, features[name])
        return Batch(z, disturbed, features, state)

    def _move_generator(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Returns, for each critic, the features of the made pictures, cut off from the generator."""
        mapping = self.generator.mapping
        w = mapping(batch.z)
        with torch.no_grad():
            mapping.w_avg.lerp_(w.mean(dim=0), 0.005)
        ws = truncate(w, mapping.w_avg, self.generator.config.style_layers, 1.0, 0)
        pictures = self.generator.synthesis(ws, self.noise, self.dtype)
        self.random.set_state(batch.disturbance)
        disturbed = augment(pictures, self.random, self.settings.augment)
        features, total = {}, torch.zeros(())
        for name, critic in self.critics.items():
            self._set_learning(name, is_learning=False)
            features[name] = critic.features(disturbed)
            if isinstance(critic, ProjectedCritic) and self.images >= self.settings.energy_from:
                distance = critic.energy(disturbed, features[name])
                total = total + distance * self.settings.energy
                self._note("energy", distance)
            if isinstance(critic, ProjectedCritic) and self.settings.readability:
                line_up = critic.energy.line_up(disturbed, features[name])
                total = total + line_up * self.settings.readability
                self._note("line_up", line_up)
            loss = critic.generator_loss(critic.judge(features[name]))
            total = total + loss * self._weight(name)
            self._note(f"generator_{name}", loss)
        self.generator_optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.generator_optimiser.step()
        return {name: [f.detach() for f in parts] for name, parts in features.items()}

    def _set_learning(self, name: str, *, is_learning: bool) -> None:
        """Switches the gradients of what learns in a critic; frozen parts stay frozen."""
        for parameter in self.learning[name]:
            parameter.requires_grad_(is_learning)

    def _weight(self, name: str) -> float:
        return self.settings.pixel_weight if name == "pixel" and len(self.critics) > 1 else 1.0

    def _move_critics(self, batch: Batch, made: dict[str, list[Tensor]]) -> None:
        total = torch.zeros(())
        for name, critic in self.critics.items():
            self._set_learning(name, is_learning=True)
            judged, judged_made = critic.judge(batch.features[name]), critic.judge(made[name])
            loss = critic.critic_loss(judged, judged_made)
            total = total + loss
            self._note(f"critic_{name}", loss)
            if isinstance(critic, PixelCritic) and self._is_penalty_due():
                penalty = gradient_penalty(critic, batch.real)
                total = total + penalty * (0.5 * self.settings.r1 * self.settings.r1_every)
                self._note("r1", penalty)
        self.critic_optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.critic_optimiser.step()

    def _is_penalty_due(self) -> bool:
        return (self.images // self.settings.batch) % self.settings.r1_every == 0

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential average whose half-life grows with the run up to `ema_images`."""
        half_life = min(float(self.settings.ema_images), max(self.images * 0.05, 1.0))
        keep = 0.5 ** (self.settings.batch / half_life)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - keep)
        self.average.mapping.w_avg.copy_(self.generator.mapping.w_avg)

    def _note(self, name: str, loss: Tensor) -> None:
        value = float(loss.detach())
        self.losses[name] = 0.98 * self.losses.get(name, value) + 0.02 * value

    def save(self) -> Path:
        """Checkpoint, log line, sheet and export; each file whole or not at all. Returns the exported weights."""
        out = self.settings.out
        self._log()
        phases = [*self.phases, {"until_images": self.images, **self.settings.as_json()}]
        write_checkpoint(out, self.state(phases))
        drawing = self.average.drawing()
        write_sheet(drawing, out / f"sheet-{self.images // 1000:05d}k.png")
        provenance = Provenance(self.images, len(self.photographs), self.seconds, tuple(phases), dict(self.losses))
        return export_generator(drawing, out / "generator.safetensors", provenance)

    def _log(self) -> None:
        line = {"images": self.images, "seconds": round(self.seconds, 1), **self.losses}
        with (self.settings.out / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
        if not sys.stderr.isatty():
            return
        losses = "  ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        rate = self.images / max(self.seconds, 1e-9)
        counts = f"{self.images:>8} of {self.settings.images} images  {self.seconds / 60:6.1f} min  {rate:5.1f}/s"
        print(counts, losses, sep="  ", file=sys.stderr, flush=True)

    def state(self, phases: list[dict[str, Any]]) -> dict[str, Any]:
        """All that a resumed run needs."""
        critics = {name: _learned_state(critic) for name, critic in self.critics.items()}
        return {
            "network": dataclasses.asdict(self.settings.network()),
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "critics": critics,
            "generator_optimiser": self.generator_optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "random": self.random.get_state(),
            "noise": self.noise.get_state(),
            "images": self.images,
            "seconds": self.seconds,
            "losses": self.losses,
            "phases": phases,
        }

    def restore(self, path: Path) -> None:
        """Takes up a checkpoint.

        Raises:
            CorruptFileError: not a checkpoint.
            UsageError: a checkpoint of another generator or of other critics.
        """
        state = _read_checkpoint(path)
        network, critics = StyleGAN2Config(**state["network"]), state["critics"]
        if network != self.settings.network():
            raise UsageError(
                "the checkpoint is of another generator",
                where=str(path),
                expected=str(self.settings.network()),
                got=str(network),
            )
        self.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        self.generator_optimiser.load_state_dict(state["generator_optimiser"])
        self._take_critics(critics)
        if set(critics) == set(self.critics):
            self.critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.random.set_state(state["random"])
        self.noise.set_state(state["noise"])
        self.images, self.seconds = state["images"], state["seconds"]
        self.losses, self.phases = state["losses"], _closed_phases(state["phases"], self.settings.as_json())


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Trainer.state` gave, checked as far as the network's shape.

    Raises:
        CorruptFileError: not a checkpoint.
    """
    return read_checkpoint(path, lambda state: StyleGAN2Config(**state["network"]))


def _closed_phases(phases: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The phases before this one; the last is continued, not closed, when it had the same settings."""
    *earlier, last = phases
    is_same = {k: v for k, v in last.items() if k != "until_images"} == settings
    return earlier if is_same else phases


def _optimiser(networks: Sequence[nn.Module]) -> torch.optim.Optimizer:
    """Adam over what learns in each network, one group a network; the rates are set at every step."""
    groups = [{"params": _learning(network)} for network in networks]
    return torch.optim.Adam(groups, lr=1e-3, betas=(0.0, 0.99), eps=1e-8, fused=True)


def build_critics(settings: GeneratorTraining, dtype: torch.dtype) -> dict[str, Critic]:
    """The critics that the settings ask for, by name; `dtype` is the type of their feature maps."""
    critics: dict[str, Critic] = {}
    if settings.critic in ("projected", "both"):
        critics["projected"] = ProjectedCritic(load_efficientnet(), dtype=dtype)
    if settings.critic in ("pixel", "both"):
        critics["pixel"] = PixelCritic(min(settings.resolution, settings.pixel_side), dtype=dtype)
    return critics


def _learning(network: nn.Module) -> list[nn.Parameter]:
    """What learns in a network that was just built: all but its frozen parts."""
    return [p for p in network.parameters() if p.requires_grad]


def _learned_state(critic: Critic) -> dict[str, Tensor]:
    """A critic without its pretrained network, which is had from its package again."""
    return {name: value for name, value in critic.state_dict().items() if not name.startswith("network.")}
