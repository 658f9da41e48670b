"""Who are the parents? `huref parents` on a zoo: every offspring against all other models that are no merges.

    python lab/benchmarks/merges.py ZOO [--family NAME] [--out FILE]

Candidates of a child are all models of its architecture but itself, merges, and its own descendants. Merges must
come back with their parents; no offspring of one model may be called a merge; strangers must have weight 0.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from huref.parentage.record import Parentage
from huref.parentage.search import parents
from huref_lab.zoo.record import Zoo, ZooModel, load_zoo

MERGES = ("merge-", "passthrough")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("zoo", type=Path)
    options.add_argument("--family", default="", help="only children whose name begins so")
    options.add_argument("--out", type=Path, help="also write the lines to this file")
    chosen = options.parse_args()
    zoo = load_zoo(chosen.zoo)
    lines = []
    for line in measured(zoo, chosen.family):
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join([f"python {' '.join(sys.argv)}", *lines, ""]), encoding="utf-8")


def measured(zoo: Zoo, family: str) -> Iterator[str]:
    """A line a child, then the counts."""
    keys = "merges,merges told,false parents,others,false merges,parent named,parent right,strangers with a weight"
    counts = dict.fromkeys(keys.split(","), 0)
    slowest = 0.0
    for child in zoo.models:
        if not child.parents or not child.name.startswith(family):
            continue
        candidates = [model for model in zoo.models if is_candidate(zoo, child, model)]
        start = time.monotonic()
        found = parents(zoo.path(child.name), [zoo.path(model.name) for model in candidates])
        slowest = max(slowest, time.monotonic() - start)
        said = named(found, candidates)
        yield f"{child.name:<38} {child.kind:<22} {found.verdict:<13} {found.kind:<14} {said}"
        is_merge = child.kind.startswith(MERGES)
        counts["merges" if is_merge else "others"] += 1
        strangers = {model.name for model in candidates if zoo.truth(child.name, model.name) == "independent"}
        counts["strangers with a weight"] += len(strangers & set(weighted(found, candidates)))
        if found.verdict == "derived" and not is_merge:
            counts["parent named"] += 1
            counts["parent right"] += set(names_of(found, candidates)) <= set(child.parents)
        if found.verdict == "merged" and not is_merge:
            counts["false merges"] += 1
        if is_merge and found.verdict == "merged":
            counts["merges told"] += 1
            counts["false parents"] += len(set(names_of(found, candidates)) - set(child.parents))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield f"{counts}, slowest {slowest:.1f} s, peak memory {peak:.0f} MB"


def is_candidate(zoo: Zoo, child: ZooModel, model: ZooModel) -> bool:
    """Of the child's architecture, not the child, no merge, and not made from the child."""
    is_own = model.name == child.name or descends(zoo, model, child.name)
    return model.architecture == child.architecture and not is_own and not model.kind.startswith(MERGES)


def descends(zoo: Zoo, model: ZooModel, ancestor: str) -> bool:
    return any(name == ancestor or descends(zoo, zoo[name], ancestor) for name in model.parents)


def by_candidate(candidates: list[ZooModel]) -> dict[str, ZooModel]:
    """The zoo's model behind each name in the answer: the folder's, and the one above it where that is not enough."""
    places = [(model, Path(model.path.removesuffix(".gguf"))) for model in candidates]
    stems = [place.name for _, place in places]
    return {
        f"{place.parent.name}/{place.name}" if stems.count(place.name) > 1 else place.name: model
        for model, place in places
    }


def names_of(found: Parentage, candidates: list[ZooModel]) -> list[str]:
    models = by_candidate(candidates)
    return [models[name].name for name in found.parents]


def weighted(found: Parentage, candidates: list[ZooModel]) -> dict[str, float]:
    models = by_candidate(candidates)
    return {models[item.name].name: item.weight for item in found.candidates if item.weight}


def named(found: Parentage, candidates: list[ZooModel]) -> str:
    models = by_candidate(candidates)
    parts = [f"{models[item.name].name} {item.weight:.3f}" for item in found.candidates if item.is_parent]
    base = models[found.base].name if found.base else "none"
    gain = "" if found.gain is None else f" gain {found.gain:.5f}"
    return f"{', '.join(parts) or '-'} (base {base}){gain}"


if __name__ == "__main__":
    main()
