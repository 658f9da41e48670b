"""`huref parents`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output

if TYPE_CHECKING:
    from huref.parentage import Candidate, Parentage


def parents(
    child: Annotated[str, typer.Argument(metavar="CHILD", help="The model in question: directory or weight file.")],
    candidates: Annotated[
        list[str], typer.Argument(metavar="CANDIDATE", help="Models that may be its parents, of its architecture.")
    ],
    base: Annotated[
        str | None, typer.Option(help="What the parents were tuned from; else chosen among three or more relatives.")
    ] = None,
    arch_file: options.ArchFile = None,
    expect: Annotated[str | None, typer.Option(help="Exit with 1 unless this is the verdict.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Find a model's parents and the weights of a merge; exit code 0 for a verdict, 3 for inconclusive."""
    options.require_there(child)
    from huref import api
    from huref.parentage.record import require_verdict

    require_verdict(expect)
    with output.progress() as report:
        found = api.parents(child, candidates, base, arch_file=arch_file, report=report)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(parentage_text(found))
    raise typer.Exit(found.exit_code(expect))


def parentage_text(found: Parentage) -> str:
    """Verdict, every candidate's part, layers where they differ, and the reasons."""
    lines = [
        f"{found.child}: {found.verdict}, {found.kind}" + (f", from {', '.join(found.parents)}" * bool(found.parents))
    ]
    width = max([9, *(len(item.name) for item in found.candidates)])
    if found.candidates:
        heads = ("weight", "error", "share", "direction", "cosine", "distance")
        lines.append(f"  {'candidate':<{width}}  " + " ".join(f"{head:>9}" for head in heads))
    lines += [_line(item, width) for item in found.candidates]
    for name, value in (("explained (r2)", found.r2), ("gain over the nearest", found.gain)):
        lines.append(f"  {name:<22}{output.percent(value):>11}")
    if found.kind == "per-layer":
        for fit in found.layers:
            said = (
                ", ".join(f"{name} {weight:.3f}" for name, weight in fit.weights.items())
                or "all candidates are equal"
            )
            lines.append(f"    layer {fit.layer}: {said}; residual {fit.residual:.2g}")
    if found.sparse is not None and found.kind == "sparse":
        for name, item in found.sparse["candidates"].items():
            lines.append(f"    {name}: {output.percent(item['copied'])} copied, times {item['factor']:.4f}")
    lines += [f"  skipped: {name}: {reason}" for name, reason in found.skipped.items()]
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join(lines)


def _line(item: Candidate, width: int) -> str:
    role = " (base)" * item.is_base + " (parent)" * item.is_parent
    numbers = (item.weight, item.error, item.share, item.direction, item.cosine, item.distance)
    return f"  {item.name:<{width}}  " + " ".join(f"{_number(value):>9}" for value in numbers) + role


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
