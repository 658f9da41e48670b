"""Does a portrait read? The right base among 18, by three measures of likeness, for every closeness of kinship.

    .venv/bin/python lab/benchmarks/reading.py [--generator FILE] [--study FOLDER] [--quick | --full] [--psi 0.7]

1. Truncation: line-ups of drawn vectors at several psi; a rule fixed in `huref_lab.reading.report.choose` picks one.
2. At that psi (or the one given) more line-ups, strangers, and a threshold that turns most strangers away.
3. With `--study`, real models: every encoder's vectors, all bases of the study in one line-up.

Writes `results/reading.json`, `.md` and `.txt`, and the tables of `docs/explanation/reading-a-fingerprint.md`,
unless `--quick`.
`--usual` measures the models of `--study`, a study of the usual recipe, and keeps the rest. `--sheets` only draws
that page's pictures; `--page` only writes its tables again from `reading.json`.
Needs the extra `study` and the measuring networks: see `huref_lab.pictures.embedding`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from huref_lab.reading.line_ups import (
    KIN_BANDS,
    Setting,
    draw_lineup,
    read_lineup,
    read_numbers,
    spread_cosines,
    study_lineup,
)
from measure import machine, verdict

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "lab" / "benchmarks" / "results"
PAGE = ROOT / "docs" / "explanation" / "reading-a-fingerprint.md"
ALL = 99
"""A cutoff that reaches every style layer."""

ENCODERS = ("sketch", "mean", "cnn")

SWEEP = (Setting(0.3, 8), Setting(0.5, 8), Setting(0.7, 8), Setting(0.85, 8), Setting(1.0, 8), Setting(0.7, ALL))


def read_drawn(
    generator: Any,
    setting: Setting,
    seeds: range,
    measures: tuple[str, ...],
    *,
    bands: Any = KIN_BANDS,
    strangers: int = 18,
) -> dict[str, list[Any]]:
    """Line-ups of drawn vectors: by measure, one reading a seed. Equal seeds are equal vectors at every setting."""
    readings: dict[str, list[Any]] = {measure: [] for measure in measures}
    for seed in seeds:
        cosines = spread_cosines(18, np.random.default_rng([seed, 1]), bands)
        lineup = draw_lineup(seed, cosines, strangers=strangers)
        for measure, reading in read_lineup(lineup, generator, setting, measures).items():
            readings[measure].append(reading)
    return readings


def with_numbers(readings: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same, and what the vectors themselves say, as one measure more."""
    lineups = [reading.lineup for reading in next(iter(readings.values()))]
    return {**readings, "numbers": [read_numbers(lineup) for lineup in lineups]}


def study_document(folder: Path, generator: Any, setting: Setting, measures: tuple[str, ...]) -> dict[str, Any]:
    """Real models, by encoder: all bases of the study on offer."""
    from huref_lab.encoder_study.record import load_study
    from huref_lab.reading.report import counted

    study, found = load_study(folder), {}
    for encoder in (name for name in ENCODERS if name in study.vectors):
        lineup = study_lineup(study, encoder)
        readings = read_lineup(lineup, generator, setting, measures)
        found[encoder] = counted(with_numbers({measure: [reading] for measure, reading in readings.items()}))
    return {"bases": len(study.bases), "models": len(study.models) - len(study.bases), "encoders": found}


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """The whole study as a document."""
    from huref.portraits.generator.file import SHIPPED
    from huref_lab.pictures.similarity import MEASURES
    from huref_lab.reading.report import DECIDING, SCHEMA_VERSION, choose, counted, counted_right

    path = options.generator or SHIPPED
    generator = opened(path)
    few, many = (1, 1) if options.quick else (6, 24) if options.full else (2, 6)
    sweep = []
    for setting in SWEEP:
        start = time.perf_counter()
        readings = read_drawn(generator, setting, range(few), MEASURES, bands=DECIDING, strangers=0)
        right = counted_right(readings)
        sweep.append({"psi": setting.psi, "cutoff": setting.cutoff, "lineups": few, "right": right})
        print(f"  psi {setting.psi}, cutoff {setting.cutoff}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    chosen = choose(sweep)
    main = Setting(options.psi, options.cutoff) if options.psi is not None else chosen
    # Other seeds than the sweep's: what chose the setting does not also judge it.
    drawn = counted(with_numbers(read_drawn(generator, main, range(100, 100 + many), MEASURES)))
    document = {
        "schema_version": SCHEMA_VERSION,
        "generator": {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "resolution": generator.config.resolution,
        },
        "style_layers": generator.config.style_layers,
        "bases": 18,
        "sweep": sweep,
        "chosen": {"psi": chosen.psi, "cutoff": chosen.cutoff},
        "drawn": {"psi": main.psi, "cutoff": main.cutoff, "lineups": many, **drawn},
    }
    if options.study:
        document["real"] = study_document(options.study, generator, main, MEASURES)
    return document


def opened(path: Path) -> Any:
    """A generator from its file."""
    from huref.portraits.generator.file import open_generator

    return open_generator(path)


def report(document: dict[str, Any]) -> int:
    """Print the tables and the verdicts; 0 when all goals are met."""
    from huref.portraits.generator.file import PSI
    from huref.portraits.image.rendering import CUTOFF
    from huref_lab.reading.report import goals, summary

    print(machine())
    print(summary(document))
    met = [verdict(*goal) for goal in goals(document)]
    chosen = document["chosen"]
    is_shipped = (chosen["psi"], chosen["cutoff"]) == (PSI, CUTOFF)
    met.append(verdict("the shipped truncation is the chosen one", is_shipped, f"psi {PSI}, cutoff {CUTOFF}"))
    return 0 if all(met) else 1


def write_page(document: dict[str, Any]) -> None:
    """Put the tables between their marks in the page."""
    from huref_lab.reading.report import tables

    found, mark = tables(document), re.compile(r"(<!-- reading: (\w+) -->\n).*?(<!-- end -->)", re.S)

    def filled(place: re.Match[str]) -> str:
        table = found.get(place[2])
        return f"{place[1]}{table}\n\n{place[3]}" if table else place[1] + place[3]

    PAGE.write_text(mark.sub(filled, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def draw_sheets(generator: Any, setting: Setting) -> None:
    """The pictures of the page: a family, strangers, a graded row."""
    from huref.portraits.image import contact_sheet, graded_row, render, save_png
    from huref_lab.reading.line_ups import kin

    folder, dice = ROOT / "docs" / "images", np.random.default_rng(11)
    bases = dice.standard_normal((12, 512)).astype(np.float32)
    look = {"psi": setting.psi, "cutoff": setting.cutoff}
    cosines = [0.99, 0.98, 0.97, 0.96, 0.95]
    family = [bases[0], *(kin(bases[0], cosine, dice) for cosine in cosines)]
    labels = ["base", *(f"ICS {100 * cosine:.0f} %" for cosine in cosines)]
    pages = {
        "reading-family": contact_sheet(
            render(np.stack(family), generator, **look), labels, columns=6, side=150, lines=1
        )
    }
    names = [f"base {k + 1}" for k in range(len(bases))]
    pages["reading-strangers"] = contact_sheet(render(bases, generator, **look), names, columns=6, side=150, lines=1)
    steps = [1.0, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.0]
    row = [bases[1], *(kin(bases[1], cosine, dice) for cosine in steps[1:])]
    captions = ["base", *(f"ICS {100 * step:.0f} %" for step in steps[1:])]
    pages["reading-graded"] = graded_row(render(np.stack(row), generator, **look), captions, steps, side=128, lines=1)
    for name, page in pages.items():
        save_png(folder / f"{name}.png", page, {})


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--study", type=Path, help="folder of a study of real models")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one line-up each; writes nothing")
    size.add_argument("--full", action="store_true", help="four times as many line-ups")
    parser.add_argument("--psi", type=float, help="judge this truncation, not the chosen one")
    parser.add_argument("--cutoff", type=int, default=8)
    parser.add_argument("--sheets", action="store_true", help="only draw the page's pictures")
    parser.add_argument("--page", action="store_true", help="only write the page's tables, from results/reading.json")
    parser.add_argument("--usual", action="store_true", help="only --study, of the usual recipe; the rest stays")
    options = parser.parse_args()
    if options.usual:
        return measure_usual(options)
    if options.page:
        write_page(json.loads((RESULTS / "reading.json").read_text()))
        return 0
    if options.sheets:
        return sheets(options)
    document, printed = measure_all(options), io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = report(document)
    print(printed.getvalue(), end="")
    if not options.quick:
        write_results(document, printed.getvalue())
    return code


def measure_usual(options: argparse.Namespace) -> int:
    """Measure real models under the usual recipe at the setting of the drawn ones, which stay as they are."""
    from huref.portraits.generator.file import SHIPPED
    from huref_lab.pictures.similarity import MEASURES
    from huref_lab.reading.report import summary

    document = json.loads((RESULTS / "reading.json").read_text())
    setting = Setting(document["drawn"]["psi"], document["drawn"]["cutoff"])
    document["usual"] = study_document(options.study, opened(options.generator or SHIPPED), setting, MEASURES)
    (RESULTS / "reading.json").write_text(json.dumps(document, indent=1) + "\n")
    said, printed = summary(document), (RESULTS / "reading.txt").read_text()
    start = printed.index("Generator ")
    goals = re.search(r"^\[(met|MISSED)\]", printed, re.M)
    end = len(printed) if goals is None else goals.start()
    (RESULTS / "reading.txt").write_text(f"{printed[:start]}{said}\n{printed[end:]}")
    (RESULTS / "reading.md").write_text(said)
    write_page(document)
    return 0


def write_results(document: dict[str, Any], printed: str) -> None:
    """The three files of results, and the page's tables."""
    from huref_lab.reading.report import summary

    (RESULTS / "reading.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "reading.md").write_text(summary(document))
    (RESULTS / "reading.txt").write_text(printed)
    write_page(document)


def sheets(options: argparse.Namespace) -> int:
    """Draw with the truncation given, or the shipped one."""
    from huref.portraits.generator.file import PSI, SHIPPED
    from huref.portraits.image.rendering import CUTOFF

    is_given = options.psi is not None
    setting = Setting(options.psi, options.cutoff) if is_given else Setting(PSI, CUTOFF)
    draw_sheets(opened(options.generator or SHIPPED), setting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
