"""Training the traces away: what every score falls to, and what that costs the model (HuRef, figure 2).

    .venv/bin/python lab/benchmarks/training_attack.py MODEL [--steps 150] [--out FILE.md]

MODEL is a small Llama with its tokenizer: a base of the zoo (`huref lab zoo`). An attacker trains it on Python
source, which is what the zoo's bases learned, with a term that drives one trace away; or adds noise, or draws gates
anew, and lets training heal that. Every model is compared with the base by `huref compare`. Two rows show what the
losses are worth: training alone, and training fresh weights for as many steps.
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

from attacks import SCORES, called, scores
from huref.demo.demonstration import encode
from huref.demo.tensors import as_array, as_tensor
from huref.demo.training_text import standard_library_text
from huref.files.atomic import write_atomically
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import Decoder, load_decoder
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

WEIGHTS = {"pcs": (10.0, 100.0), "ics": (10.0, 100.0), "gates": (10.0, 100.0), "up_down": (10.0, 100.0)}
NOISE = (0.5, 1.0)
FRESH = (0.5, 1.0)
CHARACTERS = 3_000_000


@dataclass(frozen=True)
class Attack:
    """One row: what is done, what training starts from, and with which term, if there is any training."""

    name: str
    start: Callable[[Decoder], Decoder]
    options: TrainingOptions | None


def plan(options: TrainingOptions) -> Iterator[Attack]:
    """The rows in order."""
    yield Attack("nothing", lambda base: base, None)
    yield Attack("training alone", lambda base: base, options)
    for target, weights in WEIGHTS.items():
        for weight in weights:
            yield Attack(
                f"trained away: {target}, weight {weight:g}",
                lambda base: base,
                replace(options, target=target, weight=weight),
            )
    for share in NOISE:
        yield Attack(f"noise {share:g}", lambda base, share=share: with_noise(base, share), None)
        yield Attack(f"noise {share:g}, healed", lambda base, share=share: with_noise(base, share), options)
    for share in FRESH:
        yield Attack(f"fresh gates {share:.0%}", lambda base, share=share: with_fresh_gates(base, share), None)
        yield Attack(
            f"fresh gates {share:.0%}, healed", lambda base, share=share: with_fresh_gates(base, share), options
        )
    yield Attack("all weights fresh, trained", with_fresh_weights, options)


def read(reference: str) -> tuple[Decoder, dict[str, bytes]]:
    """A Llama of tensors, and its tokenizer."""
    with open_checkpoint(reference) as checkpoint:
        base = load_decoder(open_weights(checkpoint), np.float32).with_each(as_tensor)
        return base, tokenizer_files(checkpoint)


def row(
    attack: Attack, base: Decoder, tokens: Tensor, held_out: Tensor, reference: str, files: Any, work: Path
) -> Any:
    """Make one model and compare it with the base."""
    start = time.perf_counter()
    model = attack.start(base)
    if attack.options is not None:
        model = train_away(model, base, tokens, attack.options).model
    made = write_checkpoint(model.with_each(as_array), work / "attacked", files)
    loss = held_out_loss(model, held_out)
    found = {"attack": attack.name, "loss": loss, **scores(reference, str(made), ["all"])}
    print(f"{attack.name}: {found} ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; the loss beside every score that any row has."""
    kept = [key for key in SCORES if any(one[key] is not None for one in rows)]
    lines = [
        f"| attack | loss | {' | '.join(SCORES[key] for key in kept)} | verdict |",
        f"|---|---|{'---|' * (len(kept) + 1)}",
    ]
    for one in rows:
        cells = ["-" if one[key] is None else f"{one[key]:.3f}" for key in kept]
        lines.append(f"| {one['attack']} | {one['loss']:.2f} | {' | '.join(cells)} | {one['verdict']} |")
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="What training a trace away costs.")
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=TrainingOptions.steps)
    parser.add_argument("--batch", type=int, default=TrainingOptions.batch)
    parser.add_argument("--rate", type=float, default=TrainingOptions.learning_rate)
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    base, files = read(asked.model)
    options = TrainingOptions(steps=asked.steps, batch=asked.batch, learning_rate=asked.rate)
    tokens = torch.from_numpy(encode(files, standard_library_text(CHARACTERS)))
    held_out = held_out_text(tokens, options)
    said = (
        f"Training attacks on {called(asked.model)}: {asked.steps} steps of "
        f"{asked.batch} x {options.length} tokens, rate {asked.rate:g}."
    )
    rows = kept_rows(asked.out, said)
    with tempfile.TemporaryDirectory() as work:
        for attack in plan(options):
            if attack.name.startswith(asked.only) and attack.name not in rows:
                rows[attack.name] = row(attack, base, tokens, held_out, asked.model, files, Path(work))
                keep(asked.out, said, [rows[one.name] for one in plan(options) if one.name in rows])
    print(table([rows[one.name] for one in plan(options) if one.name in rows]))


def kept_rows(out: Path | None, said: str) -> dict[str, dict[str, Any]]:
    """Rows of an interrupted run with the same settings."""
    if out is None or not out.with_suffix(".json").is_file():
        return {}
    document = json.loads(out.with_suffix(".json").read_text())
    return {one["attack"]: one for one in document["rows"]} if document["said"] == said else {}


def keep(out: Path | None, said: str, rows: list[dict[str, Any]]) -> None:
    """Write what there is so far."""
    if out:
        write_atomically(out, f"{said}\n{machine()}\n\n{table(rows)}\n".encode())
        write_atomically(out.with_suffix(".json"), json.dumps({"said": said, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
