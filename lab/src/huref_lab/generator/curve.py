"""The course of a training run as a drawing: its losses, and how near its pictures came to photographs.

Written as SVG by hand: two small plots do not need a plotting library.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from huref.errors import CorruptFileError
from huref.files.atomic import write_atomically
from huref_lab.pictures.sample_distances import Estimate

LOG = "log.jsonl"
COLOURS = ("#1f6f8b", "#c2571a", "#5b8c2a", "#7a4fa3", "#8a6d1d", "#a3314f")
INK, FAINT = "#26262a", "#c9c6bf"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 720, 260, 64, 34, 40, 16
LETTER = 6.2
"""Mean width of a letter at the size used."""

Point = tuple[float, float, float]
"""x, y, and half the length of the error bar."""


@dataclass(frozen=True)
class ExportScore:
    """One saved state of a run, measured.

    Args:
        file: its name.
        images: photographs shown until then.
        held_out: kernel distance to photographs never shown.
        training: kernel distance to the photographs trained on.
    """

    file: str
    images: int
    held_out: Estimate
    training: Estimate


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of a run's `log.jsonl`.

    Raises:
        CorruptFileError: no such log, or one that cannot be read.
    """
    path = run / LOG
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"images": float(line["images"]), **{k: float(v) for k, v in line.items()}} for line in lines]
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CorruptFileError("not the log of a training run", where=str(path), got=str(error)) from error


def score_files(
    path: Path, files: Sequence[Path], settings: str, score: Callable[[Path], ExportScore]
) -> list[ExportScore]:
    """Scores of many files, kept in one file so that a second call measures only what is new.

    Args:
        path: the file that keeps them.
        files: what to score.
        settings: whatever else decides a score, in words; scores kept under other words do not count.
        score: measures one file.

    Returns:
        A score for each file, by images shown.
    """
    kept = _read_kept(path).get(settings, {})
    scores = {}
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest not in kept:
            kept[digest] = asdict(score(file))
            write_atomically(path, json.dumps({settings: kept}, indent=1).encode())
        entry = kept[digest]
        held_out, training = Estimate(**entry["held_out"]), Estimate(**entry["training"])
        scores[file] = ExportScore(file.name, int(entry["images"]), held_out, training)
    return sorted(scores.values(), key=lambda item: (item.images, item.file))


def _read_kept(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores kept by an earlier call; a file that cannot be read holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def curve_svg(log: Sequence[Mapping[str, float]], scores: Sequence[ExportScore], floor: Estimate) -> str:
    """Two plots over the images shown: the losses, and the kernel distance with its standard errors.

    Args:
        log: lines of the run's log; each other key than `images` and `seconds` is a loss.
        scores: of the run's exports.
        floor: kernel distance of photographs to photographs.

    Returns:
        An SVG document; a plot without points is left out.
    """
    losses: dict[str, list[Point]] = {}
    for line in log:
        for name, value in line.items():
            if name not in ("images", "seconds") and math.isfinite(value):
                losses.setdefault(name, []).append((line["images"], value, 0.0))
    distances = {
        "to held-out photographs": [
            (float(s.images), 1e3 * s.held_out.value, 1e3 * s.held_out.error) for s in scores
        ],
        "to training photographs": [
            (float(s.images), 1e3 * s.training.value, 1e3 * s.training.error) for s in scores
        ],
    }
    plots: list[tuple[str, Mapping[str, Sequence[Point]], float | None]] = []
    if losses:
        plots.append(("Losses (running means) over images shown", losses, None))
    if scores:
        plots.append(
            (
                "Kernel distance x 1000 over images shown (dashed: photographs to photographs)",
                distances,
                1e3 * floor.value,
            )
        )
    right = max((point[0] for _, lines, _ in plots for line in lines.values() for point in line), default=0.0) or 1.0
    body = [_plot(index * HEIGHT, right, *plot) for index, plot in enumerate(plots)]
    height = HEIGHT * max(len(plots), 1)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
    head += f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11" fill="{INK}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *body, "</svg>"]) + "\n"


def _plot(top: int, right: float, title: str, lines: Mapping[str, Sequence[Point]], level: float | None) -> str:
    """One plot from x = 0 to `right`: a line with points for each entry, its name in its colour."""
    points = [point for line in lines.values() for point in line]
    high = max([point[1] + point[2] for point in points] + [level or 0.0])
    low = min([point[1] - point[2] for point in points] + [level or 0.0, 0.0])
    high = high if high > low else low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / right
        return across, top + TOP + (HEIGHT - TOP - BOTTOM) * (high - y) / (high - low)

    parts = [f'<text x="{LEFT}" y="{top + 16}" font-weight="bold">{escape(title)}</text>']
    for y in ticks(low, high):
        down = place(0, y)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(0.0, right):
        across, down = place(x, low)
        parts.append(f'<text x="{across:.1f}" y="{down + 16:.1f}" text-anchor="middle">{x / 1000:g}k</text>')
    if level is not None:
        down = place(0, level)[1]
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}" '
            f'stroke="{INK}" stroke-dasharray="5 4"/>'
        )
    across = float(LEFT)
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        parts += _line(line, colour, place)
        parts.append(f'<text x="{across:.0f}" y="{top + HEIGHT - 6}" fill="{colour}">{escape(name)}</text>')
        across += LETTER * len(name) + 16
    return "\n".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, at most seven."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * factor for factor in (0.2, 0.5, 1.0, 2.0) if (high - low) / (step * factor) < 6.5)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _line(line: Sequence[Point], colour: str, place: Callable[[float, float], tuple[float, float]]) -> list[str]:
    """A line through its points, with a bar for each error."""
    spots = [place(x, y) for x, y, _ in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    for (x, y, error), (across, down) in zip(line, spots, strict=True):
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2" fill="{colour}"/>')
        if error:
            ends = place(x, y - error)[1], place(x, y + error)[1]
            parts.append(
                f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{colour}"/>'
            )
    return parts
