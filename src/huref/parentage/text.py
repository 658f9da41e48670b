"""What is said about a child's parents, for people."""

from __future__ import annotations

from huref.parentage.record import Candidate, Parentage
from huref.text import percent


def parentage_text(found: Parentage) -> str:
    """Verdict, every candidate's part, layers where they differ, and the reasons."""
    lines = [_headline(found), *_undone(found)]
    width = max([9, *(len(item.name) for item in found.candidates)])
    if found.candidates:
        heads = ("weight", "error", "share", "direction", "cosine", "distance")
        lines.append(f"  {'candidate':<{width}}  " + " ".join(f"{head:>9}" for head in heads))
    lines += [_line(item, width) for item in found.candidates]
    for name, value in (("explained (r2)", found.r2), ("gain over the nearest", found.gain)):
        lines.append(f"  {name:<22}{percent(value):>11}")
    if found.kind == "per-layer":
        for fit in found.layers:
            said = (
                ", ".join(f"{name} {weight:.3f}" for name, weight in fit.weights.items())
                or "all candidates are equal"
            )
            lines.append(f"    layer {fit.layer}: {said}; residual {fit.residual:.2g}")
    if found.sparse is not None and found.kind == "sparse":
        for name, item in found.sparse["candidates"].items():
            lines.append(f"    {name}: {percent(item['copied'])} copied, times {item['factor']:.4f}")
    lines += [f"  skipped: {name}: {reason}" for name, reason in found.skipped.items()]
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join(lines)


def _headline(found: Parentage) -> str:
    """What is not known first: the weights of a merge do not tell who came first."""
    if not found.parents:
        return f"{found.child}: {found.verdict}, {found.kind}"
    listed = ", ".join(found.parents)
    return (
        f"which of {found.child} and {listed} came first is not tested; if {found.child} is the younger: "
        f"{found.verdict}, {found.kind}, from {listed}"
    )


def _undone(found: Parentage) -> list[str]:
    undone = found.undone
    if undone is None:
        return []
    again = f", fitted again {undone.rounds} times" if undone.rounds else ""
    how = f"undone by the map recovered against {undone.reference}{again}"
    cosines = f"cosine with the nearest {undone.before:.4f} before, {undone.after:.4f} after"
    lines = [f"  {found.child} was rearranged: {how}; {cosines}"]
    lines += [f"  rearranged as well, and undone: {', '.join(undone.candidates)}"] if undone.candidates else []
    return [*lines, *(f"  not undone: {what}" for what in undone.not_undone)]


def _line(item: Candidate, width: int) -> str:
    role = " (base)" * item.is_base + " (parent)" * item.is_parent
    numbers = (item.weight, item.error, item.share, item.direction, item.cosine, item.distance)
    return f"  {item.name:<{width}}  " + " ".join(f"{_number(value):>9}" for value in numbers) + role


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
