"""A comparison in, a page or a SARIF log out."""

from __future__ import annotations

import json
from pathlib import Path

from huref.errors import HurefError
from huref.files.atomic import write_atomically
from huref.fingerprints.file import is_fingerprint, load_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.references import fingerprint_like
from huref.progress import Report
from huref.report.collection import gather
from huref.report.options import ReportOptions
from huref.report.page import html_page
from huref.report.sarif import sarif_log


def save_reports(
    found: Comparison,
    models: tuple[str | Path, str | Path],
    wanted: ReportOptions,
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> None:
    """Write a comparison as a self-contained page, as SARIF, or as both: docs/how-to/reports.md.

    Args:
        found: what `compare` returned.
        models: what it was given.
        wanted: the files, and what to put into them.
        options: what it was given.

    Raises:
        OutputError: a file cannot be written.
        InputError: a file of the models cannot be read any more.
    """
    options = options or CompareOptions()
    prints = _prints(models, options, report, is_drawn=wanted.html is not None)
    evidence = gather(found, models, prints, options, wanted, report)
    if wanted.html is not None:
        write_atomically(wanted.html, html_page(found, evidence).encode())
    if wanted.sarif is not None:
        log = json.dumps(sarif_log(found, evidence), indent=2, allow_nan=False)
        write_atomically(wanted.sarif, f"{log}\n".encode())


def _prints(
    models: tuple[str | Path, str | Path], options: CompareOptions, report: Report | None, *, is_drawn: bool
) -> list[Fingerprint | str]:
    """Of each model the fingerprint to draw, or why there is none; saved ones are only loaded."""
    saved = [load_fingerprint(model) if is_fingerprint(model) else None for model in models]
    usual = Recipe(name=options.ics_recipe, layers=options.layers, n_tokens=options.n_tokens)
    recipe = next((found.recipe for found in saved if found), usual)
    prints: list[Fingerprint | str] = []
    for known, model in zip(saved, models, strict=True):
        try:
            if known is None and is_drawn:
                known = fingerprint_like(model, recipe, options, report)
            prints.append(known or "no portrait was asked for")
        except HurefError as error:
            prints.append(error.what)
    return prints
