"""The zoo's real model, SmolLM2-135M-Instruct, and the multimodal wrapping of a small one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from huref.demo.bundled import bundled_model
from huref.demo.requantisation import requantise
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import load_decoder
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref_lab.training.language_models import (
    TrainJob,
    TrainOptions,
    encode,
    fit,
    load_model,
    mean_loss,
    seeded,
    split,
    train_and_save,
)
from huref_lab.training.texts import read_text
from huref_lab.zoo.stored import read_stored, write_stored
from huref_lab.zoo.surgery import CUTS
from huref_lab.zoo.task import Made, Task
from huref_lab.zoo.training import ATTENTION, save_model, summary
from huref_lab.zoo.tuning import add_low_rank, merge_low_rank

_CHARACTERS = 300_000


def make_real(task: Task) -> Made:
    """SmolLM2-135M-Instruct as a checkpoint folder, dequantised from the package's GGUF file."""
    with open_checkpoint(bundled_model()) as checkpoint:
        model = load_decoder(open_weights(checkpoint), np.float32)
        write_checkpoint(model, task.target, tokenizer_files(checkpoint))
    return Made("SmolLM2-135M-Instruct, dequantised from Q4_1")


def make_real_gguf(task: Task) -> Made:
    """The package's file again with its matrices in Q8_0."""
    requantise(bundled_model(), task.target)
    return Made("GGUF Q8_0 of the package's Q4_1 file")


def make_real_tuned(task: Task) -> Made:
    """A fine-tune of every weight on another text; two sequences a step, for it is 130 times as large as the rest."""
    job = _job(task)
    trained = train_and_save(load_model(task.sources[0]), job, task.tokenizer(), _ids(task))
    return summary(trained, job)


def make_real_lora(task: Task) -> Made:
    """A low-rank update of the attention matrices, merged."""
    job, rank = _job(task), task.plan.settings["rank"]
    model = load_model(task.sources[0])
    train, held_out = split(_ids(task), job.options)
    before = mean_loss(model, held_out)
    modules = add_low_rank(model, rank, 2.0 * rank, task.plan.seed)
    fit(model, train, job)
    with torch.no_grad():
        merge_low_rank(modules)
    after = mean_loss(model, held_out)
    save_model(task.target, model, task.tokenizer())
    return Made(
        f"LoRA of rank {rank}, {job.options.steps} steps of {job.about}, merged", {"before": before, "after": after}
    )


def make_real_cut(task: Task) -> Made:
    """One of `huref_lab.zoo.surgery.CUTS`; no loss is measured."""
    settings = task.plan.settings
    write_stored(task.target, CUTS[settings["cut"]](read_stored(task.sources[0]), settings, task.plan.seed))
    return Made(", ".join(f"{key} {value}" for key, value in settings.items()))


def make_wrapped(task: Task) -> Made:
    """A Llama as the language half of a Llava, beside a fresh vision tower and projector; its weights stay."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    text = load_model(task.sources[0], ATTENTION)
    text.config._name_or_path = ""
    vision: dict[str, Any] = dict.fromkeys(("hidden_size", "image_size", "projection_dim"), 32)
    vision |= {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
    tied = bool(text.config.tie_word_embeddings)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision),
        text_config=text.config,
        image_token_index=1,
        tie_word_embeddings=tied,
    )
    with seeded(task.plan.seed):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    with torch.no_grad():
        model.lm_head.weight.copy_(text.lm_head.weight)
    save_model(task.target, model, task.tokenizer())
    return Made("the language half of a Llava", changes={"architecture": "llava"})


def _job(task: Task) -> TrainJob:
    settings = task.plan.settings
    options = TrainOptions(settings["steps"], 2, 128, settings["rate"], task.plan.seed)
    return TrainJob(task.target, options, settings["text"])


def _ids(task: Task) -> torch.Tensor:
    text = read_text(task.plan.settings["text"], _CHARACTERS, task.zoo / "debs")
    return encode(task.tokenizer().decode(), text)
