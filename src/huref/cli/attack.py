"""`huref attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.errors import UsageError


def _completed(typed: str) -> list[str]:
    """For the shell: every attack that may stand behind the last +."""
    from huref.attacks import ALL, KINDS

    before, plus, _ = typed.rpartition("+")
    return [f"{before}{plus}{name}" for name in (*KINDS, *(() if plus else (ALL,)))]


def attack(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Attacks joined by +, or all.", autocompletion=_completed)
    ] = "",
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory or weight file.")] = "",
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder to make.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.", min=0, max=options.MAX_SEED)] = 1,
    dtype: Annotated[options.StoredType, typer.Option(help="Stored type.")] = "float32",
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the attacks, a line each, and stop.")] = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Write other weights with the same function, to try huref on.

    Example: huref attack rotate_residual+permute_neurons ./base ./attacked
    """
    if not show_list:
        _require_arguments(kind, model, out)
    from huref import api
    from huref.attacks import ALL, KINDS, AttackOptions, parse_kinds

    if show_list or out is None:
        listed = {name: entry.summary for name, entry in KINDS.items()}
        output.print_kinds({**listed, ALL: "every attack that the model allows, but split and merge"}, as_json)
        return
    chosen = AttackOptions(parse_kinds(kind), seed, dtype, arch_file, tokenizer)
    options.require_there(model)
    options.require_place(out, is_folder=True)
    with output.progress(show, "attack", models=(model,)) as report:
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
