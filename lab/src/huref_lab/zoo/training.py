"""Zoo models that are made by training alone: bases, fine-tunes, continued pretraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huref.forward.checkpoint_writer import write_folder
from huref_lab.encoder_study.models import seed_of
from huref_lab.training.language_models import (
    Trained,
    TrainJob,
    TrainOptions,
    fresh_model,
    load_model,
    seeded,
    train_and_save,
)
from huref_lab.training.language_models import vocabulary_size as size_of
from huref_lab.zoo.plan import family
from huref_lab.zoo.task import Made, Task
from huref_lab.zoo.token_ids import token_ids, tokenizer_of

ATTENTION = "eager"


def make_base(task: Task) -> Made:
    """A base from random weights that belong to `init`; the order of its sequences belongs to its name."""
    settings, scale = task.plan.settings, task.scale
    tokenizer = tokenizer_of(task.zoo, settings["tokenizer"], scale)
    model_type, sizes = family(settings["architecture"], scale)
    with seeded(seed_of(f"zoo/weights/{settings['init']}")):
        model = fresh_model(model_type, sizes, size_of(tokenizer), ATTENTION)
    ids = token_ids(task.zoo, settings["text"], settings["tokenizer"], scale)
    job = TrainJob(task.target, options_of(task), settings["text"])
    return summary(train_and_save(model, job, tokenizer.encode(), ids), job)


def make_tuned(task: Task) -> Made:
    """Every weight trained further, on another text."""
    parent, text = task.parents[0], task.plan.settings["text"]
    job = TrainJob(task.target, options_of(task), text)
    ids = token_ids(task.zoo, text, parent.tokenizer, task.scale)
    model = load_model(task.sources[0], ATTENTION)
    return summary(train_and_save(model, job, task.tokenizer(), ids), job)


def options_of(task: Task) -> TrainOptions:
    """Training options of a plan: `steps` as a multiple of a base's, `rate` likewise."""
    scale, settings = task.scale, task.plan.settings
    return TrainOptions(
        steps=max(2, round(settings.get("steps", 1.0) * scale.steps)),
        batch=scale.batch,
        length=scale.length,
        learning_rate=settings.get("rate", 1.0) * scale.rate,
        seed=task.plan.seed,
    )


def summary(trained: Trained, job: TrainJob) -> Made:
    """What a run did, in words and losses."""
    losses = {"unigram": trained.unigram, "before": trained.before, "after": trained.after}
    options = job.options
    tokens = options.steps * options.batch * options.length
    return Made(f"{options.steps} steps, {tokens} tokens of {job.about}, rate {options.learning_rate:g}", losses)


def save_model(folder: Path, model: Any, tokenizer: bytes) -> None:
    """Write a trained model as transformers does, with its vocabulary.

    Raises:
        OutputError: the place cannot be written.
    """

    def fill(partial: Path) -> None:
        model.save_pretrained(partial)
        (partial / "tokenizer.json").write_bytes(tokenizer)

    write_folder(folder, fill)
