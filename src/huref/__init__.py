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

import importlib
from typing import TYPE_CHECKING, Any

from huref.version import __version__

if TYPE_CHECKING:
    from huref.errors import HurefError
    from huref.explanation.recovering import explain
    from huref.fingerprints.file import load_fingerprint, save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.references import fingerprint
    from huref.kinship.matrix import matrix
    from huref.kinship.record import Comparison
    from huref.kinship.references import compare
    from huref.model.token_ranking import rank_tokens
    from huref.portraits.files import render

_HOMES = {
    "Comparison": "kinship.record",
    "Fingerprint": "fingerprints.record",
    "HurefError": "errors",
    "Recipe": "fingerprints.recipe",
    "compare": "kinship.references",
    "explain": "explanation.recovering",
    "fingerprint": "fingerprints.references",
    "load_fingerprint": "fingerprints.file",
    "matrix": "kinship.matrix",
    "rank_tokens": "model.token_ranking",
    "render": "portraits.files",
    "save_fingerprint": "fingerprints.file",
}

__all__ = [
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
    "rank_tokens",
    "render",
    "save_fingerprint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'huref' has no attribute {name!r}")
    return getattr(importlib.import_module(f"huref.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
