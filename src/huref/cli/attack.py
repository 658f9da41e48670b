"""`huref attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.errors import UsageError


def attack(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Attacks joined by +, or all.")] = "",
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory or weight file.")] = "",
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder to make.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.", min=0, max=2**31 - 1)] = 1,
    dtype: Annotated[str, typer.Option(help="Stored type: float64, float32, float16, bfloat16.")] = "float32",
    arch_file: options.ArchFile = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the attacks, a line each, and stop.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a copy of a model with other weights and the same function, to try a fingerprint on."""
    if not show_list:
        _require_arguments(kind, model, out)
    from huref import api
    from huref.attacks import ALL, KINDS, AttackOptions, parse_kinds

    if show_list or out is None:
        listed = {name: entry.summary for name, entry in KINDS.items()}
        output.print_kinds({**listed, ALL: "every attack that the model allows, but split and merge"}, as_json)
        return
    chosen = AttackOptions(parse_kinds(kind), seed, dtype, arch_file)
    options.require_there(model)
    with output.progress() as report:
        result = api.attack(model, out, chosen, report)
    if as_json:
        output.print_json(result.to_dict())
    else:
        output.say(result.to_text())


def _require_arguments(kind: str, model: str, out: Path | None) -> None:
    if not (kind and model and out):
        raise UsageError(
            "an attack needs three arguments", expected="KIND MODEL OUT", next_step="huref attack --list"
        )
