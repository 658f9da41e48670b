"""What a zoo consists of, before anything is made: plans of models, their sizes, and the families' shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from huref_lab.encoder_study.models import seed_of

RECIPE = 1
"""Raised when a maker changes what it makes, so that nothing made before is taken for what is made now."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        vocabulary: tokens of a vocabulary that is learned.
        characters: of a text.
        batch, length: sequences a step, tokens a sequence.
        steps: of a base's training; offspring go by it.
        rate: the peak learning rate of a base.
        width, depth, heads, kv_heads, gated, plain: of every model but those that say otherwise; `gated` and `plain`
            are the feed-forward widths of the two forms.
    """

    vocabulary: int = 2304
    characters: int = 2_000_000
    batch: int = 16
    length: int = 128
    steps: int = 300
    rate: float = 3e-3
    width: int = 128
    depth: int = 4
    heads: int = 4
    kv_heads: int = 2
    gated: int = 352
    plain: int = 512


FULL = Scale()
SMALL = Scale(640, 60_000, 4, 32, 24, 1e-2, 32, 2, 2, 1, 64, 96)


@dataclass(frozen=True)
class Plan:
    """A model to be.

    Attributes:
        name: unique; `BASE/OFFSPRING` for an offspring.
        maker: a key of `huref_lab.zoo.makers.MAKERS`.
        kind: how it is named in the zoo.
        parents: names of what it is made from; a base has none.
        settings: what the maker is told; text, numbers and lists.
        strength: how far it goes, in a word.
    """

    name: str
    maker: str
    kind: str
    parents: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    strength: str = ""

    @property
    def path(self) -> str:
        """Of the checkpoint, relative to the zoo."""
        base, _, rest = self.name.partition("/")
        return f"models/{base}/{rest or 'base'}{'.gguf' if self.maker.endswith('gguf') else ''}"

    @property
    def seed(self) -> int:
        """Of everything random about it, its first weights apart: it follows from the name."""
        return seed_of(f"zoo/{self.name}")


def digests(plans: Sequence[Plan], scale: Scale) -> dict[str, str]:
    """Plan's name -> digest of everything that decides the model: its plan, its parents' plans, the scale."""
    found: dict[str, str] = {}
    for plan in plans:
        parts = [RECIPE, asdict(scale), asdict(plan), [found[parent] for parent in plan.parents]]
        found[plan.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return found


def family(label: str, scale: Scale) -> tuple[str, dict[str, Any]]:
    """A label of the zoo as transformers' name of the family and the fields of its configuration."""
    heads = {"num_attention_heads": scale.heads, "num_key_value_heads": scale.kv_heads}
    common = {"hidden_size": scale.width, "num_hidden_layers": scale.depth, "max_position_embeddings": 256, **heads}
    gated = {**common, "intermediate_size": scale.gated}
    gemma = {**gated, "head_dim": scale.width // scale.heads, "tie_word_embeddings": True}
    still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False}
    wider = {"hidden_size": scale.width * 5 // 4, "intermediate_size": scale.gated * 5 // 4}
    table: dict[str, tuple[str, dict[str, Any]]] = {
        "llama-tied": ("llama", {**gated, "tie_word_embeddings": True}),
        "llama-untied": ("llama", {**gated, "tie_word_embeddings": False}),
        "llama-wide": (
            "llama",
            {**gated, **wider, "num_hidden_layers": scale.depth + 1, "tie_word_embeddings": True},
        ),
        "qwen2": ("qwen2", {**gated, "tie_word_embeddings": True}),
        "gemma": ("gemma", gemma),
        "gemma3": ("gemma3_text", {**gemma, "query_pre_attn_scalar": scale.width // scale.heads}),
        "mixtral": ("mixtral", {**gated, **experts, "intermediate_size": scale.gated // 2}),
        "gpt_neox": (
            "gpt_neox",
            {**common, "intermediate_size": scale.plain, "attention_dropout": 0.0, "hidden_dropout": 0.0},
        ),
        "gpt2": (
            "gpt2",
            {"n_embd": scale.width, "n_layer": scale.depth, "n_head": scale.heads, "n_positions": 256}
            | {"n_inner": scale.plain, **still},
        ),
    }
    model_type, sizes = table[label]
    if model_type == "gpt_neox":
        del sizes["num_key_value_heads"]
    return model_type, sizes


def base(
    name: str, architecture: str, init: str, text: str = "python:stdlib", tokenizer: str = "python:stdlib"
) -> Plan:
    """A base to train from nothing."""
    settings = {"architecture": architecture, "init": init, "text": text, "tokenizer": tokenizer}
    return Plan(name, "base", "base", (), settings)


def twin_bases(n: Mapping[str, int]) -> list[Plan]:
    """For every family so many bases: same text, same vocabulary, same shape, other first weights and other order."""
    return [
        base(f"{label}-{i}", label, f"{label}/seed{i}") for label, count in n.items() for i in range(1, count + 1)
    ]


OTHER = {
    "python:stdlib": "debian:perl-doc",
    "python:sympy": "debian:perl-doc",
    "debian:dict-gcide": "debian:manpages-dev",
    "debian:manpages-de": "debian:manpages-fr",
}
"""A base's text -> another domain, on which its offspring are tuned."""


def full_bases() -> list[Plan]:
    """Twins first; then other data, other words, and the two kinds of equal first weights."""
    return [
        *twin_bases({"llama-tied": 4, "gpt2": 2, "llama-untied": 2, "mixtral": 2, "gemma": 2, "gpt_neox": 2}),
        base("llama-tied-1-order", "llama-tied", "llama-tied/seed1"),
        base("llama-tied-1-text", "llama-tied", "llama-tied/seed1", "python:sympy"),
        base("gpt2-1-order", "gpt2", "gpt2/seed1"),
        base("llama-sympy", "llama-tied", "llama-tied/sympy", "python:sympy"),
        base("llama-dictionary", "llama-tied", "llama-tied/dictionary", "debian:dict-gcide", "debian:dict-gcide"),
        base("llama-german", "llama-untied", "llama-untied/german", "debian:manpages-de", "debian:manpages-de"),
        base("llama-wide", "llama-wide", "llama-wide/seed1"),
        *twin_bases({"qwen2": 1, "gemma3": 1}),
    ]


def tune(parent: str, name: str, kind: str, strength: str, settings: Mapping[str, Any]) -> Plan:
    """A model trained further."""
    return Plan(f"{parent}/{name}", "tune", kind, (parent,), settings, strength)


def light(parent: str, text: str) -> Plan:
    """A short fine-tune."""
    return tune(parent, "tune-light", "fine-tune", "light", {"text": text, "steps": 0.1, "rate": 0.1})


def heavy(parent: str, text: str) -> Plan:
    """A longer fine-tune, six times as fast."""
    return tune(parent, "tune-heavy", "fine-tune", "heavy", {"text": text, "steps": 0.4, "rate": 0.6})


def continued(parent: str, text: str, times: float) -> Plan:
    """Pretraining that goes on in another domain at the base's full rate, for `times` the base's tokens."""
    settings = {"text": text, "steps": times, "rate": 1.0}
    return tune(parent, f"continued-{times:g}x", "continued", f"{times:.1f}x", settings)
