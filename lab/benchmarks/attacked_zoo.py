"""Attacked copies of a zoo's models, for `huref lab bench --attacks`.

    .venv/bin/python lab/benchmarks/attacked_zoo.py --zoo ZOO --out ATTACKS

Every attack of `huref attack --list` on the first base of each architecture, and the strongest ones on the offspring
that was trained furthest from each of these bases. Copies newer than their model are left alone; an attack that a
model does not allow is skipped and listed. Writes ATTACKS/attacks.json, which names copies by `MODEL@ATTACK`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from huref.attacks import ALL, KINDS, AttackOptions, attack, parse_kinds
from huref.errors import HurefError
from huref.files.atomic import write_atomically
from huref_lab.bench.pairs import ATTACKS, ATTACKS_VERSION, bases_of
from huref_lab.zoo.record import Zoo, ZooModel, load_zoo

HARDEST = ("rotate_residual", ALL)
"""Attacks on heavily trained offspring, and on large models."""
LARGE = 1 << 26
"""Bytes of a checkpoint from which on a model is large."""


def targets(zoo: Zoo) -> Iterator[tuple[ZooModel, str]]:
    """Which models are attacked, and how."""
    firsts = list({base.architecture: base for base in reversed(bases_of(zoo))}.values())[::-1]
    for base in firsts:
        is_large = size(zoo.path(base.name)) > LARGE
        yield from ((base, kind) for kind in (HARDEST if is_large else (*(k for k in KINDS if k != "identity"), ALL)))
        continued = [m for m in zoo.models if m.roots == (base.name,) and m.kind == "continued"]
        if continued and not is_large:
            furthest = max(continued, key=lambda model: model.strength)
            yield from ((furthest, kind) for kind in HARDEST)


def size(model: Path) -> int:
    """Bytes of a checkpoint."""
    return sum(file.stat().st_size for file in (model.iterdir() if model.is_dir() else [model]))


def make(zoo: Zoo, out: Path, seed: int) -> tuple[list[dict[str, str]], list[str]]:
    """Make what is missing: the list's entries, and what was skipped with the reason."""
    entries, skipped = [], []
    for model, kind in targets(zoo):
        name, place = f"{model.name}@{kind}", f"{kind}/{model.name.replace('/', '-')}"
        if not is_fresh(zoo.path(model.name), out / place / "model.safetensors"):
            try:
                attack(zoo.path(model.name), out / place, AttackOptions(parse_kinds(kind), seed))
            except HurefError as error:
                skipped.append(f"{name}: {error.what}")
                continue
        print(name, file=sys.stderr, flush=True)
        made = f"huref attack {kind}, seed {seed}"
        entries.append({"name": name, "path": place, "of": model.name, "attack": kind, "made": made})
    return entries, skipped


def is_fresh(model: Path, copy: Path) -> bool:
    """Whether a copy is there and younger than every file of its model."""
    files = model.iterdir() if model.is_dir() else [model]
    return copy.is_file() and copy.stat().st_mtime > max(file.stat().st_mtime for file in files)


def main() -> int:
    """Make the copies and their list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of a zoo")
    parser.add_argument("--out", type=Path, required=True, help="folder for the copies")
    parser.add_argument("--seed", type=int, default=1, help="of the attacks")
    options = parser.parse_args()
    entries, skipped = make(load_zoo(options.zoo), options.out, options.seed)
    document = {"schema_version": ATTACKS_VERSION, "models": entries, "skipped": skipped}
    write_atomically(options.out / ATTACKS, (json.dumps(document, indent=1) + "\n").encode())
    print(f"{len(entries)} attacked copies, {len(skipped)} not possible")
    for line in skipped:
        print(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
