"""Two drawings: this pair against the unrelated ones, and how every layer agrees with every other. Inline SVG.

Colours are the style sheet's. The one scale goes from nothing to the full accent by opacity, so that it reads by day,
by night, in print and without colour vision; what must stand out has a second colour and a shape of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from huref.kinship.record import Comparison
from huref.report.markup import Markup, element, join, plain
from huref.report.numbers import finite, percent

LEVELS = 16
_BINS = 50
_WIDTH, _LEFT, _RIGHT, _TOP, _FOOT = 640, 36, 600, 78, 182


def background_chart(found: Comparison, accused_from: float | None = None) -> Markup | None:
    """A histogram of unrelated pairs with this pair and the nearest unrelated one marked; None without values.

    Args:
        accused_from: score from which kinship is named, drawn as a limit.
    """
    background = found.background or {}
    values = sorted(number for number in map(finite, background.get("values") or ()) if number is not None)
    nearest = finite((background.get("nearest") or {}).get("score"))
    own = finite(getattr(found, str(background.get("score") or "agreement"), None))
    marked = [number for number in (own, nearest) if number is not None]
    if not values:
        return None
    low, high = min(0.0, *values, *marked), max(1.0, *values, *marked)

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low)

    said = _in_words(found, values, own, nearest)
    parts = [
        element("title", "Agreement of this pair beside that of unrelated pairs", id="chart-title"),
        element("desc", said, id="chart-desc"),
        _bars(values, low, high),
        element("path", d="".join(f"M{x(value):.1f} {_FOOT + 3}v8" for value in values), class_="rug"),
        _axis(x, low, high),
    ]
    if accused_from is not None:
        at = x(accused_from)
        parts.append(_line(at, 90, at, _FOOT, "limit"))
        parts.append(_text(at + 8, 102, f"kinship named from {100 * accused_from:.0f} %", "start", "limit-words"))
    if nearest is not None:
        parts.append(_marker(x(nearest), 66, f"nearest unrelated {percent(nearest)}", "near"))
    if own is not None:
        parts.append(_marker(x(own), 30, f"this pair {percent(own)}", "own"))
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} 232",
        width=_WIDTH,
        height=232,
        role="img",
        aria_labelledby="chart-title chart-desc",
        class_="chart",
    )


def layer_map(found: Comparison) -> Markup | None:
    """Agreement of layers of A (down) with layers of B (across), the matched ones framed; None without a table."""
    if found.table is None:
        return None
    table = np.asarray(found.table, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape or np.isnan(table).all():
        return None
    rows, columns = table.shape
    cell = min(34.0, max(3.0, 560 / max(columns, rows)))
    left, top = 58, 48
    width, height = left + cell * columns + 12, top + cell * rows + 12
    best = max(found.layers, key=lambda layer: layer.agreement, default=None)
    said = f"{rows} layers of A by {columns} of B; {len(found.layers)} matched." + (
        f" The best match is layer {best.layer_a} of A with layer {best.layer_b} of B, {percent(best.agreement)}."
        if best
        else ""
    )
    grid = (
        element("rect", x=0, y=0, width=columns, height=rows, class_="untried"),
        *_cells(table),
    )
    scale = f"translate({left} {top}) scale({cell:.4f})"
    return element(
        "svg",
        element("title", "Agreement of every layer with every other", id="map-title"),
        element("desc", said, id="map-desc"),
        _hatching(cell),
        element("g", *grid, transform=scale, shape_rendering="crispEdges"),
        element("g", _frames(found, rows, columns, cell), transform=f"translate({left} {top})"),
        _ticks(rows, columns, cell, left, top),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_labelledby="map-title map-desc",
        class_="chart map",
    )


def map_legend(*, has_gaps: bool) -> Markup:
    """The scale of `layer_map` and its marks."""
    steps = [
        element("rect", x=9 * k, y=1, width=9, height=16, class_="cell", fill_opacity=_opacity(k / (LEVELS - 1)))
        for k in range(LEVELS)
    ]
    frame = element("rect", x=0, y=0, width=9 * LEVELS, height=18, class_="frame")
    bar = element("svg", frame, *steps, viewBox="0 0 144 18", width=144, height=18, aria_hidden="true")
    mark = _swatch(element("rect", x=3, y=3, width=12, height=12, class_="match"))
    parts: list[str] = ["0 % ", bar, " 100 %", element("span", mark, " matched layers")]
    if has_gaps:
        parts.append(element("span", _swatch(element("path", d="M2 16L16 2", class_="hatch")), " not tried"))
    return element("p", *parts, class_="legend")


def bar(value: object) -> Markup:
    """A number in [0, 1] as a short bar beside its digits; nothing without one."""
    number = finite(value)
    if number is None:
        return Markup("")
    length = round(32 * min(max(number, 0.0), 1.0), 1)
    rail = element("rect", x=0, y=0, width=32, height=8, class_="rail")
    return element(
        "svg",
        rail,
        element("rect", x=0, y=0, width=length, height=8, class_="bar"),
        viewBox="0 0 32 8",
        width=32,
        height=8,
        aria_hidden="true",
        class_="inline",
    )


def _in_words(found: Comparison, values: Sequence[float], own: float | None, nearest: float | None) -> str:
    said = f"{len(values)} unrelated pairs, from {percent(values[0])} to {percent(values[-1])}."
    if own is not None:
        beaten = sum(value < own for value in values)
        said += f" This pair has {percent(own)}, more than {beaten} of them."
    if nearest is not None:
        pair = (found.background or {})["nearest"]
        said += f" The nearest is {plain(pair.get('a'), 60)} with {plain(pair.get('b'), 60)}, {percent(nearest)}."
    return said


def _bars(values: Sequence[float], low: float, high: float) -> Markup:
    counts, _ = np.histogram(values, bins=_BINS, range=(low, high))
    step, tallest = (_RIGHT - _LEFT) / _BINS, max(1, int(counts.max()))
    heights = [(_FOOT - _TOP) * int(count) / tallest for count in counts]
    rects = [
        element(
            "rect",
            x=f"{_LEFT + at * step + 0.5:.1f}",
            y=f"{_FOOT - height:.1f}",
            width=f"{step - 1:.1f}",
            height=f"{height:.1f}",
            class_="bin",
        )
        for at, height in enumerate(heights)
        if height
    ]
    return join(rects)


def _axis(place: Callable[[float], float], low: float, high: float) -> Markup:
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] + ([low] if low < -0.05 else [])
    marks = [_line(_LEFT, _FOOT, _RIGHT, _FOOT, "axis")]
    for tick in ticks:
        if tick <= high:
            at = place(tick)
            marks.append(_line(at, _FOOT, at, _FOOT + 5, "axis"))
            marks.append(_text(at, _FOOT + 32, f"{100 * tick:.0f} %", "middle"))
    return join(marks)


def _marker(x: float, y: float, said: str, style: str) -> Markup:
    """A line down to the axis with a shape at its head and words beside it, where there is room."""
    is_right = x > _WIDTH / 2
    shape = (
        element("path", d=f"M{x:.1f} {y - 13}l6.5 8l-6.5 8l-6.5 -8z", class_=style)
        if style == "own"
        else element("path", d=f"M{x - 6:.1f} {y - 11}h12l-6 11z", class_=style)
    )
    words = _text(x - 13 if is_right else x + 13, y, said, "end" if is_right else "start", f"{style}-words")
    return join((_line(x, y + 3, x, _FOOT, f"{style}-line"), shape, words))


def _cells(table: np.ndarray) -> list[Markup]:
    """One path a level: runs of equal cells in a row are one rectangle."""
    drawn: list[list[str]] = [[] for _ in range(LEVELS)]
    blank: list[str] = []
    for i, row in enumerate(table):
        start = 0
        levels = [_level(value) for value in row]
        for j in range(1, len(levels) + 1):
            if j == len(levels) or levels[j] != levels[start]:
                level = levels[start]
                if level is not None:
                    run = f"M{start} {i}h{j - start}v1h-{j - start}z"
                    drawn[level].append(run)
                    blank.append(run)
                start = j
    ground = element("path", d="".join(blank), class_="ground")
    paths = [
        element("path", d="".join(runs), class_="cell", fill_opacity=_opacity(level / (LEVELS - 1)))
        for level, runs in enumerate(drawn)
        if runs
    ]
    return [ground, *paths]


def _level(value: float) -> int | None:
    return None if math.isnan(value) else round((LEVELS - 1) * min(max(float(value), 0.0), 1.0))


def _opacity(share: float) -> str:
    return f"{0.03 + 0.97 * share:.2f}"


def _frames(found: Comparison, rows: int, columns: int, cell: float) -> Markup:
    inset = 0.5 if cell < 10 else 1.0
    frames = [
        f"M{layer.layer_b * cell + inset:.1f} {layer.layer_a * cell + inset:.1f}"
        f"h{cell - 2 * inset:.1f}v{cell - 2 * inset:.1f}h-{cell - 2 * inset:.1f}z"
        for layer in found.layers
        if 0 <= layer.layer_a < rows and 0 <= layer.layer_b < columns
    ]
    return element("path", d="".join(frames), class_="match thin" if cell < 10 else "match") if frames else Markup("")


def _ticks(rows: int, columns: int, cell: float, left: int, top: int) -> Markup:
    def steps(n: int) -> list[int]:
        step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000, n) if step * cell >= 26 or step >= n)
        return list(range(0, n, step))

    across = [_text(left + (j + 0.5) * cell, top - 8, str(j), "middle") for j in steps(columns)]
    down = [_text(left - 8, top + (i + 0.5) * cell + 4.5, str(i), "end") for i in steps(rows)]
    titles = (
        _text(left, 16, "layer of B →", "start", "title"),
        element("text", "layer of A →", x=0, y=0, transform=f"translate(14 {top}) rotate(90)", class_="title"),
    )
    return join((*across, *down, *titles))


def _hatching(cell: float) -> Markup:
    """Lines across what was not tried, as far apart in pixels whatever a cell measures."""
    unit = 7 / cell
    line = element("path", d=f"M0 {unit:.3f}L{unit:.3f} 0", class_="hatch", stroke_width=f"{0.9 / cell:.4f}")
    pattern = element(
        "pattern", line, id="untried", width=f"{unit:.3f}", height=f"{unit:.3f}", patternUnits="userSpaceOnUse"
    )
    return element("defs", pattern)


def _swatch(shape: Markup) -> Markup:
    return element("svg", shape, viewBox="0 0 18 18", width=18, height=18, aria_hidden="true")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return element("path", d=f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}", class_=style)


def _text(x: float, y: float, said: str, anchor: str, style: str | None = None) -> Markup:
    return element("text", said, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=style)
