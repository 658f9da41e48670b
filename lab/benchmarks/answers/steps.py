"""Every step, and those that belong to no model: help, faults of use, the laboratory."""

from __future__ import annotations

from step import Step, m
from steps_attacks import attacks
from steps_proofs import proofs
from steps_reading import comparisons, explanations, families, fingerprints, pictures, rankings, reports

COMMANDS = (
    "", "fingerprint", "compare", "matrix", "diff", "cache", "parents", "explain", "render", "demo", "attack",
    "doctor", "commit", "publish", "verify",
    "prove", "prove fingerprint", "prove compare", "prove inference", "prove rows", "tokens", "tokens rank",
    "lab", "lab study", "lab zoo", "lab study-score", "lab bench", "lab calibrate",
    "encoder", "encoder convert", "encoder calibrate", "encoder evaluate",
    "generator", "generator convert", "generator evaluate", "train", "train encoder", "train generator",
)  # fmt: skip


def lab() -> list[Step]:
    """What of the lab takes seconds: a small zoo trained, a bench over it, a study's page, an encoder measured."""
    zoo, encoder = ("--zoo", "zoo", "--jobs", "1"), "lab/encoder.safetensors"
    bench = ("--methods", "huref", "--pairs", "5", "--out", "lab/bench.txt", "--json")
    calibration = ("--out", "lab/calibration.json", "--sampled", "3", "--json")
    small = ("--side", "256", "--samples", "4", "--json")
    return [
        Step("lab.zoo", ("lab", "zoo", "--out", "zoo", "--size", "small", "--jobs", "1", "--json")),
        Step("lab.calibrate", ("lab", "calibrate", *zoo, *calibration)),
        Step("lab.bench", ("lab", "bench", *zoo, *bench)),
        Step("lab.study", ("lab", "study", "--out", "lab/study.html", "--questions", "6", "--json")),
        Step("lab.encoder-calibrate", ("encoder", "calibrate", *m("encoder.safetensors"), encoder, *small)),
        Step("lab.encoder-evaluate", ("encoder", "evaluate", encoder, "--triplets", "2", "--json")),
    ]


def front() -> list[Step]:
    """What every command says of itself, and of mistakes."""
    steps = [
        Step(f"help.{text.replace(' ', '-') or 'huref'}", (*text.split(), "--help"), {"COLUMNS": "100"})
        for text in COMMANDS
    ]
    steps += [
        Step("front.version", ("--version",)),
        Step("front.nothing", ()),
        Step("front.unknown-command", ("paint",)),
        Step("front.unknown-option", ("compare", *m("llama", "gpt2"), "--nonsense", "--json")),
        Step("front.remote", ("compare", "ftp://example.org/model", *m("gpt2"), "--json")),
        Step("front.no-weights", ("fingerprint", "models/compat", "--json")),
        Step("front.not-a-model", ("fingerprint", "models/corpus.txt", "--json")),
        Step("front.not-a-fingerprint", ("render", "models/encoder.safetensors", "--json")),
        Step("front.bad-layers", ("compare", *m("llama", "gpt2"), "--layers", "99", "--json")),
    ]
    return steps


def all_steps() -> list[Step]:
    """In the order in which they run: later ones read what earlier ones wrote."""
    steps = [
        *front(), *rankings(), *fingerprints(), *explanations(), *comparisons(), *reports(), *pictures(), *families(),
        *attacks(), *proofs(), *lab(),
    ]  # fmt: skip
    names = [step.name for step in steps]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return steps
