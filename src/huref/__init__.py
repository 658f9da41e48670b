"""huref: which base model does a language model descend from? Read it from the weights.

    import huref

    a = huref.fingerprint("./my-model")          # a Fingerprint: 512 numbers, sketches, how it was made
    huref.save_fingerprint(a, "my-model.huref.safetensors")
    picture = huref.render(a)                    # a PIL image: the dog that belongs to the numbers

    found = huref.compare("./my-model", "./other")   # a Comparison: PCS, ICS, terms, verdict, notes
    table = huref.matrix(["./a", "./b", "./c"])      # all pairs
    story = huref.explain("./my-model", "./other")   # an Explanation: what was done to one to make the other

Every function takes a model reference: a directory, a weight file, or a saved fingerprint. Everything that can
go wrong is a `HurefError`. Importing this package loads neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face
from huref.version import __version__

if TYPE_CHECKING:
    from huref.errors import HurefError
    from huref.explanation.recovering import explain
    from huref.fingerprints.file import load_fingerprint, save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.references import fingerprint
    from huref.kinship.all_pairs import matrix
    from huref.kinship.record import CompareOptions, Comparison
    from huref.kinship.references import compare
    from huref.model.token_ranking import rank_tokens
    from huref.parentage.search import parents
    from huref.portraits.files import render

__all__ = [
    "CompareOptions",
    "Comparison",
    "Fingerprint",
    "HurefError",
    "Recipe",
    "__version__",
    "compare",
    "explain",
    "fingerprint",
    "load_fingerprint",
    "matrix",
    "parents",
    "rank_tokens",
    "render",
    "save_fingerprint",
]

_HOMES = {
    "CompareOptions": "huref.kinship.record",
    "Comparison": "huref.kinship.record",
    "Fingerprint": "huref.fingerprints.record",
    "HurefError": "huref.errors",
    "Recipe": "huref.fingerprints.recipe",
    "compare": "huref.kinship.references",
    "explain": "huref.explanation.recovering",
    "fingerprint": "huref.fingerprints.references",
    "load_fingerprint": "huref.fingerprints.file",
    "matrix": "huref.kinship.all_pairs",
    "parents": "huref.parentage.search",
    "rank_tokens": "huref.model.token_ranking",
    "render": "huref.portraits.files",
    "save_fingerprint": "huref.fingerprints.file",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, _ = face(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
