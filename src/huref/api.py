"""The front door: one function a command, each at home in the room that does its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.attacks.doctor import examine
    from huref.attacks.execution import attack
    from huref.demo.demonstration import run_demo
    from huref.explanation.checking import check_evidence
    from huref.explanation.recovering import explain
    from huref.explanation.writing import save_undone
    from huref.fingerprints.encoder.conversion import convert_encoder
    from huref.fingerprints.examination import doctor
    from huref.fingerprints.references import fingerprint
    from huref.kinship.all_pairs import matrix
    from huref.kinship.differences import diff
    from huref.kinship.ranking import rank
    from huref.kinship.references import compare
    from huref.model.token_ranking import rank_tokens
    from huref.parentage.search import parents
    from huref.portraits.files import render, save_picture, write
    from huref.portraits.generator.conversion import convert_generator
    from huref.private.comparison import compare_private
    from huref.private.owner import commit, prove_compare, prove_fingerprint, prove_inference, prove_rows
    from huref.private.publication import publish
    from huref.private.publication_check import verify_published
    from huref.private.verification import verify
    from huref.report.files import save_ranking, save_reports

__all__ = [
    "attack",
    "check_evidence",
    "commit",
    "compare",
    "compare_private",
    "convert_encoder",
    "convert_generator",
    "diff",
    "doctor",
    "examine",
    "explain",
    "fingerprint",
    "matrix",
    "parents",
    "prove_compare",
    "prove_fingerprint",
    "prove_inference",
    "prove_rows",
    "publish",
    "rank",
    "rank_tokens",
    "render",
    "run_demo",
    "save_picture",
    "save_ranking",
    "save_reports",
    "save_undone",
    "verify",
    "verify_published",
    "write",
]

_HOMES = {
    "attack": "huref.attacks.execution",
    "check_evidence": "huref.explanation.checking",
    "commit": "huref.private.owner",
    "compare": "huref.kinship.references",
    "compare_private": "huref.private.comparison",
    "convert_encoder": "huref.fingerprints.encoder.conversion",
    "convert_generator": "huref.portraits.generator.conversion",
    "diff": "huref.kinship.differences",
    "doctor": "huref.fingerprints.examination",
    "examine": "huref.attacks.doctor",
    "explain": "huref.explanation.recovering",
    "fingerprint": "huref.fingerprints.references",
    "matrix": "huref.kinship.all_pairs",
    "parents": "huref.parentage.search",
    "prove_compare": "huref.private.owner",
    "prove_fingerprint": "huref.private.owner",
    "prove_inference": "huref.private.owner",
    "prove_rows": "huref.private.owner",
    "publish": "huref.private.publication",
    "rank": "huref.kinship.ranking",
    "rank_tokens": "huref.model.token_ranking",
    "render": "huref.portraits.files",
    "run_demo": "huref.demo.demonstration",
    "save_picture": "huref.portraits.files",
    "save_ranking": "huref.report.files",
    "save_reports": "huref.report.files",
    "save_undone": "huref.explanation.writing",
    "verify": "huref.private.verification",
    "verify_published": "huref.private.publication_check",
    "write": "huref.portraits.files",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
