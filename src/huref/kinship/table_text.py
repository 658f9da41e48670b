"""What is told of many models beside their table: the tree, and how a run drifted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from huref.kinship.drift import Drift
from huref.kinship.linkage import average_linkage
from huref.text import percent

_FEWEST, _MOST = 3, 100
"""Models of which a tree says more than the table, and is still read."""


def tree_text(names: tuple[str, ...], score: str, values: np.ndarray) -> str:
    """The tree of average linkage, a line a model; empty where there is little to see."""
    if not _FEWEST <= len(names) <= _MOST:
        return ""
    merges, n = average_linkage(values), len(names)

    def lines(node: int, before: str, is_last: bool) -> Iterator[str]:
        mark, more = ("`- ", "   ") if is_last else ("|- ", "|  ")
        if node < n:
            yield f"{before}{mark}{names[node]}"
            return
        merge = merges[node - n]
        yield f"{before}{mark}{percent(merge.score)}"
        yield from lines(merge.left, before + more, False)
        yield from lines(merge.right, before + more, True)

    return "\n".join([f"\ntree, average linkage on {score}", *lines(n + len(merges) - 1, "  ", True)])


def drift_text(drift: Drift, score: str) -> str:
    """A line a checkpoint, in percent."""
    columns = drift.columns
    heads = list(columns)
    told = []
    if any(len(head) > 17 for head in heads):
        told = [f"  ({k}) {head}" for k, head in enumerate(heads[2:], 1)]
        heads[2:] = [f"({k})" for k in range(1, len(heads) - 1)]
    wide = max(4, *(len(str(step)) for step in drift.steps))
    rows = [f"  {'step':>{wide}}" + "".join(f"  {head:>17}" for head in heads)]
    for k, step in enumerate(drift.steps):
        rows.append(f"  {step:>{wide}}" + "".join(f"  {percent(series[k]):>17}" for series in columns.values()))
    return "\n".join([f"\ndrift of {drift.run}, {score}", *told, *rows])


def drift_csv(drift: Drift) -> str:
    """A row a checkpoint: step, name, and every series; empty where there is no score."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["step", "model", *drift.columns])
    for k, (step, name) in enumerate(zip(drift.steps, drift.names, strict=True)):
        cells = ("" if series[k] is None else f"{series[k]:.6f}" for series in drift.columns.values())
        writer.writerow([step, name, *cells])
    return stream.getvalue().rstrip("\n")
