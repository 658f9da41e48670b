"""A comparison in, a page or a SARIF log out."""

from __future__ import annotations

import json

from huref.errors import HurefError, InputError, UsageError
from huref.files.atomic import write_atomically
from huref.fingerprints.file import saved_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint, Reference
from huref.kinship.ranking import Ranking
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.references import fingerprint_like
from huref.progress import Report, shows_progress
from huref.report.collection import command, gather
from huref.report.options import ReportOptions
from huref.report.page import html_page
from huref.report.ranking_page import ranking_page
from huref.report.sarif import sarif_log

_NO_PORTRAIT = "portraits are drawn for one pair"


@shows_progress
def save_reports(
    found: Comparison,
    models: tuple[Reference, Reference],
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


@shows_progress
def save_ranking(
    found: Ranking,
    suspect: Reference,
    wanted: ReportOptions,
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> None:
    """Write a ranking as one page, as one SARIF log with a run for each candidate, or as both.

    Raises:
        UsageError: evidence of a transform, which belongs to one pair.
        OutputError: a file cannot be written.
        InputError: a file of the models cannot be read any more, or no candidate could be compared.
    """
    options = options or CompareOptions()
    if wanted.transform is not None:
        raise UsageError("evidence belongs to one pair", where="--evidence", expected="one candidate", got="several")
    compared = {item.name: (item.comparison, item.reference) for item in found.candidates if item.comparison}
    if not compared:
        raise InputError(
            "no candidate could be compared", where="--report, --sarif", expected="one at least", got="none"
        )
    evidence = {
        name: gather(comparison, (suspect, other), (_NO_PORTRAIT, _NO_PORTRAIT), options, wanted, report)
        for name, (comparison, other) in compared.items()
    }
    if wanted.html is not None:
        said = command([suspect, *(item.reference for item in found.candidates)], options)
        write_atomically(wanted.html, ranking_page(found, evidence, said).encode())
    if wanted.sarif is not None:
        logs = [sarif_log(compared[name][0], item) for name, item in evidence.items()]
        for name, log in zip(evidence, logs, strict=True):
            log["runs"][0]["automationDetails"]["id"] += f"/{name}"
        document = {**logs[0], "runs": [run for log in logs for run in log["runs"]]}
        write_atomically(wanted.sarif, f"{json.dumps(document, indent=2, allow_nan=False)}\n".encode())


def _prints(
    models: tuple[Reference, Reference], options: CompareOptions, report: Report | None, *, is_drawn: bool
) -> list[Fingerprint | str]:
    """Of each model the fingerprint to draw, or why there is none; saved ones are only loaded."""
    saved = [saved_fingerprint(model) for model in models]
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
