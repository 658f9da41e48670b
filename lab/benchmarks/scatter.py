"""A small scatter plot as SVG text: panels side by side, points as one path a class, no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

SIDE, GAP, LEFT, TOP, BOTTOM = 250, 46, 48, 46, 62
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Points:
    """One class of points: label, colour, and (n, 2) coordinates."""

    label: str
    colour: str
    xy: np.ndarray
    size: float = 2.4


@dataclass(frozen=True)
class Panel:
    """One plot: its title, its points in drawing order, and a line through (m, 2) points."""

    title: str
    points: Sequence[Points]
    line: np.ndarray


def scatter(panels: Sequence[Panel], x_label: str, y_label: str, low: float = -0.25) -> str:
    """The document. Both axes run from `low` to 1; the diagonal y = x is drawn dashed."""
    width, height = LEFT + len(panels) * (SIDE + GAP), TOP + SIDE + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        parts += _panel(panel, LEFT + index * (SIDE + GAP), low, x_label)
    parts.append(
        f'<text x="14" y="{TOP + SIDE / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 14 {TOP + SIDE / 2:.0f})">{escape(y_label)}</text>'
    )
    parts += _legend(panels[0].points, height - 10)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, left: float, low: float, x_label: str) -> list[str]:
    def place(xy: np.ndarray) -> np.ndarray:
        share = (np.clip(xy, low, 1.0) - low) / (1.0 - low)
        return np.stack([left + SIDE * share[:, 0], TOP + SIDE * (1.0 - share[:, 1])], axis=1)

    corner = place(np.array([[low, low], [1.0, 1.0]]))
    parts = [
        f'<text x="{left + SIDE / 2:.0f}" y="{TOP - 16}" text-anchor="middle" font-size="14">'
        f"{escape(panel.title)}</text>",
        f'<rect x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
        f'<path d="M{corner[0, 0]:.1f} {corner[0, 1]:.1f}L{corner[1, 0]:.1f} {corner[1, 1]:.1f}" '
        'stroke="#777" stroke-dasharray="5 4" fill="none"/>',
        f'<text x="{left + SIDE / 2:.0f}" y="{TOP + SIDE + 32}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    for tick in _TICKS:
        x, y = place(np.array([[tick, tick]]))[0]
        parts.append(f'<path d="M{x:.1f} {TOP + SIDE}v4M{left} {y:.1f}h-4" stroke="#999"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + SIDE + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for points in panel.points:
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in place(points.xy))
        parts.append(
            f'<path d="{dots}" stroke="{points.colour}" stroke-width="{points.size}" stroke-linecap="round" '
            'stroke-opacity="0.55"/>'
        )
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in place(panel.line))
    parts.append(f'<path d="M{steps}" stroke="#000" stroke-width="1.6" fill="none"/>')
    return parts


def _legend(points: Sequence[Points], y: float) -> list[str]:
    parts, x = [], float(LEFT)
    for item in points:
        parts.append(f'<circle cx="{x:.0f}" cy="{y - 4:.0f}" r="4" fill="{item.colour}"/>')
        parts.append(f'<text x="{x + 9:.0f}" y="{y:.0f}">{escape(item.label)}</text>')
        x += 30 + 6.1 * len(item.label)
    parts.append(f'<path d="M{x:.0f} {y - 4:.0f}h22" stroke="#000" stroke-width="1.6"/>')
    parts.append(f'<text x="{x + 28:.0f}" y="{y:.0f}">mean of a band</text>')
    return parts
