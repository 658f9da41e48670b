"""What the reading study found: a document, its tables, the choice of truncation, the goals.

The document is plain JSON, so that pages that quote it can be made and checked without running anything. A share is
`[hits, trials]` in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from huref_lab.reading.bands import BANDS, Share, wilson
from huref_lab.reading.line_ups import ALARM_RATE, FalseMatches, Reading, Setting, false_matches, share_by_band

SCHEMA_VERSION = "huref.reading/1.0"

DECIDING = BANDS[1:4]
"""ICS 0.7 to 0.95, whose right answers choose the truncation: closer kin nearly always read, farther ones rarely."""

_SURE = 0.999
"""Confidence at which strangers are held to differ from chance: several measures are asked at once."""

Document = dict[str, Any]


def counted(readings: Mapping[str, Sequence[Reading]]) -> Document:
    """Right answers by measure and band, and what becomes of strangers, by measure."""
    return {
        "right": counted_right(readings),
        "around_0.8": {measure: _pair(_around(found, 0.75, 0.85)) for measure, found in readings.items()},
        "strangers": {measure: _strangers(false_matches(found)) for measure, found in readings.items()},
    }


def counted_right(readings: Mapping[str, Sequence[Reading]]) -> Document:
    """Right answers by measure and band."""
    return {measure: _pairs(share_by_band(found)) for measure, found in readings.items()}


def _around(readings: Sequence[Reading], low: float, high: float) -> Share:
    asked = [(r.lineup.ics >= low) & (r.lineup.ics < high) & ~r.is_stranger for r in readings]
    return Share.of(np.concatenate([r.is_right[rows] for r, rows in zip(readings, asked, strict=True)]))


def _strangers(found: FalseMatches) -> Document:
    return {
        "named": _pair(found.named),
        "crowd": round(found.crowd, 4),
        "crowd_by_chance": round(found.crowd_by_chance, 4),
        "alarms": _pair(found.alarms),
        "found": _pairs(found.found),
    }


def _pair(share: Share) -> list[int]:
    return [share.hits, share.trials]


def _pairs(shares: Mapping[str, Share]) -> dict[str, list[int]]:
    return {band: _pair(share) for band, share in shares.items()}


def score(right: Mapping[str, Mapping[str, Sequence[int]]]) -> Share:
    """Of one setting: right answers in the deciding bands together, by the measure that does worst."""
    pooled = [sum((Share(*bands[band.name]) for band in DECIDING), Share(0, 0)) for bands in right.values()]
    return min(pooled, key=lambda share: share.rate)


def choose(sweep: Sequence[Mapping[str, Any]]) -> Setting:
    """The truncation to ship: the least whose `score` no other's exceeds by more than its interval allows.

    A program's likeness does not fade when all pictures approach the mean dog, a person's does: so truncation has to
    be earned.
    """
    scores = {Setting(each["psi"], each["cutoff"]): score(each["right"]) for each in sweep}
    best = max(share.rate for share in scores.values())
    unbeaten = [setting for setting, share in scores.items() if share.interval[1] >= best]
    return max(unbeaten, key=lambda setting: (setting.psi, -setting.cutoff))


def goals(document: Document) -> list[tuple[str, bool, str]]:
    """What the portraits should do among 18 bases: the goal, whether it was reached, what was found."""
    drawn = document["drawn"]
    close = {m: Share(*b["0.95 to 1"]) + Share(*b["0.90 to 0.95"]) for m, b in drawn["right"].items()}
    near = {measure: Share(*pair) for measure, pair in drawn["around_0.8"].items()}
    named = {measure: Share(*found["named"]) for measure, found in drawn["strangers"].items()}
    chance = 1 / document["bases"]
    ranges = [wilson(share.hits, share.trials, _SURE) for share in named.values()]
    is_chance = all(low <= chance <= high for low, high in ranges)
    return [
        ("every base found at ICS 0.9 and above", all(s.rate == 1 for s in close.values()), _said(close)),
        (
            "95 % of the bases found around ICS 0.8 (0.75 to 0.85)",
            all(s.rate >= 0.95 for s in near.values()),
            _said(near),
        ),
        (
            "strangers match a named base as often as chance",
            is_chance,
            f"{_said(named)}; chance {100 * chance:.1f} %",
        ),
    ]


def _said(shares: Mapping[str, Share]) -> str:
    return ", ".join(f"{measure} {share}" for measure, share in shares.items())


def tables(document: Document) -> dict[str, str]:
    """Markdown tables by name: `sweep`, `drawn`, `strangers`, and of real models `real` and `usual`."""
    found = {"sweep": _sweep(document), "drawn": _drawn(document), "strangers": _alarm_table(document)}
    for name, recipe in (("real", "canonical and paper"), ("usual", "canonical-2")):
        if document.get(name):
            found[name] = _real(document[name], recipe)
    return found


def _sweep(document: Document) -> str:
    measures = list(document["sweep"][0]["right"])
    rows = [
        [
            f"{each['psi']:g}",
            "all" if each["cutoff"] >= document["style_layers"] else str(each["cutoff"]),
            *(_cell(sum((Share(*each["right"][m][band.name]) for band in DECIDING), Share(0, 0))) for m in measures),
        ]
        for each in document["sweep"]
    ]
    return _table(["psi", "layers", *measures], rows)


def _drawn(document: Document) -> str:
    right = document["drawn"]["right"]
    rows = [[band, *(_cell(Share(*right[m][band])) for m in right)] for band in _bands(right)]
    return _table(["ICS", *right], rows)


def _alarm_table(document: Document) -> str:
    """What a reader who says `none of them` to nearly all strangers still finds."""
    strangers = document["drawn"]["strangers"]
    rows = [
        [f"ICS {band}", *(_cell(Share(*strangers[m]["found"][band])) for m in strangers)]
        for band in _found(strangers)
    ]
    alarms = ["strangers given a base", *(_cell(Share(*strangers[m]["alarms"])) for m in strangers)]
    named = [
        "strangers given one named base, no threshold",
        *(_cell(Share(*strangers[m]["named"])) for m in strangers),
    ]
    return _table(["", *strangers], [*rows, alarms, named])


def _found(strangers: Document) -> list[str]:
    return _bands({measure: found["found"] for measure, found in strangers.items()})


def _real(real: Document, recipe: str) -> str:
    """Who was read, and one row a band and encoder."""
    intro = (
        f"**Real models, {recipe}.** {real['models']} offspring of {real['bases']} bases, all of them on offer; the "
        "encoder makes the 512 numbers from a model's weights."
    )
    rows = []
    for band in (band.name for band in BANDS):
        for encoder, found in real["encoders"].items():
            right = found["right"]
            if any(band in bands for bands in right.values()):
                rows.append([band, encoder, *(_cell(Share(*right[m].get(band, (0, 0)))) for m in right)])
    measures = next(iter(real["encoders"].values()))["right"]
    return f"{intro}\n\n{_table(['ICS', 'encoder', *measures], rows)}"


def _bands(right: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [band.name for band in BANDS if any(band.name in bands for bands in right.values())]


def _cell(share: Share) -> str:
    return f"{share}, n {share.trials}" if share.trials else "-"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def summary(document: Document) -> str:
    """Everything as Markdown, for people who read the results without the page."""
    drawn = document["drawn"]
    found, chosen = tables(document), document["chosen"]
    layers = "all" if drawn["cutoff"] >= document["style_layers"] else drawn["cutoff"]
    parts = [
        f"Generator {document['generator']['sha256'][:12]}, {document['generator']['resolution']} px. Right base "
        f"among {document['bases']}, in percent, with the 95 % interval; chance is {100 / document['bases']:.0f} %.",
        f"Truncation, ICS 0.7 to 0.95 together. The rule chooses psi {chosen['psi']:g}, layers {chosen['cutoff']}.",
        found["sweep"],
        f"Vectors drawn with exact cosines, psi {drawn['psi']:g}, layers {layers}.",
        found["drawn"],
        f"With a threshold that lets {100 * ALARM_RATE:.0f} % of strangers through.",
        found["strangers"],
    ]
    parts += [found[name] for name in ("real", "usual") if name in found]
    return "\n\n".join(parts) + "\n"
