"""All-pairs tables as text, CSV, LaTeX, JSON and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huref.kinship.text import csv_text, hundredths, plain_text

if TYPE_CHECKING:
    from huref.kinship.record import Matrix

STYLES = ("text", "csv", "latex")
_COLUMNS = 8
"""Models in a line of a table against one base."""

_HEADS = {"pcs": "PCS", "ics": "ICS"}
CELL = 56
"""Side of a heat map's cell in pixels; the cells end 10 pixels before the right and lower edge."""


def as_text(names: Sequence[str], score: str, values: np.ndarray, style: str) -> str:
    """The table in one of `STYLES`; text and LaTeX in percent, CSV as it is."""
    if style == "csv":
        return csv_text(names, values)
    return _as_latex(names, score, values) if style == "latex" else plain_text(names, score, values)


def as_document(table: Matrix) -> dict[str, Any]:
    """The `--json` document; a missing value or verdict is null."""
    drift = table.drift
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in table.values]
    return {
        "schema_version": "huref.matrix/1.2",
        "models": list(table.names),
        "score": table.score,
        "values": rows,
        "notes": list(table.notes),
        "verdicts": [list(row) for row in table.verdicts],
        "clusters": [list(cluster) for cluster in table.clusters],
        "tree": [asdict(merge) for merge in table.tree],
        "drift": None if drift is None else asdict(drift),
    }


def as_column(table: Matrix, style: str) -> str:
    """Every model against the first: a row of names and a row of scores, as the paper's tables 1 and 2 have them."""
    base, names, values = table.names[0], table.names[1:], table.values[0, 1:]
    if style == "csv":
        cells = ("" if np.isnan(value) else f"{value:.6f}" for value in values)
        rows = [["model", f"{table.score}, {base}"], *map(list, zip(names, cells, strict=True))]
        return "\n".join(",".join(_quoted(cell) for cell in row) for row in rows)
    if style == "text":
        width = max(map(len, names))
        lines = [f"{name:<{width}}  {hundredths(value):>8}" for name, value in zip(names, values, strict=True)]
        return "\n".join([f"{table.score} against {base}, percent", *lines])
    blocks = []
    for start in range(0, len(names), _COLUMNS):
        part = slice(start, start + _COLUMNS)
        head = " & ".join([_escape(base), *map(_escape, names[part])])
        row = " & ".join([_HEADS.get(table.score, _escape(table.score)), *map(hundredths, values[part])])
        blocks += [f"{head} \\\\", r"\hline", f"{row} \\\\", r"\hline"]
    wide = min(_COLUMNS, len(names))
    return "\n".join([r"\begin{tabular}{l" + "r" * wide + "}", r"\hline", *blocks, r"\end{tabular}"])


def save_heat_map(names: Sequence[str], values: np.ndarray, path: Path) -> None:
    """Draw the table, columns numbered as the rows: white is 0, dark green 1, red negative, grey missing.

    Raises:
        OutputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    from huref.portraits.image import save_png

    font = ImageFont.load_default(size=13)
    labels = [f"{name}  {number}" for number, name in enumerate(names, 1)]
    left, top = max(round(font.getlength(label)) for label in labels) + 20, 32
    page = Image.new("RGB", (left + CELL * len(names) + 10, top + CELL * len(names) + 10), "white")
    draw = ImageDraw.Draw(page)
    for i, label in enumerate(labels):
        y = top + CELL * i
        draw.text((left - 8, y + CELL // 2), label, "black", font, anchor="rm")
        draw.text((left + CELL * i + CELL // 2, top - 8), str(i + 1), "black", font, anchor="ms")
        for j, value in enumerate(values[i]):
            x = left + CELL * j
            draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), fill=_colour(float(value)))
            text, ink = "-" if np.isnan(value) else f"{100 * value:.1f}", "white" if value > 0.6 else "black"
            draw.text((x + CELL // 2 - 1, y + CELL // 2 - 1), text, ink, font, anchor="mm")
    save_png(path, np.asarray(page), {})


def _colour(value: float) -> tuple[int, int, int]:
    if np.isnan(value):
        return 224, 224, 224
    depth, end = min(abs(value), 1.0), (16, 84, 60) if value >= 0 else (160, 40, 40)
    red, green, blue = (round(255 + (channel - 255) * depth) for channel in end)
    return red, green, blue


def _quoted(cell: str) -> str:
    return f'"{cell.replace(chr(34), chr(34) * 2)}"' if any(mark in cell for mark in ',"\n\r') else cell


def _as_latex(names: Sequence[str], score: str, values: np.ndarray) -> str:
    escaped = [_escape(name) for name in names]
    lines = [
        r"\begin{tabular}{l" + "r" * len(names) + "}",
        r"\hline",
        f"{_escape(score)} (\\%) & " + " & ".join(escaped) + r" \\",
        r"\hline",
    ]
    for name, row in zip(escaped, values, strict=True):
        lines.append(f"{name} & " + " & ".join(hundredths(value) for value in row) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"])


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
