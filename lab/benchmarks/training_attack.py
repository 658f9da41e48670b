"""Training the traces away: what every score falls to, and what that costs the model (HuRef, figure 2).

    .venv/bin/python lab/benchmarks/training_attack.py MODEL [--steps 150,1000] [--only NAME] [--out FILE.md]

MODEL is a small Llama with its tokenizer: a base of the zoo (`huref lab zoo`). An attacker trains it on Python
source, which is what the zoo's bases learned, with a term that drives one trace away, or all witnesses' at once; or
adds noise, or draws gates anew, and lets training heal that. Every model is compared with the base by
`huref compare`, and once more after `huref attack all`. Two rows show what the losses are worth: training alone,
which every other row of as many steps is held against, and training fresh weights for as many steps.

`--out` writes Markdown and a .json beside it, row by row: a run that was interrupted goes on from there. `--keep` is
a folder for the attacked models themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks import called
from huref import api
from huref.attacks import ALL, AttackOptions, attack, parse_kinds
from huref.demo.demonstration import encode
from huref.demo.tensors import as_array, as_tensor
from huref.demo.training_text import standard_library_text
from huref.files.atomic import write_atomically
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import Decoder, load_decoder
from huref.kinship.record import CompareOptions
from huref.kinship.witnesses import GATED
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref_lab.bench.training_attack import (
    TrainingOptions,
    held_out_loss,
    held_out_text,
    train_away,
    with_fresh_gates,
    with_fresh_weights,
    with_noise,
)
from measure import machine

FEW_STEPS = {
    "witnesses": (10.0, 1.0, 100.0),
    "witnesses_heads": (100.0,),
    "rows_both": (10.0, 1.0, 30.0, 100.0),
    "rows": (10.0,),
    "gate_rows": (10.0,),
    "hidden_shares": (10.0,),
    "hidden_leads": (10.0,),
    "rows_embedding": (10.0,),
    "up_rows": (10.0,),
    "down_rows": (10.0,),
    "gates": (10.0,),
    "pcs": (100.0,),
    "gate_up_rows": (10.0,),
    "rows_tokens": (10.0,),
    "up_down": (10.0,),
    "ics": (100.0,),
}
"""Weights of every trace's term in a run of `MANY` steps or fewer, what matters most first."""

MANY_STEPS = {
    "witnesses": (10.0, 100.0),
    "rows_both": (10.0,),
    "hidden_shares": (10.0,),
    "rows_embedding": (10.0,),
    "rows": (10.0,),
}
"""Of longer runs, which cost minutes each."""

MANY = 500
NOISE = (0.5, 1.0)
FRESH = (0.5, 1.0)
CHARACTERS = 3_000_000
ALONE = "text alone"


@dataclass(frozen=True)
class Attack:
    """One row: what is done, what training starts from, and with which term, if there is any training."""

    name: str
    start: Callable[[Decoder], Decoder]
    options: TrainingOptions | None

    @property
    def key(self) -> str:
        """One of a run's rows."""
        if self.options is None:
            return self.name
        return f"{self.name}, weight {self.options.weight:g}, {self.options.steps} steps"


def plan(options: TrainingOptions) -> Iterator[Attack]:
    """The rows that are trained for so many steps, in order."""
    yield Attack(ALONE, _base, options)
    is_long = options.steps > MANY
    for target, weights in (MANY_STEPS if is_long else FEW_STEPS).items():
        for weight in weights:
            yield Attack(target, _base, replace(options, target=target, weight=weight))
    yield Attack("all weights fresh", with_fresh_weights, options)
    if is_long:
        return
    for share in NOISE:
        yield Attack(f"noise {share:g}, healed", lambda base, share=share: with_noise(base, share), options)
    for share in FRESH:
        yield Attack(
            f"fresh gates {share:.0%}, healed", lambda base, share=share: with_fresh_gates(base, share), options
        )


def untrained() -> Iterator[Attack]:
    """Rows without any training."""
    yield Attack("nothing", _base, None)
    for share in NOISE:
        yield Attack(f"noise {share:g}", lambda base, share=share: with_noise(base, share), None)
    for share in FRESH:
        yield Attack(f"fresh gates {share:.0%}", lambda base, share=share: with_fresh_gates(base, share), None)


def read(reference: str) -> tuple[Decoder, dict[str, bytes]]:
    """A Llama of tensors, and its tokenizer."""
    with open_checkpoint(reference) as checkpoint:
        base = load_decoder(open_weights(checkpoint), np.float32).with_each(as_tensor)
        return base, tokenizer_files(checkpoint)


@dataclass(frozen=True)
class Bench:
    """What all rows share: the base as tensors and by reference, its tokenizer, text, and folders."""

    base: Decoder
    reference: str
    files: dict[str, bytes]
    tokens: Tensor
    held_out: Tensor
    work: Path
    kept: Path | None


def row(planned: Attack, bench: Bench) -> dict[str, Any]:
    """Make one model and compare it with the base, as it is and rearranged."""
    start = time.perf_counter()
    model = planned.start(bench.base)
    if planned.options is not None:
        model = train_away(model, bench.base, bench.tokens, planned.options).model
    folder = bench.kept / planned.key.replace(", ", "-").replace(" ", "") if bench.kept else bench.work / "attacked"
    made = write_checkpoint(model.with_each(as_array), folder, bench.files)
    hidden = attack(made, bench.work / "rearranged", AttackOptions(parse_kinds(ALL), 1))
    options = planned.options
    found = {
        "key": planned.key,
        "attack": planned.name,
        "steps": options.steps if options else 0,
        "weight": options.weight if options else 0.0,
        "loss": held_out_loss(model, bench.held_out),
        **said_of(bench.reference, str(made)),
        "rearranged": said_of(bench.reference, str(hidden.out)),
        "seconds": time.perf_counter() - start,
    }
    print(found, file=sys.stderr, flush=True)
    return found


def said_of(a: str, b: str) -> dict[str, Any]:
    """What a row keeps of a comparison."""
    found = api.compare(a, b, CompareOptions())
    alignment = found.alignment or {}
    heads = [layer.heads for layer in found.layers if layer.heads is not None]
    return {
        "pcs": found.pcs,
        "ics_canonical_2": found.ics_canonical_2,
        "aligned": found.aligned,
        "agreement": found.agreement,
        "witnesses": dict(found.witnesses),
        "heads": float(np.mean(heads)) if heads else None,
        "highest_layer": max((max(layer.witnesses.values()) for layer in found.layers), default=None),
        "frame": alignment.get("method"),
        "tried": alignment.get("tried"),
        "verdict": found.verdict,
    }


COLUMNS = (
    "attack",
    "steps",
    "weight",
    "loss",
    "excess",
    "PCS",
    "ICS canonical",
    "aligned",
    *(f"`{name}`" for name in GATED),
    "highest layer",
    "heads",
    "frame",
    "verdict",
    "after `attack all`",
)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; losses in nats a token, `excess` over training on text alone for as many steps."""
    alone = {one["steps"]: one["loss"] for one in rows if one["attack"] == ALONE}
    lines = [f"| {' | '.join(COLUMNS)} |".replace("gate|", "gate\\|").replace("up|d", "up\\|d")]
    lines.append("|---" * len(COLUMNS) + "|")
    for one in rows:
        excess = one["loss"] - alone[one["steps"]] if one["steps"] in alone else None
        shown = [one[name] for name in ("pcs", "ics_canonical_2", "aligned")]
        shown += [*(one["witnesses"].get(name) for name in GATED), one["highest_layer"], one.get("heads")]
        cells = [one["attack"], str(one["steps"]), f"{one['weight']:g}", f"{one['loss']:.2f}"]
        cells += ["-" if excess is None else f"{excess:+.2f}", *("-" if v is None else f"{v:.3f}" for v in shown)]
        cells += [one["frame"] or "-", one["verdict"], _rearranged(one["rearranged"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rearranged(one: dict[str, Any]) -> str:
    value = "-" if one["agreement"] is None else f"{one['agreement']:.3f}"
    return f"{value} {one['frame'] or ''} {one['verdict']}"


def _base(base: Decoder) -> Decoder:
    return base


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="What training a trace away costs.")
    parser.add_argument("model")
    parser.add_argument("--steps", default=str(TrainingOptions.steps), help="of training; several joined by a comma")
    parser.add_argument("--batch", type=int, default=TrainingOptions.batch)
    parser.add_argument("--rate", type=float, default=TrainingOptions.learning_rate)
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    base, files = read(asked.model)
    options = TrainingOptions(batch=asked.batch, learning_rate=asked.rate)
    tokens = torch.from_numpy(encode(files, standard_library_text(CHARACTERS)))
    held_out = held_out_text(tokens, options)
    said = (
        f"Training attacks on {called(asked.model)}: steps of {asked.batch} x {options.length} tokens, "
        f"rate {asked.rate:g}."
    )
    rows = kept_rows(asked.out, said)
    planned = [one for steps in asked.steps.split(",") for one in plan(replace(options, steps=int(steps)))]
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(base, asked.model, files, tokens, held_out, Path(work), asked.keep)
        for one in (*planned, *untrained()):
            if one.key.startswith(asked.only) and one.key not in rows:
                rows[one.key] = row(one, bench)
                keep(asked.out, said, in_order(rows))
    print(table(in_order(rows)))


def in_order(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by steps, then as they came."""
    return sorted(rows.values(), key=lambda one: one["steps"])


def kept_rows(out: Path | None, said: str) -> dict[str, dict[str, Any]]:
    """Rows of an interrupted run with the same settings."""
    if out is None or not out.with_suffix(".json").is_file():
        return {}
    document = json.loads(out.with_suffix(".json").read_text())
    return {one["key"]: one for one in document["rows"]} if document["said"] == said else {}


def keep(out: Path | None, said: str, rows: list[dict[str, Any]]) -> None:
    """Write what there is so far."""
    if out:
        write_atomically(out, f"{said}\n{machine()}\n\n{table(rows)}\n".encode())
        write_atomically(out.with_suffix(".json"), json.dumps({"said": said, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
