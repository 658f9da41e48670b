"""Which score survives which attack: every attack on a model, each copy compared with the original.

    .venv/bin/python lab/benchmarks/attacks.py MODEL [--stranger MODEL] [--kinds all,vo_map] [--methods pcs,ics]

Prints a table with a column for every score that `huref compare` gives; `--out FILE` writes it too, with the
command and the machine. The last row is a stranger, if one is given: what every score must stay above.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from huref import api
from huref.attacks import ALL, KINDS, AttackOptions, attack, parse_kinds
from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.kinship.record import CompareOptions
from measure import machine

SCORES = {
    "pcs": "PCS",
    "ics": "ICS paper",
    "ics_canonical_2": "ICS canonical-2",
    "vectors": "fingerprint",
    "aligned": "aligned",
    "agreement": "agreement",
}
STRANGER = "stranger"
DESCRIPTION = "Which score survives which attack."


def rows(model: str, kinds: list[str], seed: int, methods: list[str], work: Path) -> list[dict[str, Any]]:
    """A row for each attack that the model allows: kind, error of the logits, scores, verdict."""
    found = []
    for kind in kinds:
        try:
            made = attack(model, work / "copy", AttackOptions(parse_kinds(kind), seed))
        except UsageError as error:
            print(f"{kind}: {error.got}", file=sys.stderr, flush=True)
            continue
        found.append({"kind": kind, "error": made.error, **scores(model, str(made.out), methods)})
        print(f"{kind}: {found[-1]}", file=sys.stderr, flush=True)
    return found


def scores(a: str, b: str, methods: list[str]) -> dict[str, Any]:
    """What a comparison gives, null scores included; of several methods the last verdict."""
    found: dict[str, Any] = {}
    for method in methods:
        document = api.compare(a, b, CompareOptions(method)).to_dict()
        found |= {key: document[key] for key in (*SCORES, "verdict") if document.get(key) is not None}
    return dict.fromkeys(SCORES) | found


def called(model: str) -> str:
    """`llama-tied-1/base`: in a zoo the folder's own name says too little."""
    return "/".join(Path(model).parts[-2:])


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; a score that no row has gets no column."""
    kept = [key for key in SCORES if any(row[key] is not None for row in found)]
    lines = [
        f"| attack | logits within | {' | '.join(SCORES[key] for key in kept)} | verdict |",
        f"|---|---|{'---|' * (len(kept) + 1)}",
    ]
    for row in found:
        error = "" if row["error"] is None else f"{row['error']:.0e}"
        cells = ["-" if row[key] is None else f"{row[key]:.3f}" for key in kept]
        lines.append(f"| {row['kind']} | {error} | {' | '.join(cells)} | {row['verdict']} |")
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    parser.add_argument("model", help="a checkpoint: folder, weight file, GGUF of a Llama")
    parser.add_argument("--stranger", help="an independent model, for the last row")
    parser.add_argument("--kinds", default=",".join((*KINDS, ALL)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", default="all", help="as huref compare --method; several joined by a comma")
    parser.add_argument("--out", type=Path, help="Markdown file to write; a .json beside it has the numbers")
    asked = parser.parse_args()
    methods = asked.methods.split(",")
    with tempfile.TemporaryDirectory() as work:
        found = rows(asked.model, asked.kinds.split(","), asked.seed, methods, Path(work))
    if asked.stranger:
        found.append({"kind": STRANGER, "error": None, **scores(asked.model, asked.stranger, methods)})
    text = table(found)
    print(text)
    if asked.out:
        names = [called(m) for m in (asked.model, asked.stranger) if m]
        said = f"Attacks on {names[0]}, seed {asked.seed}" + (f"; stranger {names[1]}" if names[1:] else "")
        write_atomically(asked.out, f"{said}.\n{machine()}\n\n{text}\n".encode())
        write_atomically(asked.out.with_suffix(".json"), json.dumps({"said": said, "rows": found}, indent=1).encode())


if __name__ == "__main__":
    main()
