"""Which models the study is made of, and making them: bases from nothing, then offspring of each.

Everything is cached in one folder and made again only where it is missing: `debs/` (text), `tokenizers/`, `models/`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from huref.demo.bundled import bundled_model
from huref.demo.requantisation import requantise
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import load_decoder
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.progress import Report
from huref_lab.encoder_study.offspring import Offspring, make_noisy, make_requantised, noise_levels
from huref_lab.training.language_models import (
    Shape,
    Trained,
    TrainJob,
    TrainOptions,
    encode,
    load_trained,
    train_base,
    train_tokenizer,
    tune_further,
)
from huref_lab.training.texts import read_text

VOCABULARY = 2304
BASE_CHARACTERS = 1_000_000
TUNE_CHARACTERS = 300_000


@dataclass(frozen=True)
class BaseSpec:
    """A base to train.

    Attributes:
        name: unique in the study; the seed of weights, data order and noise follows from it. Equal seeds would give
            equal shapes equal first weights, and strangers would not be strangers.
        text: as `huref_lab.training.texts` names it.
        architecture: a key of `huref_lab.training.language_models.FAMILIES`.
        shape: sizes.
        tokenizer: the text its vocabulary was learned from; several bases may share one.
        other: the text its offspring are tuned on.
        steps: of training; None takes the study's number.
    """

    name: str
    text: str
    architecture: str = "llama"
    shape: Shape = field(default_factory=Shape)
    tokenizer: str = ""
    other: str = "python:mypy"
    steps: int | None = field(default=None, repr=False)

    @property
    def seed(self) -> int:
        """Of everything random about this base and its offspring."""
        return seed_of(self.name)

    @property
    def vocabulary(self) -> str:
        """The text that the vocabulary was learned from."""
        return self.tokenizer or self.text


_PLAIN = Shape(feed_forward=384)
_DEEP = Shape(depth=4, heads=6, feed_forward=224)
_WIDE = Shape(width=128, heads=4, kv_heads=2, feed_forward=320)
_PLAIN_WIDE = Shape(width=128, feed_forward=448)

BASES: tuple[BaseSpec, ...] = (
    BaseSpec("python", "python:stdlib", other="debian:perl-doc"),
    BaseSpec("german", "debian:manpages-de", "qwen2", other="debian:fortunes-de"),
    BaseSpec("dictionary", "debian:dict-gcide", "gpt_neox", _PLAIN, other="debian:manpages-dev"),
    BaseSpec("headers", "headers:torch", "gpt2", _PLAIN, steps=400),
    BaseSpec("french", "debian:manpages-fr", "llama", _WIDE, other="debian:manpages-it"),
    BaseSpec("perl", "debian:perl-doc", "gpt_neox", _PLAIN_WIDE),
    BaseSpec("japanese", "debian:manpages-ja", "mistral", _DEEP, other="debian:manpages-zh"),
    BaseSpec("sympy", "python:sympy", tokenizer="python:stdlib"),
    BaseSpec("python-twin", "python:stdlib", other="debian:perl-doc"),
    BaseSpec("russian", "debian:manpages-ru", "llama", other="debian:manpages-pl"),
    BaseSpec("postgres", "debian:postgresql-doc-15", "qwen2", _WIDE, other="debian:debian-policy"),
    BaseSpec("spanish", "debian:manpages-es", "gpt2", _PLAIN_WIDE, other="debian:manpages-it", steps=400),
    BaseSpec("git", "debian:git-doc", "mistral", other="debian:debian-policy"),
    BaseSpec("networkx", "python:networkx", "gpt2", _PLAIN, tokenizer="python:stdlib"),
    BaseSpec("linux", "debian:manpages-dev", "qwen2", _DEEP, other="debian:manpages"),
    BaseSpec("german-twin", "debian:manpages-de", "qwen2", other="debian:fortunes-de"),
    BaseSpec("chinese", "debian:manpages-zh", "gpt_neox", _PLAIN, other="debian:manpages-ja"),
    BaseSpec("polish", "debian:manpages-pl", "llama", _DEEP, other="debian:manpages-ru"),
    BaseSpec("fortunes", "debian:fortunes", "llama", _WIDE, other="debian:dict-gcide"),
    BaseSpec("scipy", "python:scipy", "qwen2", tokenizer="python:stdlib"),
    BaseSpec("dictionary-twin", "debian:dict-gcide", "gpt_neox", _PLAIN, other="debian:manpages-dev"),
)
"""Eighteen texts, three of them twice (twins: other seed only). In this order: the first few are a study too."""

TUNES = {
    "light": TrainOptions(steps=8, learning_rate=5e-4),
    "medium": TrainOptions(steps=24, learning_rate=2e-3),
    "heavy": TrainOptions(steps=60, learning_rate=5e-3),
}


@dataclass(frozen=True)
class ZooOptions:
    """What is made, besides the list of bases.

    Attributes:
        base: how bases are trained.
        tunes: name -> how a fine-tune is trained.
        noise: canonical ICS that noisy copies are to have.
        n_tokens: vocabulary rows over which ICS is taken.
        with_real: whether SmolLM2-135M is among the bases.
    """

    base: TrainOptions = field(default_factory=lambda: TrainOptions(steps=160, learning_rate=6e-3))
    tunes: dict[str, TrainOptions] = field(default_factory=lambda: dict(TUNES))
    noise: tuple[float, ...] = (0.95, 0.9, 0.85, 0.8, 0.7, 0.5, 0.3)
    n_tokens: int = 1024
    with_real: bool = True


@dataclass(frozen=True)
class Family:
    """A base that was made and its offspring.

    Attributes:
        name: of the base.
        path: its checkpoint.
        made: how.
        text, tokenizer, architecture: see `huref_lab.encoder_study.record.StudyModel`.
        offspring: in the order in which they were made.
    """

    name: str
    path: Path
    made: str
    text: str
    tokenizer: str
    architecture: str
    offspring: tuple[Offspring, ...] = ()


def seed_of(name: str) -> int:
    """A seed in [0, 2^31) that belongs to a name."""
    return int.from_bytes(hashlib.sha256(f"huref/study/{name}".encode()).digest()[:4], "little") >> 1


def make_families(
    folder: Path, specs: Sequence[BaseSpec], options: ZooOptions, report: Report | None = None
) -> Iterator[Family]:
    """Make every base and its offspring, or find them where they were made before; the real model comes first.

    Raises:
        MissingFileError: a text cannot be had, or the real model is not installed.
    """
    if options.with_real:
        yield make_real(folder, options, report)
    for spec in specs:
        yield make_offspring(folder, make_base(folder, spec, options, report), spec, options, report)


def make_offspring(
    folder: Path, family: Family, spec: BaseSpec, options: ZooOptions, report: Report | None
) -> Family:
    """Fine-tunes, noisy copies and a requantised one of a trained base."""
    place = family.path.parent
    tokenizer = (family.path / "tokenizer.json").read_text(encoding="utf-8")
    found: list[Offspring] = []
    for name, tune in options.tunes.items():
        job = TrainJob(place / name, replace(tune, seed=spec.seed + 1), f"{family.made}; then {spec.other}")
        trained = load_trained(job)
        if trained is None:
            text = read_text(spec.other, TUNE_CHARACTERS, folder / "debs")
            trained = tune_further(job, family.path, encode(tokenizer, text), report)
        found.append(Offspring(job.folder, "fine-tune", f"{name}: {_tuned(trained, job, spec.other)}"))
    found.append(make_requantised(place / "4-bit", family.path))
    found += _noisy(family, options)
    return replace(family, offspring=tuple(found))


def make_real(folder: Path, options: ZooOptions, report: Report | None) -> Family:
    """SmolLM2-135M-Instruct with a short fine-tune, a requantised copy and graded noise.

    Raises:
        MissingFileError: the package that holds it is not installed.
    """
    source, place = bundled_model(), folder / "models" / "smollm2"
    plain = place / "base"
    if not (plain / "model.safetensors").is_file():
        with open_checkpoint(source) as checkpoint:
            model = load_decoder(open_weights(checkpoint), np.float32)
            write_checkpoint(model, plain, tokenizer_files(checkpoint))
    family = Family("smollm2", plain, "SmolLM2-135M-Instruct, dequantised from Q4_1", "its own", "its own", "llama")
    job = TrainJob(place / "tuned", TrainOptions(steps=12, batch=2, learning_rate=3e-4), "python:stdlib")
    trained = load_trained(job)
    if trained is None:
        text = read_text("python:stdlib", TUNE_CHARACTERS, folder / "debs")
        ids = encode((plain / "tokenizer.json").read_text(encoding="utf-8"), text)
        trained = tune_further(job, plain, ids, report)
    quantised = place / "q8.gguf"
    if not quantised.is_file():
        requantise(source, quantised)
    found = [
        Offspring(job.folder, "fine-tune", f"tuned: {_tuned(trained, job, job.about)}"),
        Offspring(quantised, "requantised", "GGUF Q8_0"),
        *_noisy(family, options),
    ]
    return replace(family, offspring=tuple(found))


def _noisy(family: Family, options: ZooOptions) -> list[Offspring]:
    paths = {target: family.path.parent / f"noise-{100 * target:.0f}" for target in options.noise}
    missing = [target for target, path in paths.items() if not (path / "model.safetensors").is_file()]
    seed = seed_of(family.name)
    for target, sigma in zip(missing, noise_levels(family.path, missing, options.n_tokens, seed), strict=True):
        make_noisy(paths[target], family.path, sigma, seed)
    return [Offspring(path, "noise", f"noise to an ICS near {target}") for target, path in paths.items()]


def make_base(folder: Path, spec: BaseSpec, options: ZooOptions, report: Report | None) -> Family:
    """Train a base; offspring of an earlier base of that name go."""
    place = folder / "models" / spec.name
    asked = replace(options.base, seed=spec.seed, steps=spec.steps or options.base.steps)
    job = TrainJob(place / "base", asked, repr(replace(spec, other="")))
    trained = load_trained(job)
    if trained is None:
        shutil.rmtree(place, ignore_errors=True)
        tokenizer = _tokenizer(folder, spec.vocabulary)
        ids = encode(tokenizer, read_text(spec.text, BASE_CHARACTERS, folder / "debs"))
        trained = train_base(job, spec.architecture, spec.shape, tokenizer, ids, report)
    made = f"{_tuned(trained, job, spec.text)}, unigram {trained.unigram:.2f}"
    return Family(spec.name, job.folder, made, spec.text, spec.vocabulary, spec.architecture)


def _tokenizer(folder: Path, text: str) -> str:
    path = folder / "tokenizers" / f"{text.replace(':', '-')}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(train_tokenizer(read_text(text, BASE_CHARACTERS, folder / "debs"), VOCABULARY), "utf-8")
    return path.read_text(encoding="utf-8")


def _tuned(trained: Trained, job: TrainJob, text: str) -> str:
    return f"{job.options.steps} steps on {text}: loss {trained.before:.2f} -> {trained.after:.2f}"
