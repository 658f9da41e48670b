"""The front door: one function a command, each at home in the room that does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.explanation.checking import check_evidence
    from huref.explanation.recovering import explain
    from huref.fingerprints.references import fingerprint
    from huref.kinship.matrix import matrix
    from huref.kinship.references import compare
    from huref.model.token_ranking import rank_tokens
    from huref.parentage.search import parents
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

_HOMES = {
    "check_evidence": "huref.explanation.checking",
    "commit": "huref.private",
    "compare": "huref.kinship.references",
    "compare_private": "huref.private",
    "explain": "huref.explanation.recovering",
    "fingerprint": "huref.fingerprints.references",
    "matrix": "huref.kinship.matrix",
    "parents": "huref.parentage.search",
    "prove_compare": "huref.private",
    "prove_fingerprint": "huref.private",
    "prove_inference": "huref.private",
    "prove_rows": "huref.private",
    "rank_tokens": "huref.model.token_ranking",
    "render": "huref.portraits.files",
    "save_picture": "huref.portraits.files",
    "save_reports": "huref.report.files",
    "verify": "huref.private",
    "write": "huref.portraits.files",
}

__getattr__, __dir__ = face(__name__, _HOMES)
