"""What the demo found, as data, as JSON and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huref.fingerprints.record import Fingerprint

LEGEND = (
    "PCS: cosine of all weights. ICS: of products that no rearrangement changes; paper: of the paper's products.",
    "agreement: neurons whose best partners by two independent criteria are one; the verdict rests on it.",
    "portrait: cosine of the 512 numbers that a picture is drawn from; chance is within 9 of 0.",
    "The stranger is a random initialisation, not a trained model.",
)


@dataclass(frozen=True)
class Member:
    """One model of the demo.

    Attributes:
        name: file or folder name without its ending.
        made: how, in a few words.
        check: what was measured while making it, or empty.
        path: the checkpoint.
        fingerprint: of it.
    """

    name: str
    made: str
    check: str
    path: Path
    fingerprint: Fingerprint


@dataclass(frozen=True)
class DemoRow:
    """One model against the base; scores in [-1, 1], None for the base itself or where there is no such score."""

    name: str
    made: str
    check: str
    pcs: float | None
    ics: float | None
    ics_canonical_2: float | None
    agreement: float | None
    vectors: float | None
    verdict: str


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo found.

    Attributes:
        rows: the base first.
        names: of the models, in the order of `similarity`.
        similarity: ICS of every pair, estimated from the fingerprints' sketches.
        seconds: by stage.
        sheet: file name of the contact sheet in the output folder.
    """

    rows: tuple[DemoRow, ...]
    names: tuple[str, ...]
    similarity: tuple[tuple[float, ...], ...]
    seconds: Mapping[str, float]
    sheet: str

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        table = [[None if math.isnan(value) else value for value in row] for row in self.similarity]
        return {
            "schema_version": "huref.demo/2.0",
            "models": [asdict(row) for row in self.rows],
            "names": list(self.names),
            "similarity": table,
            "seconds": dict(self.seconds),
            "sheet": self.sheet,
        }

    def to_text(self) -> str:
        """Two tables: every model against the base, and all pairs."""
        heads = ("model", "PCS", "ICS", "paper", "agreement", "portrait", "verdict", "how it was made")
        rows = [_cells(row) for row in self.rows]
        short = [f"({index + 1})" for index in range(len(self.names))]
        pairs = [
            (f"{label} {name}", *(_percent(value) for value in values))
            for label, name, values in zip(short, self.names, self.similarity, strict=True)
        ]
        blocks = [
            "Against the base, in percent:",
            *_table(heads, rows, flush_right=range(1, 6)),
            "",
            "All pairs, ICS estimated from the fingerprints alone:",
            *_table(("", *short), pairs, flush_right=range(1, len(short) + 1)),
            "",
            *LEGEND,
            f"{sum(self.seconds.values()):.0f} s in all: "
            + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in self.seconds.items()),
        ]
        return "\n".join(blocks)


def _cells(row: DemoRow) -> tuple[str, ...]:
    scores = (row.pcs, row.ics_canonical_2, row.ics, row.agreement, row.vectors)
    made = f"{row.made}; {row.check}" if row.check else row.made
    return (row.name, *(_percent(score) for score in scores), row.verdict or "-", made)


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], flush_right: range) -> list[str]:
    """Columns as wide as their longest cell; those in `flush_right` are set flush right."""
    lines = [tuple(heads), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column in flush_right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
