"""Private weights: commit, prove, verify, compare. Nothing here shows a weight.

    commit(model, folder)                               a public commitment, a secret opening
    prove_fingerprint, prove_compare, prove_inference   zero-knowledge proofs about committed weights
    prove_rows                                          opened rows, for an auditor who picks them afterwards
    publish(folder, model)             -> Publication   what may be shown, in one folder
    verify(proof, commitment)          -> Verification  anyone's side; verify_published(folder) of a whole folder
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
    from huref.private.publication import Publication, PublishOptions, publish
    from huref.private.publication_check import verify_published
    from huref.private.verification import Published, verify
    from huref.proof.inference.answers import Prompt
    from huref.proof.sketch.committer import CommitOptions

__all__ = [
    "CommitOptions",
    "PrivateComparison",
    "Prompt",
    "Publication",
    "PublishOptions",
    "Published",
    "Verification",
    "commit",
    "compare_private",
    "prove_compare",
    "prove_fingerprint",
    "prove_inference",
    "prove_rows",
    "publish",
    "verify",
    "verify_published",
]

_HOMES = {
    "CommitOptions": "huref.proof.sketch.committer",
    "PrivateComparison": "huref.private.comparison",
    "Prompt": "huref.proof.inference.answers",
    "Publication": "huref.private.publication",
    "PublishOptions": "huref.private.publication",
    "Published": "huref.private.verification",
    "Verification": "huref.private.answers",
    "commit": "huref.private.owner",
    "compare_private": "huref.private.comparison",
    "prove_compare": "huref.private.owner",
    "prove_fingerprint": "huref.private.owner",
    "prove_inference": "huref.private.owner",
    "prove_rows": "huref.private.owner",
    "publish": "huref.private.publication",
    "verify": "huref.private.verification",
    "verify_published": "huref.private.publication_check",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
