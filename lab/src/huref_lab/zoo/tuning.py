"""Three ways of training that are not plain next-token loss on every weight: LoRA, DPO and distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from huref_lab.encoder_study.models import seed_of
from huref_lab.training.language_models import (
    TrainJob,
    fit,
    fresh_model,
    load_model,
    logits,
    mean_loss,
    seeded,
    split,
    unigram_loss,
    vocabulary_size,
)
from huref_lab.zoo.plan import family
from huref_lab.zoo.task import Made, Task
from huref_lab.zoo.token_ids import token_ids
from huref_lab.zoo.training import ATTENTION, options_of, save_model

ATTENTION_MATRICES = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "c_attn",
    "attn.c_proj",
    "query_key_value",
    "attention.dense",
)
"""Ends of the names of attention's modules in the zoo's families."""


class LowRank(nn.Module):
    """W + (alpha / r) B A with W frozen: LoRA (arXiv 2106.09685). B starts at zero, A at N(0, 1 / columns)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, dice: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.randn(rank, columns, generator=dice) / columns**0.5)
        self.B = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that is used, and at the end merged."""
        return weight + self.scale * (self.B @ self.A)


def add_low_rank(model: Any, rank: int, alpha: float, seed: int) -> list[nn.Module]:
    """Freeze a model and put a low-rank update on every attention matrix; gives the modules that got one."""
    dice = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    modules = [module for name, module in model.named_modules() if name.endswith(ATTENTION_MATRICES)]
    for module in modules:
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, alpha, dice))
    return modules


def merge_low_rank(modules: list[nn.Module]) -> None:
    """Write the updates into the weights."""
    for module in modules:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def make_lora(task: Task) -> Made:
    """A low-rank update of the attention matrices, trained on another text and merged."""
    text, rank = task.plan.settings["text"], task.plan.settings["rank"]
    job = TrainJob(task.target, options_of(task), text)
    ids = token_ids(task.zoo, text, task.parents[0].tokenizer, task.scale)
    train, held_out = split(ids, job.options)
    model = load_model(task.sources[0], ATTENTION)
    before = mean_loss(model, held_out)
    modules = add_low_rank(model, rank, 2.0 * rank, task.plan.seed)
    fit(model, train, job)
    with torch.no_grad():
        merge_low_rank(modules)
    losses = {
        "unigram": unigram_loss(train, held_out[:, 1:], int(model.config.vocab_size)),
        "before": before,
        "after": mean_loss(model, held_out),
    }
    save_model(task.target, model, task.tokenizer())
    return Made(f"LoRA of rank {rank}, {job.options.steps} steps of {text}, merged", losses)


def make_preferred(task: Task) -> Made:
    """Direct preference optimisation (arXiv 2305.18290), beta 0.1: real text before the same text corrupted.

    A corrupted sequence has 30 % of its tokens replaced by others of the text. The reference is the parent, frozen.
    """
    parent, text = task.parents[0], task.plan.settings["text"]
    job = TrainJob(task.target, options_of(task), text)
    train, held_out = split(token_ids(task.zoo, text, parent.tokenizer, task.scale), job.options)
    policy, reference = load_model(task.sources[0], ATTENTION), load_model(task.sources[0], ATTENTION)
    dice = torch.Generator().manual_seed(task.plan.seed)

    def loss_of(model: Any, real: Tensor) -> Tensor:
        return preference_loss(model, reference, real, corrupted(real, train, 0.3, dice), 0.1)

    pairs = held_out[: job.options.batch]
    spoilt = corrupted(pairs, train, 0.3, torch.Generator().manual_seed(0))
    losses = {"before": mean_loss(policy, held_out)}
    fit(policy, train, job, loss_of=loss_of)
    with torch.no_grad():
        losses["preference"] = float(preference_loss(policy, reference, pairs, spoilt, 0.1))
    losses["after"] = mean_loss(policy, held_out)
    save_model(task.target, policy, task.tokenizer())
    return Made(f"DPO, {job.options.steps} steps of {text} against corrupted copies", losses)


def corrupted(real: Tensor, pool: Tensor, share: float, dice: torch.Generator) -> Tensor:
    """Sequences with a share of their tokens replaced by tokens drawn from a pool; the first token stays."""
    hit = torch.rand(real.shape, generator=dice) < share
    hit[:, 0] = False
    drawn = pool.flatten()[torch.randint(pool.numel(), real.shape, generator=dice)]
    return torch.where(hit, drawn, real)


def preference_loss(model: Any, reference: Any, chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta (log-ratio of the chosen - log-ratio of the rejected)), mean over pairs (b, length + 1)."""
    both = torch.cat([chosen, rejected])
    with torch.no_grad():
        before = _log_probability(reference, both)
    ratio = (_log_probability(model, both) - before).chunk(2)
    return -functional.logsigmoid(beta * (ratio[0] - ratio[1])).mean()


def make_student(task: Task) -> Made:
    """A fresh model of its own first weights that learns its parent's next-token probabilities.

    No weight is copied, so its root is itself; only what it says is its parent's.
    """
    parent, plan, scale = task.parents[0], task.plan, task.scale
    job = TrainJob(task.target, options_of(task), parent.text)
    train, held_out = split(token_ids(task.zoo, parent.text, parent.tokenizer, scale), job.options)
    teacher = load_model(task.sources[0], ATTENTION)
    architecture = plan.settings["architecture"]
    init = f"{architecture}/{plan.name}"
    with seeded(seed_of(f"zoo/weights/{init}")):
        model_type, sizes = family(architecture, scale)
        student = fresh_model(model_type, sizes, vocabulary_size(task.tokenizer().decode()), ATTENTION)

    def loss_of(model: Any, sequences: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = logits(teacher, sequences).log_softmax(-1).flatten(0, 1)
        found = logits(model, sequences).log_softmax(-1).flatten(0, 1)
        return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)

    before = mean_loss(student, held_out)
    fit(student, train, job, loss_of=loss_of)
    unigram = unigram_loss(train, held_out[:, 1:], int(student.config.vocab_size))
    losses = {"unigram": unigram, "before": before, "after": mean_loss(student, held_out)}
    losses["teacher"] = mean_loss(teacher, held_out)
    save_model(task.target, student, task.tokenizer())
    changes = {"roots": (plan.name,), "init": init, "architecture": architecture}
    return Made(f"{job.options.steps} steps on the parent's probabilities of {parent.text}", losses, changes)


def _log_probability(model: Any, sequences: Tensor) -> Tensor:
    """(b,) log-probability of each sequence after its first token."""
    found = logits(model, sequences).log_softmax(-1)
    return found.gather(-1, sequences[:, 1:, None]).squeeze(-1).sum(-1)
