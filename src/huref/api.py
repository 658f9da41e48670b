"""The front door: what the command line, the web and other programs call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.explanation import Checked, CheckOptions, ExplainOptions, Explanation
    from huref.fingerprints.references import fingerprint
    from huref.kinship.matrix import matrix
    from huref.kinship.references import compare
    from huref.merges.parentage import Parentage
    from huref.model.token_ranking import rank_tokens
    from huref.portraits.files import render, save_picture, write
    from huref.private import (
        commit,
        compare_private,
        prove_compare,
        prove_fingerprint,
        prove_inference,
        prove_rows,
        verify,
    )
    from huref.progress import Report
    from huref.report.files import save_reports

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
        "render": "huref.portraits.files",
        "save_picture": "huref.portraits.files",
        "save_reports": "huref.report.files",
        "write": "huref.portraits.files",
        "commit": "huref.private",
        "compare_private": "huref.private",
        "prove_compare": "huref.private",
        "prove_fingerprint": "huref.private",
        "prove_inference": "huref.private",
        "prove_rows": "huref.private",
        "verify": "huref.private",
    },
)


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
