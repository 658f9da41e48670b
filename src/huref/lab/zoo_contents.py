"""Which models a zoo has: offspring of every base, in the order in which they are made."""

from __future__ import annotations

from huref.lab.zoo_plan import OTHER, Plan, base, continued, full_bases, heavy, light

RICH = ("llama-tied-1", "gpt2-1", "llama-untied-1", "mixtral-1", "gemma-1")
"""Bases with offspring of every kind that fits their family."""


def full_plans() -> list[Plan]:
    """The zoo of `huref lab zoo`: twins and the tied Llama's offspring first."""
    bases = full_bases()
    first, rest = bases[:4], bases[4:]
    plans = [*first, *_offspring(first[0]), *rest]
    for plan in (*first[1:], *rest):
        plans += _offspring(plan)
    return plans


def small_plans() -> list[Plan]:
    """Two tiny twins with a few offspring, made in seconds."""
    return [base(f"llama-tied-{i}", "llama-tied", f"llama-tied/seed{i}") for i in (1, 2)]


def _offspring(plan: Plan) -> list[Plan]:
    name, other = plan.name, OTHER[plan.settings["text"]]
    if name not in RICH:
        return [light(name, other)]
    return [light(name, other), heavy(name, other), *(continued(name, other, t) for t in (0.1, 1.0))]
