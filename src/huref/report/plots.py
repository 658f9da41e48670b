"""Models as pictures in SVG: the tree of their scores, the drift of a run, what changed between two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.fingerprints.listing import names_of
from huref.kinship.drift import Drift, drift_of
from huref.kinship.linkage import average_linkage, leaves
from huref.kinship.table_text import drift_csv
from huref.report.markup import Markup, element, join, plain

if TYPE_CHECKING:
    from huref.kinship.differences import Differences, TensorDifference
    from huref.kinship.record import Matrix

_ROW, _WIDE, _LETTER = 22, 420, 7.2
_INKS = ("#105440", "#a02828", "#2a5db0", "#b07a10", "#6a3d9a", "#333333", "#1b9e9e", "#c2478f")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")


def save_tree(table: Matrix, path: Path) -> None:
    """Draw the tree of average linkage, the score at each branch, into an SVG file.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, tree_svg(table).encode())


def save_drift(table: Matrix, path: Path) -> None:
    """Draw the scores of a run over its steps into an SVG file, or write them as CSV, by the ending of the name.

    Raises:
        UsageError: there is no run among the models.
        OutputError: the file cannot be written.
    """
    drift = _required(table.drift)
    is_table = path.suffix.lower() == ".csv"
    text = f"{drift_csv(drift)}\n" if is_table else drift_svg(drift, table.score)
    write_atomically(path, text.encode())


def require_run(models: Sequence[str | Path], names: Sequence[str] | None = None) -> None:
    """Refuse, before they are compared, models among which there is no run.

    Raises:
        UsageError: there is none.
    """
    _required(drift_of(names_of(models, names), np.zeros((len(models), len(models)))))


def _required(drift: Drift | None) -> Drift:
    if drift is None:
        raise UsageError(
            "no run among these models",
            where="--drift",
            expected="three or more whose names end in a word for a step and a number, such as checkpoint-10",
            got="none",
            next_step="name the folder of the checkpoints, or leave the option out",
        )
    return drift


def tree_svg(table: Matrix) -> str:
    """The tree, its leaves at the right at 100 %; what has no score joins at the left edge."""
    merges, n = average_linkage(table.values), len(table.names)
    order = leaves(merges, n)
    known = [merge.score for merge in merges if merge.score is not None]
    low = min(0.0, *known) if known else 0.0
    left, top = 16.0, 48.0

    def across(score: float | None) -> float:
        return left if score is None else left + _WIDE * (score - low) / (1.0 - low)

    where = {leaf: (across(1.0), top + _ROW * k) for k, leaf in enumerate(order)}
    parts = [_text(left, 18, f"average linkage on {table.score}, percent", "start")]
    for k, merge in enumerate(merges):
        (x1, y1), (x2, y2) = where[merge.left], where[merge.right]
        x = min(across(merge.score), x1, x2)
        parts.append(_path([(x1, y1), (x, y1), (x, y2), (x2, y2)], _INKS[0]))
        said = "-" if merge.score is None else f"{100 * merge.score:.1f}"
        parts.append(_text(x - 3, (y1 + y2) / 2 - 3, said, "end" if x > left + 40 else "start"))
        where[n + k] = (x, (y1 + y2) / 2)
    parts += [_text(where[leaf][0] + 6, where[leaf][1] + 4, table.names[leaf], "start") for leaf in order]
    width = left + _WIDE + 20 + _LETTER * max(len(plain(name, 96)) for name in table.names)
    return _svg(width, top + _ROW * n, parts)


def drift_svg(drift: Drift, score: str) -> str:
    """A line a series over the steps, with a legend."""
    left, top, high, below = 56.0, 40.0, 260.0, 40.0
    series = {name: values for name, values in drift.columns.items() if any(value is not None for value in values)}
    known = [value for values in series.values() for value in values if value is not None]
    low = min([0.0, *known])
    first, last = drift.steps[0], drift.steps[-1]

    def place(step: int, value: float) -> tuple[float, float]:
        return left + _WIDE * (step - first) / (last - first), top + high * (1.0 - value) / (1.0 - low)

    parts = [_text(left, 18, f"{drift.run}: {score}, percent, by step", "start")]
    for value in (low, (low + 1) / 2, 1.0):
        x, y = place(first, value)
        parts.append(_path([(x, y), (left + _WIDE, y)], "#cccccc"))
        parts.append(_text(left - 6, y + 4, f"{round(100 * value)}", "end"))
    for step, anchor in ((first, "start"), (last, "end")):
        parts.append(_text(place(step, low)[0], top + high + 18, str(step), anchor))
    for k, (name, values) in enumerate(series.items()):
        ink, dash = _INKS[k % len(_INKS)], _DASHES[k // len(_INKS) % len(_DASHES)]
        points = [place(step, value) for step, value in zip(drift.steps, values, strict=True) if value is not None]
        parts.append(_path(points, ink, dash))
        parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.5", fill=ink) for x, y in points]
        y = top + high + below + _ROW * k
        parts.append(_path([(left, y - 4), (left + 24, y - 4)], ink, dash))
        parts.append(_text(left + 32, y, name, "start"))
    return _svg(left + _WIDE + 24, top + high + below + _ROW * len(series), parts)


def save_differences(found: Differences, path: Path) -> None:
    """Draw layers by kinds of tensors into an SVG file, darker the more they differ.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, differences_svg(found).encode())


def differences_svg(found: Differences) -> str:
    """A cell a tensor: white is equal, darker what differs by more of its length; red edges have no partner."""
    kinds = list(dict.fromkeys(tensor.kind for tensor in found.tensors))
    layers = sorted({tensor.layer for tensor in found.tensors if tensor.layer is not None}) or [0]
    left = 24.0 + _LETTER * max(len(plain(kind, 40)) for kind in kinds) if kinds else 24.0
    top, cell = 56.0, 16.0
    parts = [_text(16, 18, f"{found.a} and {found.b}: white equal, dark another", "start")]
    parts += [
        _text(left + cell * k + cell / 2, top - 6, str(n), "middle") for k, n in enumerate(layers) if n % 4 == 0
    ]
    for row, kind in enumerate(kinds):
        parts.append(_text(left - 6, top + _ROW * row + 12, kind, "end"))
        for tensor in (tensor for tensor in found.tensors if tensor.kind == kind):
            x = left + cell * (layers.index(tensor.layer) if tensor.layer is not None else 0)
            said = _cell_says(tensor)
            fill = _depth(tensor.relative) if tensor.n_values and tensor.state != "equal" else "#ffffff"
            box = {
                "x": f"{x:.0f}",
                "y": f"{top + _ROW * row:.0f}",
                "width": f"{cell - 1:.0f}",
                "height": f"{cell - 1:.0f}",
            }
            edge = "#a02828" if tensor.state in ("new", "missing", "resized") else "#999999"
            parts.append(element("rect", element("title", plain(said, 120)), fill=fill, stroke=edge, **box))
    return _svg(left + cell * len(layers) + 24, top + _ROW * len(kinds), parts)


def _cell_says(tensor: TensorDifference) -> str:
    if tensor.relative is None:
        return f"{tensor.name}: {tensor.state}"
    return f"{tensor.name}: {tensor.state}, differs by {100 * tensor.relative:.3g} % of its length"


def _depth(relative: float | None) -> str:
    """From white at 0.01 % to dark green at 100 %, by orders of magnitude."""
    depth = 1.0 if relative is None else min(1.0, max(0.08, (math.log10(max(relative, 1e-4)) + 4) / 4))
    red, green, blue = (round(255 + (end - 255) * depth) for end in (16, 84, 60))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _path(points: Sequence[tuple[float, float]], ink: str, dash: str = "") -> Markup:
    written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = {"stroke_dasharray": dash or None}
    return element("polyline", points=written, fill="none", stroke=ink, stroke_width="1.5", **style)


def _text(x: float, y: float, said: str, anchor: str) -> Markup:
    return element("text", plain(said, 96), x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _svg(width: float, height: float, parts: Sequence[Markup]) -> str:
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}", "viewBox": f"0 0 {width:.0f} {height:.0f}"}
    page = element("rect", width="100%", height="100%", fill="white")
    style = {"font_family": "sans-serif", "font_size": "12"}
    return f"{element('svg', page, join(parts), xmlns='http://www.w3.org/2000/svg', **size, **style)}\n"
