"""A tiny zoo for the bench's tests: random Llamas, with noise for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huref_lab.zoo.record import Zoo, ZooModel, save_zoo
from kit.tiny_llama import TinyLlama


def base(name: str, init: str, text: str = "prose", architecture: str = "llama") -> ZooModel:
    return ZooModel(name, name, "base", (), (name,), init, architecture, text, "words")


def offspring(name: str, parent: ZooModel, kind: str = "fine-tune", strength: str = "") -> ZooModel:
    like = (parent.init, parent.architecture, parent.text, parent.tokenizer)
    return ZooModel(name, name, kind, (parent.name,), parent.roots, *like, strength)


ONE, TWO = base("one", "seed1"), base("two", "seed2")
SAME = base("one-order", "seed1")
FAR = base("far", "seed3", text="verse")
STUDENT = ZooModel("student", "student", "distilled", ("one",), ("student",), "fresh", "llama", "prose", "words")
MODELS = (
    ONE,
    TWO,
    SAME,
    FAR,
    offspring("one/light", ONE, strength="light"),
    offspring("two/light", TWO, strength="light"),
    offspring("far/heavy", FAR, strength="heavy"),
    ZooModel("one+far", "one+far", "merge", ("one", "far"), ("one", "far"), "seed1", "llama", "prose", "words"),
    STUDENT,
)


def listed(folder: Path = Path("nowhere")) -> Zoo:
    """The zoo as a list, without checkpoints."""
    return Zoo(folder, MODELS)


def write_zoo(folder: Path) -> Zoo:
    """Five of its models as checkpoints: two twins, an offspring of each, a student."""
    seeds = {"one": (1, 0.0), "two": (2, 0.0), "one/light": (1, 0.05), "two/light": (2, 0.05), "student": (3, 0.0)}
    models = tuple(model for model in MODELS if model.name in seeds)
    for model in models:
        seed, noise = seeds[model.name]
        TinyLlama(seed=seed, noise=noise).save(folder / _place(model))
    zoo = Zoo(folder, tuple(_moved(model) for model in models))
    save_zoo(zoo)
    return zoo


def _place(model: ZooModel) -> str:
    return model.name.replace("/", "-")


def _moved(model: ZooModel) -> ZooModel:
    return replace(model, path=_place(model))
