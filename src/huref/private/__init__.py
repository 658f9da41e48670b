"""Private weights: commit, prove, verify, compare. Nothing here shows a weight.

    commit(model, folder)                               a public commitment, a secret opening
    prove_fingerprint, prove_compare, prove_inference   zero-knowledge proofs about committed weights
    prove_rows                                          opened rows, for an auditor who picks them afterwards
    verify(proof, commitment)          -> Verification  anyone's side
    compare_private(sealed, theirs)    -> PrivateComparison

What each shows, and to whom: docs/explanation/proofs.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.private.answers import Verification
    from huref.private.comparison import PrivateComparison, compare_private
    from huref.private.owner import commit, prove_compare, prove_fingerprint, prove_inference, prove_rows
    from huref.private.verification import Published, verify
    from huref.proof.inference.answers import Prompt
    from huref.proof.sketch.committer import CommitOptions

__all__ = [
    "CommitOptions",
    "PrivateComparison",
    "Prompt",
    "Published",
    "Verification",
    "commit",
    "compare_private",
    "prove_compare",
    "prove_fingerprint",
    "prove_inference",
    "prove_rows",
    "verify",
]

_HOMES = {
    "CommitOptions": "huref.proof.sketch.committer",
    "PrivateComparison": "huref.private.comparison",
    "Prompt": "huref.proof.inference.answers",
    "Published": "huref.private.verification",
    "Verification": "huref.private.answers",
    "commit": "huref.private.owner",
    "compare_private": "huref.private.comparison",
    "prove_compare": "huref.private.owner",
    "prove_fingerprint": "huref.private.owner",
    "prove_inference": "huref.private.owner",
    "prove_rows": "huref.private.owner",
    "verify": "huref.private.verification",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
