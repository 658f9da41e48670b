"""What is in a zoo that `huref lab zoo` made: losses, CPU seconds, and what is left of the first weights.

    .venv/bin/python lab/benchmarks/zoo.py ZOO > lab/benchmarks/results/zoo.txt

The tables are those of `docs/reference/zoo.md`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import torch

from huref_lab.encoder_study.models import seed_of
from huref_lab.training.language_models import fresh_model, seeded, vocabulary_size
from huref_lab.zoo.construction import Zoo, load_zoo
from huref_lab.zoo.plan import FULL, family
from huref_lab.zoo.stored import is_projection, read_stored
from measure import machine

REAL = "smollm2"


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=Path)
    zoo = load_zoo(parser.parse_args().zoo)
    seconds = {model.name: _seconds(zoo, model.name) for model in zoo.models}
    print(machine())
    print("command: lab/benchmarks/zoo.py ZOO, after huref lab zoo --out ZOO")
    print(f"{len(zoo.models)} models, {sum(seconds.values()):.0f} CPU seconds in all\n")
    _bases(zoo, seconds)
    _offspring(zoo, seconds)
    _inits(zoo)
    truths = [truth for _, _, truth in zoo.pairs()]
    counts = {truth: truths.count(truth) for truth in ("kin", "independent", "same-init")}
    print(f"pairs: {', '.join(f'{n} {truth}' for truth, n in counts.items())}")


def _seconds(zoo: Zoo, name: str) -> float:
    return float(json.loads((zoo.folder / "records" / f"{name}.json").read_text(encoding="utf-8"))["cpu_seconds"])


def _bases(zoo: Zoo, seconds: dict[str, float]) -> None:
    print("| base | architecture | text | vocabulary of | init | unigram | loss | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for model in (model for model in zoo.models if model.kind == "base"):
        unigram, after = (f"{model.losses[key]:.2f}" if key in model.losses else "-" for key in ("unigram", "after"))
        words = [model.name, model.architecture, model.text, model.tokenizer, model.init, unigram, after]
        print(f"| {' | '.join(words)} | {seconds[model.name]:.0f} |")
    print()


def _offspring(zoo: Zoo, seconds: dict[str, float]) -> None:
    """A line a kind and strength; the loss before and after as means over the zoo's small models."""
    groups = defaultdict(list)
    for model in zoo.models:
        if model.kind != "base":
            groups[model.kind, model.strength].append(model)
    print("| kind | strength | models | loss before | loss after | CPU s each |\n|---|---|---|---|---|---|")
    for (kind, strength), models in groups.items():
        small = [model for model in models if not model.name.startswith(f"{REAL}/") and "after" in model.losses]
        before, after = (f"{mean(m.losses[k] for m in small):.2f}" if small else "-" for k in ("before", "after"))
        spent = mean(seconds[model.name] for model in models)
        print(f"| {kind} | {strength} | {len(models)} | {before} | {after} | {spent:.1f} |")
    print()


def _inits(zoo: Zoo) -> None:
    """Cosine of all layers' matrices together: of bases with each other, and of each with its first weights."""
    print("| a | b | are | cosine of a and b | of a and its first weights |\n|---|---|---|---|---|")
    bases = [model for model in zoo.bases if model.kind == "base" and model.name != REAL]
    for i, a in enumerate(bases):
        for b in bases[i + 1 :]:
            is_twin = (a.architecture, a.text, a.tokenizer) == (b.architecture, b.text, b.tokenizer)
            truth = zoo.truth(a.name, b.name)
            if truth == "same-init" or (is_twin and a.name.endswith("-1") and b.name.endswith("-2")):
                first = _cosine(_weights(zoo, a.name), _first_weights(zoo, a.name))
                both = _cosine(_weights(zoo, a.name), _weights(zoo, b.name))
                print(f"| {a.name} | {b.name} | {truth} | {both:.3f} | {first:.3f} |")
    print()


def _weights(zoo: Zoo, name: str) -> torch.Tensor:
    tensors = read_stored(zoo.path(name)).tensors
    return torch.cat([tensors[k].flatten() for k in sorted(tensors) if is_projection(k, tensors[k])])


def _first_weights(zoo: Zoo, name: str) -> torch.Tensor:
    """The random weights that a base was trained from, in the order of `_weights`."""
    import tempfile

    base = zoo[name]
    tokenizer = (zoo.path(name) / "tokenizer.json").read_text(encoding="utf-8")
    model_type, sizes = family(base.architecture, FULL)
    with seeded(seed_of(f"zoo/weights/{base.init}")), tempfile.TemporaryDirectory() as place:
        fresh_model(model_type, sizes, vocabulary_size(tokenizer)).save_pretrained(place)
        (Path(place) / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        tensors = read_stored(Path(place)).tensors
        return torch.cat([tensors[k].flatten() for k in sorted(tensors) if is_projection(k, tensors[k])])


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


if __name__ == "__main__":
    main()
