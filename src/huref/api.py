"""The front door: what the command line, the web and other programs call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from huref import private
from huref.errors import HurefError, OutputError
from huref.face import face
from huref.fingerprints.file import SUFFIX, is_fingerprint, load_fingerprint, save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.references import fingerprint_like

if TYPE_CHECKING:
    from PIL.Image import Image

    from huref.evidence import ReportOptions
    from huref.explanation import Checked, CheckOptions, ExplainOptions, Explanation
    from huref.fingerprints.references import fingerprint
    from huref.kinship.matrix import matrix
    from huref.kinship.references import compare
    from huref.merges.parentage import Parentage
    from huref.model.token_ranking import rank_tokens
    from huref.portraits import PictureOptions
    from huref.progress import Report

__all__ = [
    "check_evidence",
    "commit",
    "compare",
    "compare_private",
    "explain",
    "fingerprint",
    "matrix",
    "parents",
    "prove_compare",
    "prove_fingerprint",
    "prove_inference",
    "prove_rows",
    "rank_tokens",
    "render",
    "save_picture",
    "save_reports",
    "verify",
    "write",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "compare": "huref.kinship.references",
        "fingerprint": "huref.fingerprints.references",
        "matrix": "huref.kinship.matrix",
        "rank_tokens": "huref.model.token_ranking",
    },
)

commit = private.commit
prove_fingerprint = private.prove_fingerprint
prove_compare = private.prove_compare
prove_inference = private.prove_inference
prove_rows = private.prove_rows
verify = private.verify
compare_private = private.compare_private


def save_reports(
    found: Comparison,
    models: tuple[str | Path, str | Path],
    wanted: ReportOptions,
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> None:
    """Write a comparison as a self-contained page, as SARIF, or as both: docs/reports.md.

    Args:
        found: what `compare` returned.
        models: what it was given.
        wanted: the files, and what to put into them.
        options: what it was given.

    Raises:
        OutputError: a file cannot be written.
        InputError: a file of the models cannot be read any more.
    """
    from huref.evidence import gather
    from huref.files.atomic import write_atomically
    from huref.report import html_page, sarif_log

    options = options or CompareOptions()
    prints = _prints(models, options, report, is_drawn=wanted.html is not None)
    evidence = gather(found, models, prints, options, wanted, report)
    if wanted.html is not None:
        write_atomically(wanted.html, html_page(found, evidence).encode())
    if wanted.sarif is not None:
        log = json.dumps(sarif_log(found, evidence), indent=2, allow_nan=False)
        write_atomically(wanted.sarif, f"{log}\n".encode())


def parents(
    child: str | Path,
    candidates: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    arch_file: Path | None = None,
    report: Report | None = None,
) -> Parentage:
    """Which candidates a model was merged or tuned from, with their weights; see `docs/merges.md`.

    Args:
        base: what the parents were tuned from; chosen among three or more relatives where it is not given.

    Raises:
        HurefError: see `huref.errors`.
    """
    from huref.merges.finding import find_parents

    return find_parents(child, candidates, base, arch_file=arch_file, report=report)


def explain(
    a: str | Path,
    b: str | Path,
    options: ExplainOptions | None = None,
    out: Path | None = None,
    report: Report | None = None,
) -> Explanation:
    """Recover what was done to A to make B, and see what undoing it shows; see `docs/explain.md`.

    Args:
        out: saves the evidence there, for others to check.

    Raises:
        InconclusiveError: nothing of B agrees with anything of A; nothing is written.
        HurefError: see `huref.errors`.
    """
    from huref.explanation import save_evidence
    from huref.explanation.recovering import explain_models
    from huref.files.atomic import require_place

    if out is not None:
        require_place(out)
    found = explain_models(a, b, options, report)
    if out is not None:
        save_evidence(found, out)
    return found


def check_evidence(
    path: Path, a: str | Path, b: str | Path, options: CheckOptions | None = None, report: Report | None = None
) -> Checked:
    """Check the claims of saved evidence against the two models it is about, in either order.

    Raises:
        CorruptFileError: no evidence.
        InputError: evidence about other models; see `huref.errors`.
    """
    from huref.explanation.checking import check_evidence as check

    return check(path, a, b, options, report)


def render(fingerprints: Fingerprint | Sequence[Fingerprint], options: PictureOptions | None = None) -> Image:
    """The picture of a fingerprint; of several a sheet, a row or a difference, with their likeness to the first.

    Raises:
        HurefError: see `huref.errors`.
    """
    from PIL import Image

    from huref.portraits import PictureOptions, draw

    prints = [fingerprints] if isinstance(fingerprints, Fingerprint) else list(fingerprints)
    return Image.fromarray(draw(prints, options or PictureOptions()))


def save_picture(
    fingerprints: Sequence[Fingerprint], path: Path, options: PictureOptions | None = None, style: str = "png"
) -> None:
    """Draw fingerprints into a PNG file, or one into an SVG badge; both carry the fingerprints' metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    from huref import portraits

    portraits.save(fingerprints, options or portraits.PictureOptions(), path, style)


def write(fingerprint: Fingerprint, out: Path) -> tuple[Path, Path]:
    """Write `NAME.huref.safetensors` and `NAME.png` with the same metadata into a folder.

    Raises:
        OutputError: the folder cannot be written; nothing is left half-written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "cannot make the output folder",
            where=str(out),
            got=error.strerror or str(error),
            next_step="--out DIR",
        ) from None
    file, picture = out / f"{fingerprint.model}{SUFFIX}", out / f"{fingerprint.model}.png"
    save_picture([fingerprint], picture)
    save_fingerprint(fingerprint, file)
    return file, picture


def _prints(
    models: tuple[str | Path, str | Path], options: CompareOptions, report: Report | None, *, is_drawn: bool
) -> list[Fingerprint | str]:
    """Of each model the fingerprint to draw, or why there is none; saved ones are only loaded."""
    saved = [load_fingerprint(model) if is_fingerprint(model) else None for model in models]
    usual = Recipe(layers=options.layers, n_tokens=options.n_tokens)
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
