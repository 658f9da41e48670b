"""What a comparison and a matrix say in words and tables, on the command line, in Python and in notebooks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from itertools import combinations

import numpy as np

from huref.kinship.record import ICS_OF, Comparison, Matrix
from huref.kinship.table_text import drift_text, tree_text
from huref.text import percent, printable

_SHOWN_LAYERS = 6
_HEAD = 8
"""Letters of a column's head."""


def comparison_text(found: Comparison) -> str:
    """The scores of a comparison, its terms, its background and its verdict."""
    lines = [f"{found.a}  ~  {found.b}"]
    lines += [
        f"  {title:<22}{percent(getattr(found, field)):>10}{_error(found, field)}{_unrelated(found, field)}"
        for title, field in _scores(found)
    ]
    lines += [
        f"    layer {term.layer_a:>3} ~ {term.layer_b:<3} {term.term:<12}{percent(term.score):>10}"
        for term in found.terms
    ]
    lines += _pairing_lines(found)
    lines.append(f"  verdict: {found.verdict}{_derivation(found)}")
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join(lines)


def _scores(found: Comparison) -> list[tuple[str, str]]:
    """Title and field of each score; of the ICS of two recipes those that were asked for."""
    ics = [(f"ICS, {recipe}", field) for recipe, field in ICS_OF.items() if getattr(found, field) is not None]
    return [
        ("PCS, parameters", "pcs"),
        *(ics or [("ICS", "invariant_ics")]),
        ("ICS, paper", "ics"),
        ("fingerprint vectors", "vectors"),
        ("aligned weights", "aligned"),
        ("pairing agreement", "agreement"),
    ]


def _error(found: Comparison, field: str) -> str:
    """` +- 0.20`, of a score that was estimated."""
    return f" +- {100 * found.errors[field]:.2f}" if field in found.errors else ""


def _unrelated(found: Comparison, field: str) -> str:
    """What unrelated pairs reach; the agreement's are told with the p-value."""
    field = "ics_canonical_2" if field == "invariant_ics" else field
    known = ((found.background or {}).get("scores") or {}).get(field)
    if known is None or field == "agreement" or getattr(found, field) is None:
        return ""
    return f"   unrelated pairs {percent(known['mean'])} +- {100 * known['std']:.2f}, at most {percent(known['max'])}"


def _pairing_lines(found: Comparison) -> list[str]:
    """What the verdict rests on: neurons of the first matched layers, and the unrelated pairs for comparison."""
    lines = [
        f"    layer {layer.layer_a:>3} ~ {layer.layer_b:<3} {round(layer.agreement * layer.n_neurons):,} of "
        f"{layer.n_neurons:,} neurons have one partner by two criteria"
        for layer in found.layers[:_SHOWN_LAYERS]
    ]
    if len(found.layers) > _SHOWN_LAYERS:
        lines.append(f"    ... and {len(found.layers) - _SHOWN_LAYERS} more layers, in --json")
    if found.witnesses and found.alignment is not None:
        best = max(found.witnesses, key=lambda name: found.witnesses[name])
        others = ", ".join(f"{name} {percent(value)}" for name, value in found.witnesses.items() if name != best)
        lines.append(f"  witness               {best}, frame {found.alignment['method']}{others and f'; {others}'}")
    if found.background is not None and found.p_value is not None:
        told = found.background
        nearest = told["nearest"]
        lines.append(
            f"  unrelated pairs       {percent(told['mean'])} +- {100 * told['std']:.2f}, {told['n']} pairs, at most "
            f"{percent(told['max'])} ({nearest['a']} ~ {nearest['b']})"
        )
        distance = "" if found.z is None else f", z {found.z:.1f}"
        lines.append(f"  p-value               {found.p_value:.2g}{distance}")
    return lines


def _derivation(found: Comparison) -> str:
    told = found.derivation
    if told is None or told["kind"] == found.verdict:
        return ""
    is_open = told["direction"] == "unknown" and found.verdict in ("derived", "merged")
    direction = "which came first is not told" if is_open else told["direction"].replace("unknown", "")
    parts = [direction, told["kind"], told["strength"]]
    return f" ({', '.join(part for part in parts if part)})"


def comparison_html(found: Comparison) -> str:
    """The verdict and the scores as a table, for notebooks."""
    rows = [(f"{found.a} ~ {found.b}", found.verdict + _derivation(found))]
    rows += [(title, f"{percent(getattr(found, field))}{_error(found, field)}") for title, field in _scores(found)]
    return _html_table(rows, found.notes)


def matrix_text(table: Matrix) -> str:
    """The table in percent, the clusters of kin and the notes."""
    drift = table.drift
    parts = [
        plain_text(table.names, table.score, table.values),
        _clusters_text(table),
        tree_text(table.names, table.score, table.values),
        "" if drift is None else drift_text(drift, table.score),
    ]
    return "\n".join([*filter(None, parts), *(f"note: {note}" for note in table.notes)])


def matrix_html(table: Matrix) -> str:
    """The table in percent, for notebooks."""
    body = zip(table.names, table.values, strict=True)
    rows = [(table.score, *table.names), *((name, *map(hundredths, values)) for name, values in body)]
    return _html_table(rows, table.notes)


def _html_table(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Names and notes come from files of others: nothing in them is markup."""
    cells = ("".join(f"<td>{escape(printable(cell))}</td>" for cell in row) for row in rows)
    said = "".join(f"<li>{escape(printable(note))}</li>" for note in notes)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table><ul>{said}</ul>"


def plain_text(names: Sequence[str], score: str, values: np.ndarray) -> str:
    """A table in percent."""
    heads = names
    if max(map(len, names)) > _HEAD:  # numbers in place of names that would be cut, told in front of each row
        heads = [f"({i})" for i in range(1, len(names) + 1)]
        names = [f"{head:<{len(heads[-1])}} {name}" for head, name in zip(heads, names, strict=True)]
    width = max(8, *(len(name) for name in names))
    lines = [f"{score}, percent", " " * width + "".join(f"  {head:>{_HEAD}}" for head in heads)]
    for name, row in zip(names, values, strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"  {hundredths(value):>8}" for value in row))
    return "\n".join(lines)


def csv_text(names: Sequence[str], values: np.ndarray) -> str:
    """A table as CSV, names in the first row and column, scores as they are and empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["", *names])
    for name, row in zip(names, values, strict=True):
        writer.writerow([name, *("" if np.isnan(value) else f"{value:.6f}" for value in row)])
    return stream.getvalue().rstrip("\n")


def hundredths(value: float) -> str:
    """A score in percent, without the sign; or a dash."""
    return "-" if np.isnan(value) else f"{100 * value:.2f}"


def _clusters_text(table: Matrix) -> str:
    """A line a cluster of kin, and how many models have none; empty where no pair has a verdict."""
    pairs = [table.verdicts[i][j] for i, j in combinations(range(len(table.names)), 2)]
    if not any(pairs):
        return ""
    lines = [f"  {len(cluster)}: {', '.join(cluster)}" for cluster in table.clusters]
    alone = len(table.names) - sum(map(len, table.clusters))
    untold = pairs.count("inconclusive") + pairs.count(None)
    doubt = f"; {untold} of {len(pairs)} pairs without a conclusion" if untold else ""
    return "\n".join(["", "clusters of kin", *lines, f"  without kin among these: {alone}{doubt}"])
