"""Parents of a model among candidates: weights of merges by least squares in task-vector space.

    parents(child, candidates)         -> Parentage     whom it was made from, with which weights

`members` opens and lines up, `inner_products` reads everything once, `fits`, `explanations` and `sparse` fit,
`judgement` decides, `rearranged` undoes what was done to the child besides, `search` joins them and `record` has the
answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.parentage.record import Candidate, LayerFit, Parentage, SeenThrough
    from huref.parentage.search import parents

__all__ = [
    "Candidate",
    "LayerFit",
    "Parentage",
    "SeenThrough",
    "parents",
]

_HOMES = {
    "Candidate": "huref.parentage.record",
    "LayerFit": "huref.parentage.record",
    "Parentage": "huref.parentage.record",
    "SeenThrough": "huref.parentage.record",
    "parents": "huref.parentage.search",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
