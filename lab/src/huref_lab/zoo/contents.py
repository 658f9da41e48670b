"""Which models a zoo has: offspring of every base, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huref_lab.zoo.plan import OTHER, Plan, base, continued, full_bases, heavy, light

RICH = ("llama-tied-1", "gpt2-1", "llama-untied-1", "mixtral-1", "gemma-1")
"""Bases with offspring of every kind that fits their family."""

_GROUPED = ("llama-tied", "llama-untied", "mixtral", "gemma")
_LLAMAS = ("llama-tied", "llama-untied")
_TOO_COSTLY_THRICE = ("gemma",)


def full_plans() -> list[Plan]:
    """The zoo of `huref lab zoo`: twins and the tied Llama's offspring first, the longest trainings last."""
    bases = {plan.name: plan for plan in full_bases()}
    twins = [bases[f"llama-tied-{i}"] for i in (1, 2, 3)]
    others = [plan for plan in bases.values() if plan not in twins]
    rich = [bases[name] for name in RICH]
    plans = [*twins, *_offspring(rich[0]), *_further(rich[0]), *others, *_real()]
    for plan in rich[1:]:
        plans += _offspring(plan)
    for plan in bases.values():
        plans += [] if plan in rich else _poor(plan)
    for plan in rich[1:]:
        plans += _further(plan)
    return [*plans, *_across()]


def small_plans() -> list[Plan]:
    """Two tiny twins, an untied base, and what is cheap of each kind; made in seconds, and taught next to nothing."""
    twins = [base(f"llama-tied-{i}", "llama-tied", f"llama-tied/seed{i}") for i in (1, 2)]
    order = base("llama-tied-1-order", "llama-tied", "llama-tied/seed1")
    text = "python:stdlib"
    name = twins[0].name
    across = [[i % 2, i] for i in range(2)]
    return [
        *twins,
        order,
        light(name, text),
        heavy(name, text),
        _lora(name, text, rank=2),
        _cut(name, "int8", "quantised"),
        _cut(name, "layers-dropped", "layers-dropped", {"dropped": [1]}),
        _merge(name, "ties", (name, f"{name}/tune-light", f"{name}/tune-heavy"), {"density": 0.5, "scale": 1.0}),
        _student(name, "llama-tied", 0.5),
        Plan("llama-tied-1/wrapped", "wrapped", "wrapped", (f"{name}/tune-light",)),
        Plan("across/frankenmerge", "stack", "frankenmerge", (name, twins[1].name), {"order": across}),
    ]


def _offspring(plan: Plan) -> list[Plan]:
    """Of a rich base, without the longest trainings."""
    name, family, text = plan.name, plan.settings["architecture"], plan.settings["text"]
    other = OTHER[text]
    tuned = (f"{name}/tune-light", f"{name}/tune-heavy")
    plans = [
        light(name, other),
        heavy(name, other),
        continued(name, other, 0.1),
        continued(name, other, 1.0),
        _lora(name, other, rank=8),
        Plan(f"{name}/dpo", "dpo", "dpo", (name,), {"text": text, "steps": 0.15, "rate": 0.1}),
        _cut(name, "int8", "quantised"),
        _cut(name, "nf4", "quantised"),
        _cut(name, "sparsified", "sparsified", {"share": 0.5}, "50 %"),
        _cut(name, "layers-dropped", "layers-dropped", {"dropped": [2]}, "1 of 4"),
        _cut(name, "depth-upscaled", "depth-upscaled", {"overlap": 2, "steps": 0.15, "rate": 0.5}, "4 to 6"),
        _cut(name, "width-pruned", "width-pruned", {"kept": 0.75}, "75 % of the neurons"),
        Plan(f"{name}/extended", "extended", "vocabulary-extended", (name,), _on(other, 0.15, 0.3, tokens=96)),
        Plan(f"{name}/swapped", "swapped", "tokenizer-swapped", (name,), {"tokenizer": other, "steps": 0.5}),
        _merge(name, "linear", tuned, {"weights": [0.6, 0.4]}),
        _merge(name, "slerp", (f"{name}/continued-1x", tuned[0]), {"t": 0.5}),
        _merge(name, "ties", (name, f"{name}/continued-1x", tuned[1]), {"density": 0.4, "scale": 1.0}),
        _merge(name, "task-arithmetic", (name, f"{name}/lora", tuned[1]), {"scale": 0.7}),
        _stack(f"{name}/passthrough", "passthrough", (tuned[0], tuned[1]), [[0, 0], [0, 1], [0, 2], [1, 2], [1, 3]]),
    ]
    if family in _GROUPED:
        healed = {"kept": 1, "steps": 0.1, "rate": 0.5}
        plans.append(_cut(name, "heads-pruned", "heads-pruned", healed, "1 of 2 groups"))
    if family in _LLAMAS:
        plans += [
            Plan(f"{name}/q8_0", "gguf", "quantised", (name,), {"type": "Q8_0"}, "Q8_0"),
            Plan(f"{name}/q4_0", "gguf", "quantised", (name,), {"type": "Q4_0"}, "Q4_0"),
            Plan(f"{name}/wrapped", "wrapped", "wrapped", (tuned[0],)),
            _cut(
                name,
                "moe-upcycled",
                "moe-upcycled",
                {"experts": 4, "noise": 0.1, "steps": 0.15, "rate": 0.5},
                "4 experts",
            ),
        ]
    return plans


def _further(plan: Plan) -> list[Plan]:
    """Of a rich base: pretraining three times as long again, and a student."""
    name, family, other = plan.name, plan.settings["architecture"], OTHER[plan.settings["text"]]
    longest = [] if family in _TOO_COSTLY_THRICE else [continued(name, other, 3.0)]
    return [*longest, _student(name, family, 1.0)] if family != "mixtral" else longest


def _poor(plan: Plan) -> list[Plan]:
    """Of every other base: one that costs little."""
    return [light(plan.name, OTHER[plan.settings["text"]])]


def _across() -> list[Plan]:
    """Models with two bases, and a student of another architecture than its teacher."""
    by_turns = [[i % 2, i] for i in range(4)]
    healed = {"order": by_turns, "steps": 0.2, "rate": 0.5}
    return [
        _stack("across/frankenmerge-llama", "frankenmerge", ("llama-tied-1", "llama-tied-2"), by_turns),
        Plan("across/frankenmerge-llama-healed", "stack", "frankenmerge", ("llama-tied-1", "llama-tied-2"), healed),
        Plan("across/frankenmerge-gpt2-healed", "stack", "frankenmerge", ("gpt2-1", "gpt2-2"), healed),
        Plan(
            "across/gpt2-taught-llama",
            "student",
            "distilled",
            ("gpt2-1",),
            {"architecture": "llama-tied", "steps": 1.0},
        ),
    ]


def _real() -> list[Plan]:
    settings = {"init": "smollm2", "architecture": "llama", "text": "its own", "tokenizer": "its own"}
    name = "smollm2"
    return [
        Plan(name, "real", "base", (), settings),
        Plan(f"{name}/tune-light", "real-tuned", "fine-tune", (name,), _on("python:stdlib", 10, 2e-4), "light"),
        Plan(f"{name}/tune-heavy", "real-tuned", "fine-tune", (name,), _on("debian:perl-doc", 50, 4e-4), "heavy"),
        Plan(f"{name}/lora", "real-lora", "lora", (name,), _on("debian:perl-doc", 20, 2e-3, rank=8)),
        Plan(f"{name}/width-pruned", "real-cut", "width-pruned", (name,), {"cut": "width-pruned", "kept": 0.75}),
        Plan(f"{name}/nf4", "real-cut", "quantised", (name,), {"cut": "nf4"}, "nf4"),
        Plan(f"{name}/q8_0", "real-gguf", "quantised", (name,), {}, "Q8_0"),
    ]


def _on(text: str, steps: float, rate: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "steps": steps, "rate": rate, **more}


def _lora(name: str, text: str, rank: int) -> Plan:
    return Plan(f"{name}/lora", "lora", "lora", (name,), _on(text, 0.3, 1.0, rank=rank), f"rank {rank}")


def _cut(name: str, cut: str, kind: str, settings: Mapping[str, Any] | None = None, strength: str = "") -> Plan:
    return Plan(f"{name}/{cut}", "cut", kind, (name,), {"cut": cut, **(settings or {})}, strength or cut)


def _merge(name: str, method: str, parents: tuple[str, ...], settings: Mapping[str, Any]) -> Plan:
    return Plan(f"{name}/merge-{method}", "merge", f"merge-{method}", parents, {"method": method, **settings})


def _stack(name: str, kind: str, parents: tuple[str, ...], order: list[list[int]]) -> Plan:
    return Plan(name, "stack", kind, parents, {"order": order})


def _student(name: str, architecture: str, steps: float) -> Plan:
    settings = {"architecture": architecture, "steps": steps}
    return Plan(f"{name}/student", "student", "distilled", (name,), settings)
