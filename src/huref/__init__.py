"""huref: which base model does a language model descend from? Read it from the weights.

    import huref

    a = huref.fingerprint("./my-model", codes=True)      # a Fingerprint: 512 numbers, sketches, how it was made
    huref.save_fingerprint(a, "my-model.huref.safetensors")
    picture = huref.render(a)                    # a PIL image: the dog that belongs to the numbers

    found = huref.compare("./my-model", "./other")       # a Comparison: PCS, ICS, terms, verdict, notes
    quick = huref.compare("./my-model", "./other", method="agreement", n_tokens=1024)
    print(found.verdict)                         # print(found) says all that the command line does
    table = huref.matrix([a, "./other", "./c"])          # a Matrix: all pairs; table.to_csv(), table.to_frame()
    story = huref.explain("./my-model", "./other")       # an Explanation: what was done to one to make the other
    changed = huref.diff("./my-model", "./other")        # Differences: what changed, tensor by tensor
    family = huref.parents("./my-model", ["./other", "./c"])     # a Parentage: whom a merge was made of

Wherever a model is asked for, a text or a Path will do: a folder, a weight file, the file of a fingerprint, a name on
a hub (`org/name`) or an address; and where no weights are needed, a Fingerprint in memory. Options are keywords, or
one object (`CompareOptions`, `Recipe`, ...). Everything that can go wrong is a `HurefError`. Importing this package
loads neither torch nor numpy. More: docs/how-to/python.md; every name: docs/reference/python.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face
from huref.version import __version__

if TYPE_CHECKING:
    from huref.attacks.execution import AttackOptions, AttackResult, attack
    from huref.errors import HurefError
    from huref.explanation.checking import check_evidence
    from huref.explanation.options import CheckOptions, ExplainOptions
    from huref.explanation.recovering import explain
    from huref.explanation.transform import Checked, Explanation
    from huref.files.cache import Cache
    from huref.fingerprints.examination import Examination, doctor
    from huref.fingerprints.file import load_fingerprint, save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.references import fingerprint
    from huref.kinship.all_pairs import matrix
    from huref.kinship.differences import Differences, TensorDifference, diff
    from huref.kinship.ranking import Ranked, Ranking, rank
    from huref.kinship.record import CompareOptions, Comparison, Matrix
    from huref.kinship.references import compare
    from huref.model.source.remote.mirror import download
    from huref.model.token_ranking import rank_tokens
    from huref.parentage.record import Parentage
    from huref.parentage.search import parents
    from huref.portraits.drawing import PictureOptions
    from huref.portraits.files import render, save_picture
    from huref.private.answers import Verification
    from huref.private.owner import commit, prove_compare, prove_fingerprint, prove_inference, prove_rows
    from huref.private.verification import Published, verify
    from huref.progress import Progress
    from huref.proof.inference.answers import Prompt
    from huref.proof.sketch.committer import CommitOptions
    from huref.report.files import save_reports
    from huref.report.options import ReportOptions

__all__ = [
    "AttackOptions",
    "AttackResult",
    "Cache",
    "CheckOptions",
    "Checked",
    "CommitOptions",
    "CompareOptions",
    "Comparison",
    "Differences",
    "Examination",
    "ExplainOptions",
    "Explanation",
    "Fingerprint",
    "HurefError",
    "Matrix",
    "Parentage",
    "PictureOptions",
    "Progress",
    "Prompt",
    "Published",
    "Ranked",
    "Ranking",
    "Recipe",
    "ReportOptions",
    "TensorDifference",
    "Verification",
    "__version__",
    "attack",
    "check_evidence",
    "commit",
    "compare",
    "diff",
    "doctor",
    "download",
    "explain",
    "fingerprint",
    "load_fingerprint",
    "matrix",
    "parents",
    "prove_compare",
    "prove_fingerprint",
    "prove_inference",
    "prove_rows",
    "rank",
    "rank_tokens",
    "render",
    "save_fingerprint",
    "save_picture",
    "save_reports",
    "verify",
]

_HOMES = {
    "AttackOptions": "huref.attacks.execution",
    "AttackResult": "huref.attacks.execution",
    "Cache": "huref.files.cache",
    "CheckOptions": "huref.explanation.options",
    "Checked": "huref.explanation.transform",
    "CommitOptions": "huref.proof.sketch.committer",
    "CompareOptions": "huref.kinship.record",
    "Comparison": "huref.kinship.record",
    "Differences": "huref.kinship.differences",
    "Examination": "huref.fingerprints.examination",
    "ExplainOptions": "huref.explanation.options",
    "Explanation": "huref.explanation.transform",
    "Fingerprint": "huref.fingerprints.record",
    "HurefError": "huref.errors",
    "Matrix": "huref.kinship.record",
    "Parentage": "huref.parentage.record",
    "PictureOptions": "huref.portraits.drawing",
    "Progress": "huref.progress",
    "Prompt": "huref.proof.inference.answers",
    "Published": "huref.private.verification",
    "Ranked": "huref.kinship.ranking",
    "Ranking": "huref.kinship.ranking",
    "Recipe": "huref.fingerprints.recipe",
    "ReportOptions": "huref.report.options",
    "TensorDifference": "huref.kinship.differences",
    "Verification": "huref.private.answers",
    "attack": "huref.attacks.execution",
    "check_evidence": "huref.explanation.checking",
    "commit": "huref.private.owner",
    "compare": "huref.kinship.references",
    "diff": "huref.kinship.differences",
    "doctor": "huref.fingerprints.examination",
    "download": "huref.model.source.remote.mirror",
    "explain": "huref.explanation.recovering",
    "fingerprint": "huref.fingerprints.references",
    "load_fingerprint": "huref.fingerprints.file",
    "matrix": "huref.kinship.all_pairs",
    "parents": "huref.parentage.search",
    "prove_compare": "huref.private.owner",
    "prove_fingerprint": "huref.private.owner",
    "prove_inference": "huref.private.owner",
    "prove_rows": "huref.private.owner",
    "rank": "huref.kinship.ranking",
    "rank_tokens": "huref.model.token_ranking",
    "render": "huref.portraits.files",
    "save_fingerprint": "huref.fingerprints.file",
    "save_picture": "huref.portraits.files",
    "save_reports": "huref.report.files",
    "verify": "huref.private.verification",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, _ = face(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
